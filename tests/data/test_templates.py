"""Prompts: the papers' sets, files, and prompts that lost the concept."""

import pytest

from personax.data.templates import TEMPLATES, fill

pytestmark = pytest.mark.quick


def test_the_sets_are_the_papers():
    counts = {name: len(prompts) for name, prompts in TEMPLATES.items()}
    assert counts == {
        "object": 27,
        "style": 19,
        "photo": 1,
        "painting": 1,
        "infusion": 11,
    }
    assert len(set(TEMPLATES["object"])) == 27


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_prompt_of_a_set_takes_the_phrase_once(name):
    filled = fill(name, "<v1> dog")
    assert len(filled) == len(TEMPLATES[name])
    assert all(prompt.count("<v1> dog") == 1 for prompt in filled)
    assert not any("{}" in prompt for prompt in filled)


def test_a_prompt_is_filled_or_holds_the_phrase_already():
    assert fill("a {} next to {}", "<v1> cup") == ("a <v1> cup next to <v1> cup",)
    assert fill("A Photo of <V1> Dog!", "<v1> dog") == ("A Photo of <V1> Dog!",)
    assert fill("{}", "dog") == ("dog",)


def test_a_file_holds_a_prompt_per_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(
        "\ufeff{} in the snow\n\n  a photo of <v1> dog \n", encoding="utf-8"
    )
    assert fill(str(file), "<v1> dog") == (
        "<v1> dog in the snow",
        "a photo of <v1> dog",
    )


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a photo of a dog", "<v1> dog"),
        ("a photo of <v1> dogs", "<v1> dog"),
        ("take that", "hat"),
        ("two {}s", "dog"),
        ("a photo of {0}", "dog"),
    ],
)
def test_a_prompt_without_the_phrase_is_refused(prompt, phrase):
    with pytest.raises(ValueError, match=f"does not hold the phrase '{phrase}'"):
        fill(prompt, phrase)


def test_the_prompt_of_a_file_that_lacks_the_phrase_is_named(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a {}\na photo of a dog\n")
    with pytest.raises(ValueError, match="The prompt 'a photo of a dog' does not hold"):
        fill(str(file), "<v1> dog")


def test_a_mistyped_set_names_those_that_exist():
    with pytest.raises(ValueError, match="object, style, photo, painting, infusion"):
        fill("objects", "<v1> dog")


def test_files_without_prompts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.txt"):
        fill(str(tmp_path / "missing.txt"), "dog")
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"blank\.txt holds no prompt"):
        fill(str(tmp_path / "blank.txt"), "dog")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        fill(str(tmp_path / "picture.txt"), "dog")
