"""The cache command: what it writes, resumes, skips and rejects."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from personax.concepts.bind import from_base
from personax.core.images import to_float
from personax.data.latents import Latents, missing
from personax.diffusion.denoiser import encode
from personax.networks import vae
from personax.networks.tokenizer import tokenize
from personax.training import latent_cache
from personax.training.config import StreamConfig
from tests.commands.test_commands import check_refusal, run


def write(base, out, **changes):
    """(the plan of a cache, the messages about skipped pictures) after writing it."""
    names = ("text", "part", "size", "dtype")
    own = {key: changes.pop(key) for key in names if key in changes}
    settings = StreamConfig(**{"source": "portraits:people:40", **changes})
    plan = latent_cache.prepare(base, settings, out, shard=16, batch=8, **own)
    return plan, latent_cache.write(plan)


@pytest.fixture(scope="module")
def whole(emoji, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "whole"
    plan, skipped = write(emoji, folder, text=True, flip=True)
    assert skipped == []
    return plan, Latents(folder)


def test_a_cache_holds_posteriors_of_both_views_and_encoded_captions(emoji, whole):
    plan, cached = whole
    numbers = [0, 17, 39]
    pictures = [plan.reader.pictures.picture(i) for i in numbers]
    records = cached.records(numbers)
    images = np.stack([to_float(picture.pixels) for picture in pictures])
    encoded = jax.jit(vae.encode, static_argnames="config")
    views = np.concatenate([images, images[:, :, ::-1]])
    expected = encoded(emoji.params["vae"], config=emoji.spec.vae, images=views)
    for j, record in enumerate(records):
        for mirrored in (0, 1):
            mean, logvar = record.posteriors[mirrored]
            i = j + 3 * mirrored
            np.testing.assert_allclose(mean, expected.mean[i], rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(logvar, expected.logvar[i], rtol=2e-3, atol=2e-3)
        assert record.caption == pictures[j].caption
    ids = tokenize(emoji.tokenizer, [record.caption for record in records])
    np.testing.assert_array_equal([record.ids for record in records], ids)
    text = jax.jit(lambda d, i: encode(d, i).text)(from_base(emoji).denoiser, ids)
    np.testing.assert_allclose(
        [record.text for record in records], text, rtol=2e-3, atol=2e-3
    )
    assert (len(cached), cached.about.shards) == (40, 3)


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record")}


def test_a_rerun_writes_the_missing_shards_alone(emoji, whole, tmp_path):
    plan, _ = whole
    before = shards(plan.folder)
    lost = plan.folder / f"{plan.about.names[1]}.array_record"
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in plan.folder.glob("*.array_re*")}
    write(emoji, plan.folder, text=True, flip=True)
    assert shards(plan.folder) == before
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_processes_share_the_shards(emoji, whole, tmp_path):
    plan, _ = whole
    for part in ((1, 2), (0, 2)):
        own, _ = write(emoji, tmp_path / "a", text=True, flip=True, part=part)
        unwritten = missing(own.folder, own.about)
        assert unwritten == ([0, 2] if part == (1, 2) else [])
    assert shards(tmp_path / "a") == shards(plan.folder)


def test_unreadable_pictures_are_skipped_and_named(emoji, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        shape = (48, 32, 3) if i % 3 else (32, 32, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:500])
    (folder / "18.png").write_text("no picture")
    out = tmp_path / "out"
    _, skipped = write(emoji, out, source=f"folder:{folder}", buckets=8)
    assert "18.png cannot be read" in skipped[0]
    assert "03.png cannot be read" in skipped[1]
    cached = Latents(out)
    assert len(cached) == 18
    expected = [
        (32, 32) if i % 3 == 0 else (40, 24) for i in range(20) if i not in (3, 18)
    ]
    sizes = [cached.about.sizes[bucket] for bucket in cached.buckets]
    assert sizes == expected
    shapes = [record.posteriors.shape[2:4] for record in cached.records(range(18))]
    assert shapes == [(height // 4, width // 4) for height, width in expected]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "Unknown picture set 'people'"),
        ({"source": "cache:x"}, "cache:x holds latents; expected pictures"),
        ({"crop": "random"}, "A cache holds one view of each picture"),
        ({"size": 30}, "The size 30x30 must be a multiple of 4"),
        ({"dtype": "float8"}, "float8"),
    ],
)
def test_an_invalid_cache_is_an_error_before_anything_is_written(
    emoji, tmp_path, changes, sentence
):
    with pytest.raises(ValueError, match=sentence):
        write(emoji, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_flags_override_the_config(tmp_path):
    result = run(
        "personax.cache",
        "--config=configs/emoji_dreambooth.py",
        "--config.stream.source=portraits:people:3",
        "--config.stream.flip",
        "--source=portraits:animals:3",
        "--batch=3",
        f"--out={tmp_path / 'out'}",
    )
    assert result.returncode == 0, result.stderr
    assert f"1 of 1 shards in {tmp_path / 'out'}, 3 pictures" in result.stdout
    about = json.loads((tmp_path / "out" / "cache.json").read_text())
    assert about["source"] == "portraits:animals:3"
    assert about["flip"] is True
    result = run("personax.cache", "--part=2/2", f"--out={tmp_path / 'b'}")
    check_refusal(result, "--part=2/2: expected I/N, such as 0/4.")
