"""The closed-form merge: it meets the constraints and changes other text least."""

import numpy as np
import pytest

from personax.concepts.merge_kernels import merge_kernels, target_prompts, token_rows
from personax.networks.tokenizer import add_placeholder

pytestmark = pytest.mark.quick
WIDTH = 24
SHAPES = {"a/to_k/kernel": (WIDTH, 16), "a/to_v/kernel": (WIDTH, 8)}


def draw(rng, scale=1.0):
    return {path: scale * rng.standard_normal(s) for path, s in SHAPES.items()}


@pytest.fixture(scope="module")
def toy():
    """(base, two concepts' kernels, regularisation rows, two concepts' targets)."""
    rng = np.random.default_rng(0)
    base = draw(rng)
    tuned = [
        {path: base[path] + delta for path, delta in draw(rng, 0.1).items()}
        for _ in range(2)
    ]
    # Text has directions of very different strength.
    spread = np.logspace(0, -2, WIDTH)[None]
    regularisation = rng.standard_normal((200, WIDTH)) * spread
    targets = [rng.standard_normal((rows, WIDTH)) * spread for rows in (4, 3)]
    return base, tuned, regularisation, targets


def objective(kernels, base, regularisation, ridge=0.0):
    ridge = ridge * np.linalg.eigvalsh(regularisation.T @ regularisation).mean()
    merged_change = [kernels[path] - base[path] for path in base]
    return sum(
        np.square(regularisation @ delta).sum() + ridge * np.square(delta).sum()
        for delta in merged_change
    )


def test_every_concept_is_preserved_exactly(toy):
    base, tuned, regularisation, targets = toy
    merged = merge_kernels(base, tuned, regularisation, targets)
    for rows, kernels in zip(targets, tuned, strict=True):
        for path in base:
            ours = rows @ merged.kernels[path]
            np.testing.assert_allclose(ours, rows @ kernels[path], rtol=0, atol=1e-10)
    assert merged.residual_targets < 1e-10


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_no_other_feasible_kernels_change_other_text_less(toy, ridge):
    base, tuned, regularisation, targets = toy
    merged = merge_kernels(base, tuned, regularisation, targets, ridge=ridge)
    best = objective(merged.kernels, base, regularisation, ridge)
    constraints = np.concatenate(targets)
    free = np.eye(WIDTH) - np.linalg.pinv(constraints) @ constraints
    rng = np.random.default_rng(1)
    for scale in (1e-3, 0.1, 1.0):
        step = {path: free @ leaf for path, leaf in draw(rng, scale).items()}
        for sign in (1, -1):
            other = {path: merged.kernels[path] + sign * step[path] for path in base}
            np.testing.assert_allclose(
                constraints @ other["a/to_k/kernel"],
                constraints @ merged.kernels["a/to_k/kernel"],
                atol=1e-10,
            )
            assert objective(other, base, regularisation, ridge) > best


def test_the_residuals_are_mean_norms_of_rows(toy):
    base, tuned, regularisation, targets = toy
    merged = merge_kernels(base, tuned, regularisation, targets)
    norms = [
        np.linalg.norm(regularisation @ (merged.kernels[path] - base[path]), axis=1)
        for path in base
    ]
    assert merged.residual_regularisation == pytest.approx(np.mean(norms))


def test_a_ridge_keeps_the_kernels_small_and_the_constraints(toy):
    base, tuned, regularisation, targets = toy
    plain, *ridged = (
        merge_kernels(base, tuned, regularisation, targets, ridge=ridge)
        for ridge in (0.0, 1e-4, 1e-2)
    )
    assert plain.growth > ridged[0].growth > ridged[1].growth
    assert ridged[1].residual_targets < 1e-10
    assert ridged[1].residual_regularisation > plain.residual_regularisation
    merged_change, *trained = (
        np.sqrt(sum(np.square(kernels[path] - base[path]).sum() for path in base))
        for kernels in (plain.kernels, *tuned)
    )
    assert plain.growth == pytest.approx(merged_change / max(trained))


