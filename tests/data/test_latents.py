"""A cache gives back what was put in, and says what it is of."""

import dataclasses
import pickle

import numpy as np
import pytest

from personax.data.latents import (
    About,
    LatentReader,
    Latents,
    Record,
    claim,
    missing,
    write_shard,
)

ABOUT = About(
    source="folder:x",
    split="train",
    pictures="abc",
    captioned=True,
    count=7,
    sizes=((8, 8), (4, 16)),
    buckets=4,
    crop="centre",
    flip=True,
    vae="vae",
    dtype="float32",
    factor=4,
    channels=2,
    shard=3,
    text_encoder="text",
    text=(5, 6),
)


def record(number, about=ABOUT):
    rng, bucket = np.random.default_rng(number), number % len(about.sizes)
    shape = (2 if about.flip else 1, 2, *about.latent(bucket))
    posteriors = rng.standard_normal(shape).astype(np.float16)
    text = ids = None
    if about.text_encoder:
        text = rng.standard_normal(about.text).astype(np.float16)
        ids = rng.integers(0, 49408, about.text[0]).astype(np.int32)
    return Record(bucket, posteriors, f"näme {number}" * (number % 3), text, ids)


def write(folder, about=ABOUT, bad=(4,)):
    claim(folder, about)
    for shard in missing(folder, about):
        numbers = range(
            shard * about.shard, min((shard + 1) * about.shard, about.count)
        )
        records = [record(i, about) for i in numbers if i not in bad]
        skipped = [f"{i} is bad" for i in numbers if i in bad]
        write_shard(folder, about, shard, records, skipped)
    return Latents(folder)


GOOD = [0, 1, 2, 3, 5, 6]


@pytest.mark.parametrize(
    "change",
    [{}, {"flip": False}, {"text_encoder": "", "text": (0, 0)}],
    ids=["all", "not mirrored", "without text"],
)
def test_it_gives_back_what_was_put_in(tmp_path, change):
    about = dataclasses.replace(ABOUT, **change)
    found = pickle.loads(pickle.dumps(write(tmp_path, about)))
    assert found.about == about
    assert len(found) == 6
    assert found.skipped == ("4 is bad",)
    assert found.buckets.tolist() == [i % 2 for i in GOOD]
    for number, seen in zip(
        [3, 0, 5, 4, 4], found.records([3, 0, 5, 4, 4]), strict=True
    ):
        expected = record(GOOD[number], about)
        assert (seen.bucket, seen.caption) == (expected.bucket, expected.caption)
        assert seen.posteriors.tobytes() == expected.posteriors.tobytes()
        assert seen.posteriors.shape == expected.posteriors.shape
        if about.text_encoder:
            np.testing.assert_array_equal(seen.text, expected.text)
            np.testing.assert_array_equal(seen.ids, expected.ids)
        else:
            assert seen.text is seen.ids is None


def test_an_unfinished_cache_says_how_much_is_there(tmp_path):
    claim(tmp_path, ABOUT)
    assert missing(tmp_path, ABOUT) == [0, 1, 2]
    write_shard(tmp_path, ABOUT, 1, [record(3)], [])
    assert missing(tmp_path, ABOUT) == [0, 2]
    with pytest.raises(ValueError, match="unfinished: 1 of 3 shards are written"):
        Latents(tmp_path)
    assert len(write(tmp_path)) == 3 + 1 + 1


def test_nothing_of_a_shard_is_seen_before_all_of_it(tmp_path):
    def half():
        yield record(0)
        raise KeyboardInterrupt

    claim(tmp_path, ABOUT)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, ABOUT, 0, half(), [])
    assert missing(tmp_path, ABOUT) == [0, 1, 2]


def test_another_cache_in_the_folder_is_refused_and_the_same_is_not(tmp_path):
    claim(tmp_path, ABOUT)
    claim(tmp_path, ABOUT)
    other = dataclasses.replace(ABOUT, crop="squash", count=8)
    with pytest.raises(
        ValueError,
        match="another cache: count was 7 and is 8; crop was 'centre' and is 'squash'",
    ):
        claim(tmp_path, other)


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 0}', "[]"])
def test_what_is_no_cache_is_refused(tmp_path, text):
    with pytest.raises(FileNotFoundError, match=r"holds no cache\.json"):
        Latents(tmp_path)
    (tmp_path / "cache.json").write_text(text)
    with pytest.raises(ValueError, match="is not a cache of this version"):
        Latents(tmp_path)


def test_a_reader_takes_a_picture_or_its_mirror_image(tmp_path):
    about = dataclasses.replace(ABOUT, sizes=((8, 8),), buckets=0)
    found, numbers = write(tmp_path, about), [0, 2, 4] * 10
    records = [record(GOOD[i], about) for i in numbers]
    rngs = [np.random.default_rng(i) for i in range(30)]
    plain = LatentReader(found).read(numbers, rngs)
    np.testing.assert_array_equal(
        plain["mean"], [each.posteriors[0, 0] for each in records]
    )
    np.testing.assert_array_equal(
        plain["logvar"], [each.posteriors[0, 1] for each in records]
    )
    assert plain["caption"] == [each.caption for each in records]
    assert "text" not in plain
    turned = LatentReader(found, flip=True, has_text=True).read(numbers, rngs)
    mirrored = [
        (mean == each.posteriors[1, 0]).all()
        for mean, each in zip(turned["mean"], records, strict=True)
    ]
    assert 5 < sum(mirrored) < 25
    np.testing.assert_array_equal(turned["text"], [each.text for each in records])
    still = LatentReader(found, flip=True).deterministic().read(numbers, rngs)
    np.testing.assert_array_equal(still["mean"], plain["mean"])


def test_its_digest_changes_with_what_it_is_of(tmp_path):
    first = write(tmp_path / "a")
    assert write(tmp_path / "b").digest() == first.digest()
    other = dataclasses.replace(ABOUT, vae="other")
    assert write(tmp_path / "c", other).digest() != first.digest()
    assert write(tmp_path / "d", bad=()).digest() != first.digest()
