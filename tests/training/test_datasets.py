"""What a run streams from is checked before anything is computed."""

import dataclasses

import jax
import pytest

from personax.data.latents import Latents
from personax.data.stream import CaptionPolicy
from personax.training.config import StreamConfig, TrainConfig, ValidationConfig
from personax.training.datasets import Encoders, local_rows, open_stream
from personax.training.sharding import make_mesh
from tests.data.test_latents import ABOUT, write

ENCODERS = Encoders("emoji", vae="vae", text_encoder="text", factor=4)


def stream(size=(32, 32), held_out=0, dropout=0.0, **changes):
    config = TrainConfig(
        stream=StreamConfig(**{"source": "portraits:people:40", **changes}),
        validation=ValidationConfig(every=held_out or None, count=held_out),
        batch=8,
    )
    prompts = ("a photo of a <v1> man", "a <v1> man")
    policy = CaptionPolicy(prompts, dropout)
    return open_stream(config, ENCODERS, size, make_mesh(), policy)


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ("prompt", {"a photo of a <v1> man", "a <v1> man"}),
        ("none", {""}),
    ],
)
def test_captions_are_the_concept_s_or_none(captions, expected):
    rows = stream(captions=captions)
    assert {c for step in range(4) for c in rows.step(step)["caption"]} == expected


def test_captions_may_be_the_set_s_own():
    rows = stream(captions="own")
    numbers = rows.order.step(0)
    own = [rows.reader.pictures.picture(i).caption for i in numbers.tolist()]
    assert rows.step(0)["caption"] == own


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "Unknown picture set 'people'"),
        ({"buckets": 6}, "stream.buckets=6: expected a multiple of 4"),
        ({"buckets": 64}, "No bucket of 32x32 pixels"),
        ({"dropout": 1.5}, "caption_dropout is 1.5"),
        ({"held_out": 40}, "Cannot hold out 40 of 40 pictures"),
        ({"source": "folder:/nowhere"}, "no folder or zip of pictures /nowhere"),
        ({"source": "cache:/nowhere"}, r"/nowhere holds no cache\.json"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(changes, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        stream(**changes)


CACHED = dataclasses.replace(ABOUT, sizes=((8, 8),), buckets=0)


def test_a_cache_of_this_autoencoder_and_size_is_accepted(tmp_path):
    write(tmp_path, CACHED)
    dataset = stream((8, 8), source=f"cache:{tmp_path}", flip=True, captions="own")
    assert isinstance(dataset.reader.latents, Latents)
    assert dataset.has_text
    assert dataset.step(0)["mean"].shape == (8, 2, 2, 2)
    assert not stream((8, 8), source=f"cache:{tmp_path}").has_text


@pytest.mark.parametrize(
    ("about", "changes", "sentence"),
    [
        ({"vae": "other"}, {}, "holds latents of another autoencoder than emoji's"),
        ({}, {"hint": "canny"}, "holds latents, and the hint 'canny'"),
        ({"crop": "squash"}, {"crop": "centre"}, "with crop squash.*config has centre"),
        ({"flip": False}, {"flip": True}, "with flip False.*config has True"),
        ({"sizes": ((16, 16),)}, {}, r"with size \[\(16, 16\)\].*has \[\(8, 8\)\]"),
        ({}, {"buckets": 4}, "with buckets 0.*has 4"),
        ({"captioned": False}, {"captions": "own"}, "have no captions of their own"),
    ],
)
def test_another_cache_is_refused(tmp_path, about, changes, sentence):
    write(tmp_path, dataclasses.replace(CACHED, **about))
    with pytest.raises(ValueError, match=sentence):
        stream((8, 8), source=f"cache:{tmp_path}", **changes)


def test_text_of_another_encoder_is_not_used(tmp_path):
    write(tmp_path, dataclasses.replace(CACHED, text_encoder="other"))
    dataset = stream((8, 8), source=f"cache:{tmp_path}", captions="own")
    assert not dataset.has_text
    assert "text" not in dataset.step(0)


def test_its_digest_says_what_decides_the_steps():
    digests = [
        stream(**changes).digest
        for changes in ({}, {"source": "portraits:people:41"}, {"held_out": 3})
    ]
    digests += [stream((16, 16)).digest]
    assert len(set(digests)) == 4
    assert stream().digest == digests[0]


def test_a_process_reads_the_rows_on_its_own_devices():
    assert local_rows(make_mesh(), 16) == range(16)
    assert local_rows(make_mesh(data=2, fsdp=4), 16) == range(16)

    class Half:
        """Of another process, whose devices come second."""

        def __init__(self, parts):
            self.parts = parts

        def addressable_devices_indices_map(self, shape):
            return dict(enumerate(self.parts))

    from personax.training import datasets as module

    def rows(*parts):
        spread = Half([(slice(*part),) for part in parts])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "over_batch", lambda mesh: spread)
            return local_rows(make_mesh(), 8)

    assert rows((4, 6), (6, 8)) == range(4, 8)
    with pytest.raises(ValueError, match="not contiguous"):
        rows((0, 2), (4, 6))
    assert jax.process_count() == 1
