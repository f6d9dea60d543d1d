"""One order of a set: epochs are permutations, and nothing depends on who asks."""

import collections
import pickle

import numpy as np
import pytest

from personax.data.order import Order, permuted


def seen(order, steps):
    return np.concatenate([order.step(i) for i in range(steps)])


def test_each_epoch_is_a_permutation_of_its_own_though_steps_straddle_epochs():
    order = Order(10, 4, 0)
    found = seen(order, 15).reshape(6, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in found)
    assert len({tuple(epoch) for epoch in found}) == 6


def test_a_step_depends_on_seed_and_number_alone():
    order, other = Order(100, 8, 1), Order(100, 8, 1)
    forwards = [order.step(i) for i in range(40)]
    backwards = [other.step(i) for i in reversed(range(40))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(order)).step(7), forwards[7]
    )
    assert (Order(100, 8, 2).step(0) != forwards[0]).any()


@pytest.mark.parametrize("buckets", [None, np.arange(30) % 3])
def test_what_is_held_out_is_in_no_step(buckets):
    order = Order(30, 4, 0, held_out=7, buckets=buckets)
    assert set(seen(order, 40)) == set(range(30)) - set(order.held_out)
    batches = order.held_out_batches()
    assert {n for batch in batches for n in batch} == set(order.held_out)
    assert len(order.held_out) == 7
    assert all(len(batch) == 4 for batch in batches)
    # It is the same part whatever the length of a step.
    np.testing.assert_array_equal(Order(30, 8, 0, held_out=7).held_out, order.held_out)
    assert Order(30, 4, 0).held_out_batches() == []


def test_with_buckets_a_step_is_of_one_and_an_epoch_has_all():
    buckets = np.repeat([0, 1, 2], [10, 3, 1])
    order = Order(14, 4, 0, buckets=buckets)
    assert order.steps_of_epoch == 3 + 1 + 1
    epochs = [[order.step(5 * e + i) for i in range(5)] for e in range(4)]
    for epoch in epochs:
        assert {n for step in epoch for n in step} == set(range(14))
        assert all(len(set(buckets[step])) == 1 for step in epoch)
        counts = collections.Counter(n for step in epoch for n in step)
        assert max(counts[n] for n in range(13)) <= 2
    firsts = {tuple(int(buckets[step[0]]) for step in epoch) for epoch in epochs}
    assert len(firsts) > 1


@pytest.mark.parametrize("held_out", [5, 6, -1])
def test_more_cannot_be_held_out_than_there_is(held_out):
    with pytest.raises(ValueError, match=f"Cannot hold out {held_out} of 5 pictures"):
        Order(5, 2, 0, held_out=held_out)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_epoch_sees_every_picture_once(count):
    turns = [permuted(count, turn, [0]) for turn in range(6 * count)]
    for epoch in np.reshape(turns, (-1, count)):
        assert sorted(epoch) == list(range(count))


def test_epochs_differ_in_order_and_so_do_seeds():
    def epochs(seed):
        turns = [permuted(5, turn, seed) for turn in range(50)]
        return [tuple(epoch) for epoch in np.reshape(turns, (-1, 5))]

    assert len(set(epochs([0, 0]))) > 1
    assert epochs([0, 0]) != epochs([0, 1])
    assert epochs([0, 0]) != epochs([1, 0])
    assert epochs([0, 1]) == epochs([0, 1])
