"""What a run streams from is checked before anything is computed."""

import dataclasses

import jax
import numpy as np
import pytest

from personax.data.concepts import own_pictures
from personax.data.latents import Latents
from personax.data.stream import CaptionPolicy
from personax.methods import Concept
from personax.training.concept_text import ConceptSpec
from personax.training.config import StreamConfig, TrainConfig, ValidationConfig
from personax.training.datasets import Encoders, _examples, local_rows, open_stream
from personax.training.sharding import make_mesh
from tests.data.test_latents import ABOUT, write
from tests.data.test_tars import png
from tests.data.test_tars import write as write_tar

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
        ({"held_out": 40}, "Cannot hold out 40 of 40 pictures"),
        ({"source": "folder:/nowhere"}, "no folder or zip of pictures /nowhere"),
        ({"source": "cache:/nowhere"}, r"/nowhere holds no cache\.json"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(changes, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        stream(**changes)


def test_tars_are_streamed_like_a_folder_and_resume(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = {}
    for i in range(20):
        files |= {f"{i:02d}.png": png(i, (32, 32)), f"{i:02d}.txt": f"no {i}".encode()}
    names = sorted(files)
    for shard in range(2):
        part = {name: files[name] for name in names[20 * shard : 20 * (shard + 1)]}
        write_tar(tmp_path / f"{shard}.tar", part)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    tars = stream(source=f"wds:{tmp_path}/{{0..1}}.tar", captions="own")
    same = stream(source=f"folder:{folder}", captions="own")
    again = stream(source=f"wds:{tmp_path}", captions="own")
    steps = [tars.step(i) for i in range(6)]
    for i in reversed(range(6)):  # any step, without those before it
        for other in (same, again):
            np.testing.assert_array_equal(other.step(i)["pixels"], steps[i]["pixels"])
            assert other.step(i)["caption"] == steps[i]["caption"]
    values = steps[0]["pixels"].mean(axis=(1, 2, 3))
    assert steps[0]["caption"] == [f"no {value:.0f}" for value in values]
    assert tars.digest == again.digest


def test_few_pictures_are_read_with_their_own_captions_masks_and_repeats(tmp_path):
    captions = {"2_<v1> dog/a": "", "4_<v1> dog/b": "a <v1> asleep"}
    for i, (name, caption) in enumerate(captions.items()):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(i))
        if caption:
            path.with_suffix(".txt").write_text(caption)
        (tmp_path / f"{path.stem}.png").write_bytes(png(100))
    own = tuple(own_pictures(str(tmp_path / "set")))
    concept = Concept("<v1>", "dog", (), (), "<v1> dog")
    masks = str(tmp_path)
    spec = ConceptSpec(concept, "set", ("x",), "a dog", None, masks, own)
    one, two = _examples(spec)
    assert (one.captions, one.phrase, one.repeats) == (("<v1> dog",), "<v1> dog", 1)
    # The class word replaces the word alone where the caption has it alone.
    assert (two.captions, two.phrase, two.repeats) == (("a <v1> asleep",), "<v1>", 2)
    assert [int(each.pixels.mean()) for each in (one, two)] == [0, 1]
    assert one.mask is not None
    assert (one.mask == 255).all()


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
