"""Textual Inversion files: what the word is called, and what is refused."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from personax.concepts import formats
from personax.core.tree import flat
from personax.methods.parts.tokens import TABLE
from personax.networks.tokenizer import concept_mask, ids_of, positions, text_of
from tests.concepts.formats.binding import bind, refusal, save_on_top

pytestmark = pytest.mark.quick

WIDTH = 16


def rows(count, width=WIDTH):
    return np.arange(count * width, dtype="f4").reshape(count, width)


def write(path, tensors):
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path)
    return path


def table_of(model):
    return np.asarray(flat(model.denoiser.params)[TABLE])


def test_both_names_are_one_word(base, tmp_path, capsys):
    path = write(tmp_path / "my-toy.safetensors", {"<cat-toy>": rows(2)})
    model = bind(base, path)
    size = base.tokenizer.size
    for name in ("<cat-toy>", "my-toy", "My-Toy"):
        assert ids_of(model.tokenizer, name) == (size, size + 1)
    np.testing.assert_array_equal(table_of(model)[size:], rows(2))
    prompts = ["a my-toy dog"]
    assert text_of(model.tokenizer, ids_of(model.tokenizer, *prompts)) == (
        "a <cat-toy> dog"
    )
    assert positions(model.tokenizer, *prompts, "<cat-toy>") == (2, 3)
    mask = concept_mask(model.tokenizer, prompts, [model.concepts[0].handle])
    assert mask.sum() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"personax: {path} is a Textual Inversion embedding in diffusers' layout: 1 "
        "tensor applied to the word '<cat-toy>' (2 vectors); 'my-toy' in a prompt "
        "means '<cat-toy>' as well."
    )


def test_the_file_of_a_web_ui_names_the_word(base, tmp_path, capsys):
    path = write(tmp_path / "easy-negative.safetensors", {"emb_params": rows(1)})
    model = bind(base, path)
    assert model.concepts[0].placeholder == "easy-negative"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("the word 'easy-negative' (1 vector).")


def test_a_file_name_that_is_a_word_keeps_its_meaning(base, tmp_path, capsys):
    path = write(tmp_path / "dog.safetensors", {"<cat-toy>": rows(1)})
    model = bind(base, path)
    assert ids_of(model.tokenizer, "dog") == ids_of(base.tokenizer, "dog")
    assert "as well" not in capsys.readouterr().err


def test_a_word_of_the_vocabulary_needs_another_name(base, tmp_path):
    path = write(tmp_path / "dog.safetensors", {"emb_params": rows(1)})
    line = refusal(base, path)
    assert "'dog' is a word of the vocabulary" in line
    assert f"--concept '<v2>={path}'" in line
    model = bind(base, f"<v2>={path}")
    assert ids_of(model.tokenizer, "<v2>") == (base.tokenizer.size,)


def test_a_word_of_another_concept_needs_another_name(base, tmp_path, capsys):
    first = write(tmp_path / "a" / "toy-one.safetensors", {"<v1>": rows(1)})
    second = write(tmp_path / "b" / "toy-two.safetensors", {"<v1>": 2 * rows(1)})
    line = refusal(base, first, second)
    assert "'<v1>' exists" in line
    assert f"--concept '<v2>={second}'" in line
    capsys.readouterr()
    model = bind(base, first, f"<v2>={second}")
    assert "the word '<v2>' (1 vector)" in capsys.readouterr().err
    size = base.tokenizer.size
    assert ids_of(model.tokenizer, "<v1> <v2>") == (size, size + 1)
    np.testing.assert_array_equal(table_of(model)[size + 1 :], 2 * rows(1))
    # A renamed word has the new name alone.
    assert ids_of(model.tokenizer, "toy-two") == ids_of(base.tokenizer, "toy-two")


def test_a_word_after_one_of_two_names_gets_its_own_rows(base, tmp_path):
    first = write(tmp_path / "toy-one.safetensors", {"<one>": rows(2)})
    second = write(tmp_path / "toy-two.safetensors", {"<two>": rows(1)})
    model = bind(base, first, second)
    size = base.tokenizer.size
    assert ids_of(model.tokenizer, "toy-two <one>") == (size + 2, size, size + 1)


def test_several_words_in_one_file(base, tmp_path):
    """diffusers writes one; other programs write more."""
    path = write(tmp_path / "both.safetensors", {"<a>": rows(2), "<b>": -rows(1)})
    model = bind(base, path)
    size = base.tokenizer.size
    for word, want in (("<a>", rows(2)), ("<b>", -rows(1))):
        ids = np.array(ids_of(model.tokenizer, word))
        np.testing.assert_array_equal(table_of(model)[ids], want)
    assert len(table_of(model)) == size + 3


def test_a_folder_of_learned_embeds(base, tmp_path):
    write(tmp_path / "toy" / "learned_embeds.safetensors", {"<toy>": rows(1)})
    model = bind(base, tmp_path / "toy")
    assert ids_of(model.tokenizer, "<toy>") == (base.tokenizer.size,)
    plain = ids_of(base.tokenizer, "learned_embeds")
    assert ids_of(model.tokenizer, "learned_embeds") == plain


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"emb_params": rows(1, 1024)},
            "looks like a Textual Inversion embedding in A1111's layout: its vectors "
            "have 1024 numbers, as those of Stable Diffusion 2.x do; this base's have",
        ),
        (
            {"clip_l": rows(1, 768), "clip_g": rows(1, 1280)},
            "looks like an embedding of Stable Diffusion XL: it has rows for two",
        ),
        ({"emb_params": np.zeros((1, 2, 16), "f4")}, "has shape (1, 2, 16); expected"),
        ({"emb_params": np.full((1, 16), np.nan, "f4")}, "has NaN or infinite values"),
        ({"emb_params": np.zeros((0, 16), "f4")}, "has shape (0, 16); expected"),
        ({"a.b.delta": rows(1)[0]}, "is of no known format"),
        ({"steps": np.arange(3)}, "is of no known format"),
    ],
)
def test_what_is_no_word_of_this_base(base, tmp_path, tensors, message):
    path = write(tmp_path / "toy.safetensors", tensors)
    line = refusal(base, path)
    assert str(path) in line
    assert message in line


def test_a_word_alone_has_no_strength(base, tmp_path):
    path = write(tmp_path / "toy.safetensors", {"<toy>": rows(1)})
    assert "a word alone" in refusal(base, f"{path}@0.5")


def test_a_concept_that_was_trained_on_top_keeps_its_word(base, tmp_path):
    path = write(tmp_path / "a" / "toy-one.safetensors", {"<toy>": rows(2)})
    save_on_top(tmp_path / "concept", base, path)
    path.unlink()
    model = bind(base, tmp_path / "concept")
    assert ids_of(model.tokenizer, "toy-one") == ids_of(model.tokenizer, "<toy>")
    assert formats.find(tmp_path / "concept") is None
