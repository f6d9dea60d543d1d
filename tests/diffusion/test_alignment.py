"""Alignments of prompts: whose attention a token takes, and when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personax.diffusion.alignment import (
    DEFAULT,
    Alignment,
    align,
    equalizer,
    find,
    needleman_wunsch,
    pick_kind,
    refine,
    replace,
    reweight,
    spans,
    step_schedule,
    word_schedule,
)
from personax.networks.tokenizer import add_placeholder

pytestmark = pytest.mark.quick
CAT, DOG = "a cat on the beach", "a dog on the beach"
N = 32


@pytest.fixture(scope="module")
def tokenizer(emoji):
    """The embedded base's, with words of one, two and three tokens."""
    tokenizer = emoji.tokenizer
    for word, vectors in (("<one>", 1), ("<two>", 2), ("<three>", 3)):
        tokenizer = add_placeholder(tokenizer, word, vectors=vectors)
    return tokenizer


def test_the_same_prompt_is_the_identity(tokenizer):
    for kind in ("replace", "refine"):
        mapper, own = align(tokenizer, CAT, CAT, kind)
        np.testing.assert_array_equal(mapper, np.eye(N))
        np.testing.assert_array_equal(own, 0)


def test_words_of_equal_length_match_token_by_token(tokenizer):
    mapper, own = replace(tokenizer, "a <two> at night", "a <two> in snow")
    np.testing.assert_array_equal(mapper, np.eye(N))
    np.testing.assert_array_equal(own, 0)


@pytest.mark.parametrize("compat", [False, True])
def test_a_word_of_other_length_shares_and_shifts_what_follows(tokenizer, compat):
    texts = "a <two> on the beach", "a <three> on the beach"
    mapper, _ = replace(tokenizer, *texts, compat=compat)
    # begin a | <two> is 2-3, <three> is 2-4
    np.testing.assert_array_equal(mapper[:2, :2], np.eye(2))
    np.testing.assert_allclose(mapper[2:4, 2:5], 1 / 3)
    assert mapper[2:4].sum() == pytest.approx(2)
    for j in range(5, N):
        # The release looks up what follows at the edit's own position.
        assert mapper[:, j].argmax() == (j if compat else j - 1)
    beach = find(tokenizer, texts[0], "beach"), find(tokenizer, texts[1], "beach")
    assert (mapper[beach[0], beach[1]] == 1) != compat


def test_compat_is_off_only_behind_the_last_replaced_word(tokenizer):
    texts = "a <two> with <one> at night", "a <three> with <two> at night"
    right = replace(tokenizer, *texts).mapper
    wrong = replace(tokenizer, *texts, compat=True).mapper
    behind = find(tokenizer, texts[1], "<two>")[-1] + 1
    np.testing.assert_array_equal(right[:, :behind], wrong[:, :behind])
    np.testing.assert_array_equal(wrong[behind:, behind:], np.eye(N - behind))
    assert (right[:, behind:] != wrong[:, behind:]).any(0).all()


@given(
    words=st.lists(
        st.tuples(*[st.sampled_from(["a", "dog", "<one>", "<two>", "<three>"])] * 2),
        min_size=1,
        max_size=8,
    )
)
def test_replacing_conserves_mass(tokenizer, words):
    source, edit = (" ".join(side) for side in zip(*words, strict=True))
    mapper, own = replace(tokenizer, source, edit)
    np.testing.assert_allclose(mapper.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(own, 0)
    if all(len(a.at) == len(b.at) for a, b in _pairs(tokenizer, source, edit)):
        np.testing.assert_array_equal(mapper.sum(0), 1)


def _pairs(tokenizer, source, edit):
    return zip(spans(tokenizer, source), spans(tokenizer, edit), strict=True)


def test_prompts_longer_than_the_encoder_reads_are_cut(tokenizer):
    long = " ".join(["<three>"] * 12)
    mapper, _ = replace(tokenizer, long, long.replace("<three>", "dog"))
    assert mapper.shape == (N, N)
    mapper, _ = refine(tokenizer, long, long + " dog")
    np.testing.assert_array_equal(mapper, np.eye(N))


def test_other_word_counts_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"has 5 and .* 6; use refine"):
        replace(tokenizer, CAT, "a red dog on the beach")


