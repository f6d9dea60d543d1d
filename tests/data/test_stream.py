"""A stream's batches: one order, bad pictures replaced, sizes, mirrors, captions."""

import multiprocessing
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from personax.core.errors import RunFailedError
from personax.data.buckets import bucket_of, bucket_sizes
from personax.data.dataset import iterate
from personax.data.order import Order
from personax.data.picture import Picture
from personax.data.prefetch import prefetch
from personax.data.sets import open_set
from personax.data.stream import (
    CaptionPolicy,
    HeldOut,
    PictureReader,
    Stream,
    read_chunks,
)

SIZE = (32, 32)


class Numbered:
    """Picture i is of colour i, red to the right; the `bad` ones cannot be read."""

    skipped, captioned = (), True

    def __init__(self, count, shapes=((20, 20),), bad=()):
        self.count, self.shapes, self.bad = count, shapes, bad

    def __len__(self):
        return self.count

    def shape(self, index):
        return self.shapes[index % len(self.shapes)]

    def picture(self, index):
        if index in self.bad:
            raise ValueError(f"{index} cannot be read")
        pixels = np.full((*self.shape(index), 3), index, np.uint8)
        pixels[:, self.shape(index)[1] // 2 :, 0] = 255
        return Picture(pixels, f"number {index}")

    def sizes(self):
        return np.array([self.shape(i) for i in range(self.count)])

    def digest(self):
        return "numbered"

    def contents(self):
        return ""


def stream(
    pictures, rows=4, policy=CaptionPolicy(), own=None, sizes=(SIZE,), **options
):
    held_out, workers = options.pop("held_out", 0), options.pop("workers", 0)
    buckets = options.get("bucket_of")
    order = Order(len(pictures), rows, 0, held_out=held_out, buckets=buckets)
    reader = PictureReader(pictures, sizes, **options)
    return Stream(reader, order, policy, local=own or range(rows), workers=workers)


def numbers(rows):
    """Which pictures a batch shows."""
    return [int(pixels[0, 0, 1]) for pixels in rows["pixels"]]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_processes_share_one_order():
    policy, pictures = CaptionPolicy(("a", "b", "c"), 0.3), Numbered(30)
    options = {"policy": policy, "flip": True, "crop": "random"}
    whole = stream(pictures, **options)
    halves = [stream(pictures, own=range(a, a + 2), **options) for a in (0, 2)]
    for step in range(12):
        rows, (first, second) = whole.step(step), [half.step(step) for half in halves]
        joined = np.concatenate([first["pixels"], second["pixels"]])
        np.testing.assert_array_equal(rows["pixels"], joined)
        assert rows["caption"] == first["caption"] + second["caption"]
        assert numbers(rows) == whole.order.step(step).tolist()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_it_goes_on_at_any_step_however_it_is_read(workers):
    data = stream(
        open_set("portraits:people:20"),
        policy=CaptionPolicy(("a", "b"), 0.2),
        workers=workers,
    )
    batches = iterate(data, 7, lambda rows: {**rows, "then": 1})
    for step in range(7, 12):
        assert batches.next_step == step
        assert_same(next(batches), {**data.step(step), "then": 1})
    batches.close()


def test_what_processes_read_goes_on_from_a_state_of_its_iterator():
    data = iter(prefetch(str, range(3, 20), workers=2))
    assert [next(data) for _ in range(3)] == ["3", "4", "5"]
    state = data.get_state()
    assert list(data) == [str(i) for i in range(6, 20)]
    again = iter(prefetch(str, range(3, 20), workers=2))
    again.set_state(state)
    assert list(again) == [str(i) for i in range(6, 20)]


def test_a_signal_to_the_whole_group_leaves_the_batches_to_its_parent():
    data = stream(open_set("portraits:people:20"), workers=2)
    batches = iterate(data, 0)
    for step in range(2):
        assert_same(next(batches), data.step(step))
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    for step in range(2, 20):  # more than were read ahead
        assert_same(next(batches), data.step(step))
    batches.close()
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_ends_with_a_parent_that_was_killed():
    script = """
import os, signal, multiprocessing as mp
from personax.data.prefetch import _exit_with_parent

def work(parent, ready):
    _exit_with_parent(parent, 0, 1)
    ready.put(os.getpid())
    __import__("time").sleep(60)

if __name__ == "__main__":
    context = mp.get_context("fork")
    ready = context.SimpleQueue()
    context.Process(target=work, args=(os.getpid(), ready)).start()
    print(ready.get(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    # It holds the pipe: this waits for its end, which is not for a minute otherwise.
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=40)
    assert done.returncode == -9


def test_a_bad_picture_is_replaced_by_the_next_good_one_and_named():
    bad, whole = (3, 4, 9), stream(Numbered(10))
    data = stream(Numbered(10, bad=bad))
    messages = set()
    for step in range(10):
        rows, order = data.step(step), numbers(whole.step(step))
        instead = {3: 5, 4: 5, 9: 0}
        assert numbers(rows) == [instead.get(i, i) for i in order]
        assert len(rows["skipped"]) == sum({3: 2, 4: 1, 9: 1}.get(i, 0) for i in order)
        messages |= set(rows["skipped"])
    assert messages == {f"{i} cannot be read" for i in bad}


def test_a_set_of_bad_pictures_alone_is_an_error_in_the_end():
    data = stream(Numbered(5, bad=range(5)))
    with pytest.raises(RunFailedError, match="5 pictures in a row cannot be read: "):
        data.step(0)


def test_half_of_the_pictures_are_mirrored_where_flip_says_so():
    plain, data = stream(Numbered(50)), stream(Numbered(50), flip=True)
    turned = []
    for step in range(50):
        for one, other in zip(
            plain.step(step)["pixels"], data.step(step)["pixels"], strict=True
        ):
            mirrored = (one[:, ::-1] == other).all()
            assert mirrored or (one == other).all()
            turned.append(mirrored)
    assert 0.4 < np.mean(turned) < 0.6


def test_crops_keep_the_middle_any_part_or_everything():
    # 20 x 60: black, then red from the middle on.
    def edges(crop):
        pixels = [stream(wide, crop=crop).step(i)["pixels"] for i in range(10)]
        return [
            int((each[16, :, 0] > 128).argmax()) for step in pixels for each in step
        ]

    wide = Numbered(8, shapes=((20, 60),))
    assert set(edges("centre")) == set(edges("squash")) == {16}
    assert len(set(edges("random"))) > 5
    green = stream(Numbered(1, shapes=((20, 60),)), crop="squash", rows=1)
    assert green.step(0)["pixels"].shape == (1, 32, 32, 3)


def test_a_batch_is_of_one_bucket_whose_size_it_has():
    shapes = ((20, 20), (20, 40), (40, 20), (20, 20))
    pictures, sizes = Numbered(40, shapes), bucket_sizes(SIZE, 8)
    buckets = bucket_of(pictures.sizes(), sizes)
    data = stream(pictures, sizes=sizes, bucket_of=buckets, rows=8)
    seen = set()
    for step in range(data.order.steps_of_epoch):
        rows = data.step(step)
        size = rows["pixels"].shape[1:3]
        assert {sizes[buckets[i]] for i in numbers(rows)} == {size}
        seen.add(size)
    assert seen == {(32, 32), (24, 40), (40, 24)}


def test_captions_are_prompts_or_the_set_s_own_and_sometimes_none():
    prompts = stream(Numbered(20), policy=CaptionPolicy(("a <v1> dog", "my <v1> dog")))
    captions = [c for step in range(30) for c in prompts.step(step)["caption"]]
    assert 0.3 < captions.count("a <v1> dog") / len(captions) < 0.7
    assert set(captions) == {"a <v1> dog", "my <v1> dog"}
    own = stream(Numbered(20), policy=CaptionPolicy(dropout=0.25))
    counts = []
    for step in range(50):
        rows = own.step(step)
        for number, caption in zip(numbers(rows), rows["caption"], strict=True):
            assert caption in ("", f"number {number}")
            counts.append(caption == "")
    assert 0.15 < np.mean(counts) < 0.35


def test_what_is_held_out_comes_without_chance():
    policy = CaptionPolicy(("first", "second"), 0.5)
    data = stream(
        Numbered(20), policy=policy, flip=True, crop="random", held_out=6, rows=4
    )
    held_out = HeldOut(data)
    batches = [held_out.step(i) for i in range(held_out.steps)]
    assert [len(rows["pixels"]) for rows in batches] == [4, 4]
    assert {i for rows in batches for i in numbers(rows)} == set(data.order.held_out)
    for rows in batches:
        assert rows["caption"] == ["first"] * 4
        assert (rows["pixels"][:, :, -1, 0] == 255).all()
        assert rows["plain"] == rows["caption"]
    for i, rows in enumerate(batches):
        assert_same(rows, held_out.step(i))


def test_a_hint_is_drawn_of_what_is_seen(monkeypatch):
    edges = types.ModuleType("personax.data.edges")
    edges.canny = lambda pixels: np.where(pixels[..., 0] > 128, 255, 0).astype(np.uint8)
    monkeypatch.setitem(sys.modules, "personax.data.edges", edges)
    rows = stream(Numbered(20), flip=True, hint="canny").step(0)
    assert rows["hint"].shape == (4, 32, 32, 1)
    expected = np.where(rows["pixels"][..., :1] > 128, 255, 0)
    np.testing.assert_array_equal(rows["hint"], expected)


def test_for_a_cache_pictures_come_in_order_and_bad_ones_as_sentences():
    reader = PictureReader(Numbered(7, bad=(2,)), [SIZE], crop="squash", flip=True)
    chunks = [[0, 1, 2], [5]]
    (first, second) = read_chunks(reader, chunks)
    assert [look.get("caption") for look in first] == ["number 0", "number 1", None]
    assert first[2] == {"skipped": "2 cannot be read"}
    assert second[0]["pixels"].shape == (32, 32, 3)
    assert (second[0]["pixels"][:, -1, 0] == 255).all()
