"""What a run streams from is checked before anything is computed."""

import dataclasses

import jax
import pytest

from personax.data.latents import Latents
from personax.training.sharding import make_mesh
from personax.training.stream_setup import Encoders, local_rows, open_material
from tests.data.test_latents import ABOUT, write

SETTINGS = {
    "source": "portraits:people:40",
    "data_dir": "",
    "split": "train",
    "captions": "prompt",
    "flip": False,
    "crop": "",
    "buckets": 0,
    "workers": 0,
    "hint": "",
}
ENCODERS = Encoders("emoji", vae="vae", text_encoder="text", factor=4)


def material(size=(32, 32), **changes):
    options = {"dropout": 0.0, "held_out": 0, "rows": 8, "seed": 0}
    options |= {key: changes.pop(key) for key in list(changes) if key in options}
    return open_material(
        {**SETTINGS, **changes},
        encoders=ENCODERS,
        size=size,
        mesh=make_mesh(),
        prompts=("a photo of a <v1> man", "a <v1> man"),
        **options,
    )


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ("prompt", {"a photo of a <v1> man", "a <v1> man"}),
        ("none", {""}),
    ],
)
def test_captions_are_the_concept_s_or_none(captions, said):
    found = material(captions=captions).stream
    assert {c for step in range(4) for c in found.step(step)["caption"]} == said


def test_captions_may_be_the_set_s_own():
    found = material(captions="own")
    numbers = found.stream.order.step(0)
    own = [found.pictures.picture(i).caption for i in numbers.tolist()]
    assert found.stream.step(0)["caption"] == own


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "no set 'people'"),
        ({"captions": "mine"}, "no captions 'mine'; there are: prompt, own, none"),
        ({"crop": "center"}, "no crop 'center'; there are centre, random, squash"),
        ({"buckets": 6}, "stream.buckets is 6; it must be a multiple of 4"),
        ({"buckets": 64}, "No bucket of 32x32 pixels"),
        ({"hint": "depth"}, "no hint 'depth'; there are: canny"),
        ({"workers": -1}, "stream.workers is -1"),
        ({"dropout": 1.5}, "caption_dropout is 1.5"),
        ({"held_out": 40}, "Of 40 pictures 40 cannot be held out"),
        ({"source": "folder:/nowhere"}, "no folder or zip of pictures /nowhere"),
        ({"source": "cache:/nowhere"}, r"/nowhere holds no cache\.json"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(changes, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        material(**changes)


CACHED = dataclasses.replace(ABOUT, sizes=((8, 8),), buckets=0)


def test_a_cache_of_this_autoencoder_and_size_is_accepted(tmp_path):
    write(tmp_path, CACHED)
    found = material((8, 8), source=f"cache:{tmp_path}", flip=True, captions="own")
    assert isinstance(found.pictures, Latents)
    assert found.text
    assert found.stream.step(0)["mean"].shape == (8, 2, 2, 2)
    assert not material((8, 8), source=f"cache:{tmp_path}").text


@pytest.mark.parametrize(
    ("about", "changes", "sentence"),
    [
        ({"vae": "other"}, {}, "holds latents of another autoencoder than emoji's"),
        ({}, {"hint": "canny"}, "holds latents and no pictures.*'canny'"),
        ({"crop": "squash"}, {"crop": "centre"}, "with crop squash.*asks for centre"),
        ({"flip": False}, {"flip": True}, "with flip False.*asks for True"),
        ({"sizes": ((16, 16),)}, {}, r"with size \[\(16, 16\)\].*for \[\(8, 8\)\]"),
        ({}, {"buckets": 4}, "with buckets 0.*asks for 4"),
        ({"captioned": False}, {"captions": "own"}, "have no captions of their own"),
    ],
)
def test_another_cache_is_refused(tmp_path, about, changes, sentence):
    write(tmp_path, dataclasses.replace(CACHED, **about))
    with pytest.raises(ValueError, match=sentence):
        material((8, 8), source=f"cache:{tmp_path}", **changes)


def test_text_of_another_encoder_is_not_used(tmp_path):
    write(tmp_path, dataclasses.replace(CACHED, text_encoder="other"))
    found = material((8, 8), source=f"cache:{tmp_path}", captions="own")
    assert not found.text
    assert "text" not in found.stream.step(0)


def test_its_digest_says_what_decides_the_steps():
    digests = [
        material(**changes).digest
        for changes in ({}, {"source": "portraits:people:41"}, {"held_out": 3})
    ]
    digests += [material((16, 16)).digest]
    assert len(set(digests)) == 4
    assert material().digest == digests[0]


def test_a_process_reads_the_rows_on_its_own_devices():
    assert local_rows(make_mesh(), 16) == range(16)
    assert local_rows(make_mesh(data=2, fsdp=4), 16) == range(16)

    class Half:
        """Of another process, whose devices come second."""

        def __init__(self, parts):
            self.parts = parts

        def addressable_devices_indices_map(self, shape):
            return dict(enumerate(self.parts))

    from personax.training import stream_setup as module

    def rows(*parts):
        spread = Half([(slice(*part),) for part in parts])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "over_batch", lambda mesh: spread)
            return local_rows(make_mesh(), 8)

    assert rows((4, 6), (6, 8)) == range(4, 8)
    with pytest.raises(ValueError, match="deals a process's devices out"):
        rows((0, 2), (4, 6))
    assert jax.process_count() == 1
