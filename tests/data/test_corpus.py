"""Captions for a corpus: of the world, or of a file."""

import pytest

from configs import emoji_perfusion
from personax.data.corpus import read_corpus
from personax.training import setup

pytestmark = pytest.mark.quick


def test_the_worlds_captions_are_the_seeds():
    captions = read_corpus("world:20")
    assert len(captions) == 20
    assert len(set(captions)) > 15
    assert read_corpus("world:5") == captions[:5]
    assert read_corpus("world:20", seed=1) != captions


def test_a_files_lines_are_its_captions(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("a dog\n\n  a cat \n")
    assert read_corpus(str(path)) == ["a dog", "a cat"]


@pytest.mark.parametrize("source", ["laion", "world:many", "world:"])
def test_another_corpus_is_refused(source):
    with pytest.raises(ValueError, match=f"Unknown corpus '{source}'; expected world"):
        read_corpus(source)


def test_an_empty_corpus_is_refused(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("\n")
    for source in (str(path), "world:0"):
        with pytest.raises(ValueError, match="holds no caption"):
            read_corpus(source)
    with pytest.raises(FileNotFoundError):
        read_corpus("nowhere.txt")


def test_a_method_that_needs_a_corpus_is_refused_without_one():
    config = emoji_perfusion.get_config()
    config.corpus = ""
    with pytest.raises(ValueError, match="perfusion needs a corpus of captions: --con"):
        setup.prepare(config)
