"""The command that caches: what it writes, goes on with, leaves out and refuses."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from personax import cache
from personax.concepts.bind import from_base
from personax.core.images import to_float
from personax.data.latents import Latents, missing
from personax.diffusion.denoiser import encode
from personax.networks import vae
from personax.networks.tokenizer import tokenize
from tests.commands.test_commands import check_refusal, run

SETTINGS = {
    "source": "portraits:people:40",
    "data_dir": "",
    "split": "train",
    "size": 0,
    "crop": "",
    "flip": False,
    "buckets": 0,
    "workers": 0,
    "hint": "",
    "dtype": "float32",
}


def write(base, out, **changes):
    """(the cache, the sentences about what was left out)."""
    own = {key: changes.pop(key) for key in ("text", "part") if key in changes}
    options = {"shard": 16, "batch": 8, **own}
    plan = cache.prepare(base, {**SETTINGS, **changes}, out, **options)
    return plan, cache.write(plan)


@pytest.fixture(scope="module")
def whole(emoji, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "whole"
    plan, skipped = write(emoji, folder, text=True, flip=True)
    assert skipped == []
    return plan, Latents(folder)


def test_it_keeps_what_the_networks_say_of_pictures_mirror_images_and_captions(
    emoji, whole
):
    plan, found = whole
    numbers = [0, 17, 39]
    pictures = [plan.reader.pictures.picture(i) for i in numbers]
    records = found.records(numbers)
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
    assert (len(found), found.about.shards) == (40, 3)


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record")}


def test_it_goes_on_with_what_is_missing_alone(emoji, whole, tmp_path):
    plan, _ = whole
    before = shards(plan.folder)
    lost = plan.folder / f"{plan.about.name(1)}.array_record"
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in plan.folder.glob("*.array_re*")}
    write(emoji, plan.folder, text=True, flip=True)
    assert shards(plan.folder) == before
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_processes_share_the_shards(emoji, whole, tmp_path):
    plan, _ = whole
    for part in ((1, 2), (0, 2)):
        own, _ = write(emoji, tmp_path / "a", text=True, flip=True, part=part)
        lacking = missing(own.folder, own.about)
        assert lacking == ([0, 2] if part == (1, 2) else [])
    assert shards(tmp_path / "a") == shards(plan.folder)


def test_what_cannot_be_read_is_left_out_counted_and_named(
    emoji, tmp_path, monkeypatch
):
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
    found = Latents(out)
    assert len(found) == 18
    wanted = [
        (32, 32) if i % 3 == 0 else (40, 24) for i in range(20) if i not in (3, 18)
    ]
    sizes = [found.about.sizes[bucket] for bucket in found.buckets]
    assert sizes == wanted
    shapes = [record.posteriors.shape[2:4] for record in found.records(range(18))]
    assert shapes == [(height // 4, width // 4) for height, width in wanted]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "no set 'people'"),
        ({"source": "cache:x"}, "cache:x holds latents, and here pictures are needed"),
        ({"crop": "random"}, "A cache keeps one view of each picture"),
        ({"size": 30}, "The size 30x30 must be a multiple of 4"),
        ({"dtype": "float8"}, "float8"),
    ],
)
def test_what_cannot_be_cached_is_refused(emoji, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        write(emoji, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_a_config_and_its_own_flags_first(tmp_path):
    done = run(
        "personax.cache",
        "--config=configs/emoji_dreambooth.py",
        "--config.stream.source=portraits:people:3",
        "--config.stream.flip",
        "--source=portraits:animals:3",
        "--batch=3",
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert f"1 of 1 shards in {tmp_path / 'out'}, 3 pictures" in done.stdout
    about = json.loads((tmp_path / "out" / "cache.json").read_text())
    assert about["source"] == "portraits:animals:3"
    assert about["flip"] is True
    done = run("personax.cache", "--part=2/2", f"--out={tmp_path / 'b'}")
    check_refusal(done, "--part 2/2 is not of the form I/N, such as 0/4.")
