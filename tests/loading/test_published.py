"""Package data of single files: which configs a file has, and the tokenizer."""

import itertools
import re

import numpy as np
import pytest

from personax.core.tree import count
from personax.diffusion.spec import Spec
from personax.loading import published
from personax.loading.base import _CLASSES, _read_configs
from personax.loading.files import read_json
from personax.networks.clip_text import init_clip_text
from personax.networks.tokenizer import load_tokenizer, tokenize
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import init_vae
from tests.loading.make import shapes

CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
LAST = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def _file(width, channels=4, deviation=0.05, **more):
    signs = np.resize([1.0, -1.0], 320)
    return {
        CROSS: np.zeros((320, width), "f2"),
        CONV_IN: np.zeros((320, channels, 3, 3), "f2"),
        LAST: (deviation * signs).astype("f2"),
        **more,
    }


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (_file(768), "v1"),
        (_file(768, deviation=0.2), "v1"),  # the rule is for 2.x
        (_file(768, v_pred=np.zeros(0)), "v1"),  # the marker changes the schedule
        (_file(768, channels=9), "v1_inpaint"),
        (_file(1024), "v2_base"),
        (_file(1024, deviation=0.1), "v2"),
        (_file(1024, deviation=0.1, global_step=np.array(875000)), "v2_base"),
        (_file(1024, deviation=0.1, global_step=np.array([110000])), "v2"),
        (_file(1024, v_pred=np.zeros(0)), "v2"),
        (_file(1024, channels=9, deviation=0.2), "v2_inpaint"),
    ],
)
def test_the_kind_of_a_file_is_in_its_shapes_and_markers(stored, kind, tmp_path):
    assert published.kind_of(tmp_path / "x", stored) == kind
    assert kind in published.KINDS


@pytest.mark.parametrize(
    ("stored", "message"),
    [(_file(2048), "texts of width 2048: neither"), ({}, "has no model.diffusion")],
)
def test_another_kind_asks_for_a_config(stored, message, tmp_path):
    with pytest.raises(ValueError, match=f"{message}.*--base_config"):
        published.kind_of(tmp_path / "x.safetensors", stored)


# Numbers of parameters of the published files.
@pytest.mark.parametrize(
    ("kind", "part", "init", "numbers"),
    [
        ("v1", "unet", init_unet, 859_520_964),
        ("v1", "text_encoder", init_clip_text, 123_060_480),
        ("v1_inpaint", "unet", init_unet, 859_535_364),
        ("v2", "unet", init_unet, 865_910_724),
        ("v2_base", "vae", init_vae, 83_653_863),
        ("v2", "text_encoder", init_clip_text, 340_387_840),
        ("v2_inpaint", "unet", init_unet, 865_925_124),
    ],
)
def test_the_configs_are_those_of_the_published_models(kind, part, init, numbers):
    directory = published.directory(kind)
    config = _CLASSES[part][1].from_json(read_json(directory / part / "config.json"))
    assert count(shapes(part, config)) == numbers


def test_every_kind_is_read():
    for kind in published.KINDS:
        spec = Spec(**_read_configs(published.directory(kind))._asdict())
        assert spec.inpaints == kind.endswith("_inpaint")
    assert _read_configs(published.directory("v1")).unet == UNetConfig()


@pytest.fixture(scope="module", params=["v1", "v2"])
def tokenizer(request):
    return load_tokenizer(
        published.directory(request.param) / "tokenizer",
        size=49408,
        length=77,
        vocabulary=published.vocabulary(),
    )


def test_the_ids_are_the_published_ones(tokenizer):
    ids = tokenize(tokenizer, ["A photo of a  Cat"])[0].tolist()
    assert ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    # SD 1.x pads with the end of the text, SD 2.x with "!".
    assert set(ids[7:]) == {0 if "/v2/" in tokenizer.source else 49407}
    assert len(ids) == tokenizer.length == 77


STRINGS = [
    "",
    "   ",
    "a photo of a sks dog, 4k, trending on artstation!!!",
    "I'll say they've won; it's 1234567 o'clock",
    "naïve café — Zürich, Привет мир, 日本語のテキスト, مرحبا",
    "emoji 🐶🐱👩‍👩‍👧 and ½ ² symbols ©®™",
    "snake_case camelCase kebab-case 3.14159 C++ a/b\\c <tag> {x} [y] (z:1.2)",
    "pneumonoultramicroscopicsilicovolcanoconiosis supercalifragilistic",
    "tabs\tand\nlines\r\nand   spaces",
    "<|startoftext|> ends <|endoftext|>",
    "ÀÉÎÕÜ ǅ ß ﬁ Å",
    "don't DON'T won’t",
]


def test_the_encoding_is_that_of_byte_pair_merges(tokenizer):
    """An implementation of Sennrich et al. 2016 that reads merges.txt alone."""
    lines = (published.vocabulary() / "merges.txt").read_text("utf-8").splitlines()[1:]
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz  '-.,0129éß日🐶")
    random = ["".join(rng.choice(letters, 40)) for _ in range(200)]
    # The published tokenizer of SD 2.x takes each "!" for padding.
    special = ("<|", "!") if "/v2/" in tokenizer.source else ("<|",)
    texts = [t for t in [*STRINGS, *random] if not any(word in t for word in special)]
    assert len(texts) > 100
    encode = _reference([tuple(line.split()) for line in lines])
    for text in texts:
        ids = list(tokenizer.backend(text, add_special_tokens=False).input_ids)
        assert ids == encode(text), text


def _reference(merges):
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    letters = {b: chr(b) for b in visible}
    letters |= {b: chr(256 + n) for n, b in enumerate(hidden)}
    alphabet = [letters[b] for b in (*visible, *hidden)]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    ids = {word: i for i, word in enumerate([*words, *map("".join, merges)])}
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pattern = re.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE
    )

    def encode(text):
        found = []
        for piece in pattern.findall(re.sub(r"\s+", " ", text).lower()):
            word = [letters[b] for b in piece.encode()]
            word[-1] += "</w>"
            while True:
                pairs = [
                    (ranks.get(pair, 1e9), i)
                    for i, pair in enumerate(itertools.pairwise(word))
                ]
                rank, i = min(pairs, default=(1e9, 0))
                if rank == 1e9:
                    break
                word[i : i + 2] = [word[i] + word[i + 1]]
            found.extend(ids[part] for part in word)
        return found

    return encode
