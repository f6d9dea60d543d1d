"""Every text that is drawn: unknown concepts refused, missed words said, encodings."""

import os

import pytest

from personax import edit, sample
from personax.cli.sheet_flags import _read_prompts
from personax.concepts.bind import from_base, with_concepts
from personax.methods import Concept
from personax.sampling import concept_words
from personax.sampling.prompt_terms import TermSpec, check
from personax.sampling.sheets import SheetOptions, _filled
from tests.in_process import make_call
from tests.refusing import refused
from tests.small_models import write_concept, write_smaller
from tests.untrained import save_untrained

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def model(emoji, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "concept"
    dog = Concept("<v1>", "dog", (5,), (5,), "<v1> dog")
    save_untrained(folder, emoji, dog, "lora")
    return with_concepts(from_base(emoji), emoji, [str(folder)])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--negative=<v7> dog"],
        ["--term=-1:<v7> dog"],
        ["--prompts={file}"],
        ["--unconditional=base", "--negative=a <lora:x:1>"],
    ],
)
def test_sample_refuses_an_unknown_concept_anywhere(
    arguments, tmp_path, monkeypatch, capsys
):
    base = write_smaller(tmp_path / "base", smallest=True)
    (tmp_path / "prompts.txt").write_text("a dog\na <v7> dog\n")
    given = [each.format(file=tmp_path / "prompts.txt") for each in arguments]
    run = make_call(sample, monkeypatch)
    line = refused(capsys, run, f"--base={base}", f"--out={tmp_path / 'out'}", *given)
    assert "Unknown concept <" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--prompt=a <v7>", "--edit=a <v7>"])
def test_edit_refuses_an_unknown_concept_anywhere(flag, tmp_path, monkeypatch, capsys):
    base = write_smaller(tmp_path / "base", smallest=True)
    run = make_call(edit, monkeypatch)
    other = "--edit=a dog" if "prompt" in flag else "--prompt=a dog"
    line = refused(
        capsys, run, f"--base={base}", f"--out={tmp_path / 'out'}", flag, other
    )
    assert "Unknown concept <v7>" in line


def test_a_concept_that_was_given_is_named(tmp_path):
    from personax.loading import load_base

    base = load_base(write_smaller(tmp_path / "base", smallest=True))
    concept = write_concept(tmp_path / "face", tmp_path / "base")
    bound = with_concepts(from_base(base), base, [str(concept)])
    with pytest.raises(ValueError, match=r"Unknown concept <v1>.*expected face"):
        check({"base": bound}, [TermSpec("a <v1>", 1.0)])


def test_a_prompt_that_is_no_unicode_is_refused(model):
    with pytest.raises(ValueError, match="not valid Unicode"):
        check({"base": model}, [TermSpec("a \udcff dog", 1.0)])


def test_a_missed_word_is_said_once(model, capsys):
    models = {"base": model, "other": model}
    concept_words.remark(models, {"base": ["a dog", "a <V1> dog"], "other": [""]})
    assert not capsys.readouterr().err
    concept_words.remark(models, {"base": ["a dog", "a cat"]})
    (line,) = capsys.readouterr().err.splitlines()
    assert "No prompt has '<v1>'" in line


def test_braces_become_the_only_concept_and_it_is_said(model, emoji, capsys):
    options = SheetOptions(prompts=("a {}",), rows=("{} at night", "a cat"))
    done = _filled(model, options)
    assert done.prompts == ("a <v1> dog",)
    assert done.rows == ("<v1> dog at night", "a cat")
    assert "stands for '<v1> dog'" in capsys.readouterr().err
    assert _filled(from_base(emoji), options) == options
    assert "is drawn with its {}" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_prompts_of_any_editor_are_read(encoding, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("# comment\r\na dög\r\n\r\na cat\r\n".encode(encoding))
    assert _read_prompts(str(path)) == ("a dög", "a cat")


def test_a_pipe_and_many_names_have_short_messages(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a device or a pipe"):
        _read_prompts(str(tmp_path / "pipe"))
    for number in range(100):
        (tmp_path / f"{number:03}.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"000\.txt.*019\.txt …"):
        _read_prompts(str(tmp_path / "prompts.txt"))