def test_an_untrained_concept_changes_nothing(toy):
    base, _, regularisation, targets = toy
    merged = merge_kernels(base, [base], regularisation, targets[:1])
    for path in base:
        np.testing.assert_allclose(merged.kernels[path], base[path], atol=1e-12)
    assert merged.residual_regularisation < 1e-12


def test_equal_target_rows_count_once(toy):
    base, tuned, regularisation, targets = toy
    twice = [np.concatenate([targets[0], targets[0][:2]]), targets[1]]
    once = merge_kernels(base, tuned, regularisation, targets)
    again = merge_kernels(base, tuned, regularisation, twice)
    for path in base:
        np.testing.assert_allclose(again.kernels[path], once.kernels[path], atol=1e-12)


def test_conflicting_targets_show_in_the_residual(toy):
    base, tuned, regularisation, targets = toy
    merged = merge_kernels(base, tuned, regularisation, [targets[0], targets[0]])
    differ = [
        np.linalg.norm(targets[0] @ (tuned[0][path] - tuned[1][path]), axis=1)
        for path in base
    ]
    assert merged.residual_targets == pytest.approx(np.mean(differ) / 2)


def test_too_little_text_is_refused_and_a_ridge_helps(toy):
    base, tuned, regularisation, targets = toy
    with pytest.raises(ValueError, match=r"The 20 rows .* span 20 of 24 .* captions"):
        merge_kernels(base, tuned, regularisation[:20], targets)
    flat = np.concatenate([regularisation[:, :-1], np.zeros((200, 1))], axis=1)
    with pytest.raises(ValueError, match=r"The 200 rows .* span 23 of 24"):
        merge_kernels(base, tuned, flat, targets)
    merged = merge_kernels(base, tuned, regularisation[:20], targets, ridge=0.01)
    assert merged.residual_targets < 1e-10


def test_too_many_or_dependent_targets_are_refused(toy):
    base, tuned, regularisation, targets = toy
    many = [regularisation[:20], regularisation[20:40]]
    with pytest.raises(ValueError, match="40 target rows; kernels of width 24"):
        merge_kernels(base, tuned, regularisation, many)
    doubled = [targets[0], 2 * targets[0]]
    with pytest.raises(ValueError, match="The 8 target rows span only 4 dimensions"):
        merge_kernels(base, tuned, regularisation, doubled)
    with pytest.raises(ValueError, match="ridge is -1"):
        merge_kernels(base, tuned, regularisation, targets, ridge=-1.0)


def test_rows_go_from_the_start_through_the_first_end():
    text = np.arange(2 * 6 * 1, dtype=np.float32).reshape(2, 6, 1)
    ids = np.array([[8, 1, 2, 9, 9, 9], [8, 1, 2, 3, 4, 9]])
    rows = token_rows(text, ids, [1, 3], eos=9)
    assert rows[:, 0].tolist() == [1, 2, 3, 9, 10, 11]


@pytest.mark.parametrize(
    ("phrase", "prompt", "expected"),
    [
        ("<v1> dog", "photo of a <v1> dog", [("<v1> dog", 1), (..., 4)]),
        ("<v1>", "painting in the style of <v1>", [("<v1>", 1), (..., 6)]),
        ("<v1> dog", "<v1> dog", [("<v1> dog", 1)]),
        ("<v1> dog", "a dog", [("<v1> dog", 1)]),
        ("<v1> cart", "photo of a <v1> cart", [("<v1> cart", 1), (..., 4)]),
    ],
)
def test_targets_are_the_phrase_and_its_place_in_the_prompt(
    emoji, phrase, prompt, expected
):
    tokenizer = add_placeholder(emoji.tokenizer, "<v1>")
    prompts = ["a dog", prompt, f"{prompt} at night"]
    if len(expected) == 1:
        prompts = [prompt]
    targets = [tuple(target) for target in target_prompts(tokenizer, phrase, prompts)]
    lead = len(emoji.tokenizer.backend(prompt.split("<")[0]).input_ids) - 1
    assert targets[0] == expected[0]
    assert targets[1:] == [(prompt, lead) for _ in expected[1:]]