def test_a_phrase_counts_as_one_word(tokenizer):
    edit = "a <one> dog on the beach"
    assert pick_kind(tokenizer, CAT, edit) == "refine"
    assert pick_kind(tokenizer, CAT, edit, ["<one> dog"]) == "replace"
    mapper, _ = align(tokenizer, CAT, edit, phrases=["<one> dog"])
    cat, phrase = find(tokenizer, CAT, "cat"), find(tokenizer, edit, "<one> dog")
    np.testing.assert_array_equal(mapper[cat, phrase], 0.5)


def test_refining_keeps_what_both_prompts_have(tokenizer):
    edit = "a red dog on the beach"
    mapper, own = refine(tokenizer, DOG, edit)
    (red,) = find(tokenizer, edit, "red")
    assert own.tolist() == [float(j == red) for j in range(N)]
    length = len(edit.split()) + 2
    expected = [j if j < red or j >= length else j - 1 for j in range(N) if j != red]
    kept = np.delete(mapper, red, axis=1)
    np.testing.assert_array_equal(kept.argmax(0), expected)
    np.testing.assert_array_equal(kept.sum(0), 1)
    np.testing.assert_array_equal(mapper[:, red], 0)


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_the_alignment_is_in_order_and_best(old, new):
    taken = needleman_wunsch(old, new)
    matched = [(i, j) for j, i in enumerate(taken) if i is not None]
    assert [i for i, _ in matched] == sorted({i for i, _ in matched})
    score = sum(1 if old[i] == new[j] else -1 for i, j in matched)
    assert score == _best(tuple(old), tuple(new))


def _best(old, new):
    if not old or not new:
        return 0
    paired = _best(old[1:], new[1:]) + (1 if old[0] == new[0] else -1)
    return max(paired, _best(old[1:], new), _best(old, new[1:]))


def test_reweighting_scales_a_word_in_every_part(tokenizer):
    factors = equalizer(tokenizer, DOG, {"dog": -2.0})
    (dog,) = find(tokenizer, DOG, "dog")
    assert factors[dog] == -2
    np.testing.assert_array_equal(np.delete(factors, dog), 1)
    plain = Alignment(np.eye(N, dtype=np.float32), np.ones(N, np.float32))
    mapper, own = reweight(plain, factors)
    np.testing.assert_array_equal(np.diag(mapper), factors)
    np.testing.assert_array_equal(own, factors)


def test_windows_hold_by_word(tokenizer):
    windows = {DEFAULT: 0.8, "dog": 0.4, "beach": (0.2, 0.6)}
    schedule = word_schedule(tokenizer, DOG, windows, 10)
    (dog,), (beach,) = (find(tokenizer, DOG, word) for word in ("dog", "beach"))
    # Bounds count in 11: int(0.8 * 11) = 8, int(0.4 * 11) = 4, int(0.2 * 11) = 2.
    np.testing.assert_array_equal(schedule[:, dog], np.arange(10) < 4)
    in_beach = (np.arange(10) >= 2) & (np.arange(10) < 6)
    np.testing.assert_array_equal(schedule[:, beach], in_beach)
    np.testing.assert_array_equal(schedule[:, 0], np.arange(10) < 8)
    np.testing.assert_array_equal(word_schedule(tokenizer, DOG, 1.0, 10), 1)
    np.testing.assert_array_equal(word_schedule(tokenizer, DOG, 0.0, 10), 0)


def test_a_mapping_without_default_takes_all_steps_elsewhere(tokenizer):
    schedule = word_schedule(tokenizer, DOG, {"dog": 0.0}, 5)
    (dog,) = find(tokenizer, DOG, "dog")
    np.testing.assert_array_equal(schedule[:, dog], 0)
    np.testing.assert_array_equal(np.delete(schedule, dog, axis=1), 1)


def test_windows_of_steps_count_in_steps():
    np.testing.assert_array_equal(step_schedule(0.4, 5), [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(step_schedule((0.4, 0.8), 5), [0, 0, 1, 1, 0])


@pytest.mark.parametrize("window", [1.2, -0.1, (0.6, 0.4), (0.2, 1.1)])
def test_impossible_windows_are_refused(window):
    with pytest.raises(ValueError, match="window"):
        step_schedule(window, 10)


def test_words_that_are_not_there_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"'lion' is not in 'a dog"):
        equalizer(tokenizer, DOG, {"lion": 2.0})
    with pytest.raises(ValueError, match="lion"):
        word_schedule(tokenizer, DOG, {"lion": 0.5}, 10)
