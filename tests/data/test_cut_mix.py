"""Cut-Mix: two concepts on one canvas, and the caption says which is where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.data.augment import Augmentation
from personax.data.few_shot import Example, FewShot
from personax.methods.losses import Batch
from personax.methods.unmix import _misplaced, sides
from personax.networks.vae import Posterior

pytestmark = pytest.mark.quick


def example(value, placeholder, class_word):
    pixels = np.full((32, 32, 3), value, np.uint8)
    phrase = f"{placeholder} {class_word}"
    return Example(pixels, (f"a photo of a {phrase}",), phrase, class_word)


DOG, CAT = example(255, "<v1>", "dog"), example(0, "<v2>", "cat")


def make_data(sets=((DOG,), (CAT,)), size=(32, 32), **options):
    return FewShot(
        sets,
        priors=((Example(DOG.pixels, ("a dog",)),),),
        size=size,
        factor=4,
        batch=4,
        seed=0,
        options=Augmentation(**options),
    )


def seen(data, steps=50):
    return [row for step in range(steps) for row in data.rows(step)]


def test_the_caption_names_the_left_one_first():
    orders = set()
    for row in seen(make_data(cut_mix=1.0)):
        if row.view is None:
            assert row.caption == "a dog"  # the prior's
            continue
        left, right = row.view.pixels[:, :16], row.view.pixels[:, 16:]
        assert left.std() == right.std() == 0
        names = ("<v1> dog", "<v2> cat")
        first, second = names if left.mean() > right.mean() else names[::-1]
        assert row.caption == f"a photo of a {first} and a {second}"
        assert row.plain == f"a photo of a {first[5:]} and a {second[5:]}"
        assert row.view.mask.shape == (8, 8)
        assert row.view.mask.all()
        orders.add(first)
    assert len(orders) == 2


def test_as_often_as_it_is_asked_for():
    rows = [row for row in seen(make_data(cut_mix=0.3)) if row.view is not None]
    assert len(rows) == 200
    share = np.mean([" and " in row.caption for row in rows])
    assert 0.2 < share < 0.4


def test_each_half_keeps_its_own_mask():
    masked = DOG._replace(mask=np.full((32, 32), 128, np.uint8))
    data = make_data(((masked,), (CAT,)), cut_mix=1.0)
    for row in data.rows(0):
        if row.view is not None:
            halves = row.view.mask[:, :4], row.view.mask[:, 4:]
            assert sorted(float(half.mean()) for half in halves) == pytest.approx(
                [128 / 255, 1.0]
            )


def test_without_it_nothing_is_drawn_for_it():
    plain, none = make_data(), make_data(cut_mix=0.0, cut_mix_prompt="{} beside {}")
    assert seen(plain, 5) == seen(none, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut_mix": 0.5, "sets": ((DOG,),)}, "two concepts side by side"),
        ({"cut_mix": 0.5, "cut_mix_prompt": "a {}"}, "for each of two concepts"),
        ({"cut_mix": 0.5, "size": (36, 36)}, "36 pixels do not divide by 2"),
    ],
)
def test_what_cannot_be_mixed_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_data(**changes)


WHERE = jnp.zeros((3, 2, 6), bool)
WHERE = WHERE.at[0, 0, 4].set(True).at[0, 1, 2].set(True)  # the second is left
WHERE = WHERE.at[1, 0, 3].set(True)  # alone


def test_the_sides_are_told_by_the_order_of_the_words():
    left, right = sides(WHERE)
    np.testing.assert_array_equal(left, [[False, True], [False] * 2, [False] * 2])
    np.testing.assert_array_equal(right, [[True, False], [False] * 2, [False] * 2])


def test_attention_counts_in_the_other_ones_half_alone():
    # 2 rows of 4 columns; what concept 0 (right) and concept 1 (left) attend to.
    right = np.array([[0.3, 0.1, 9, 9], [0.1, 0.1, 9, 9]], np.float32)
    left = np.array([[9, 9, 0.2, 0.4], [9, 9, 0.0, 0.0]], np.float32)
    probs = np.full((3, 1, 8, 6), 7, np.float32)
    probs[0, 0, :, 4], probs[0, 0, :, 2] = right.ravel(), left.ravel()
    want = (0.09 + 3 * 0.01 + 0.04 + 0.16) / 8
    # The heads' mean counts.
    heads = np.concatenate([probs - 0.05, probs + 0.05], axis=1)
    ours = _misplaced(jnp.asarray(heads), WHERE, 4)
    np.testing.assert_allclose(ours, want, rtol=1e-5)


def test_svdiff_adds_it_to_its_loss(tiny):
    method = methods.make("svdiff", unmix_weight=0.5)
    ready = methods.prepare(method, tiny)
    theta = methods.init(method, jax.random.key(0), tiny.params, [])
    x = jnp.zeros((3, 8, 8, 4))
    ids = jnp.full((3, 12), 63)
    where = jnp.pad(WHERE, ((0, 0), (0, 0), (0, 6)))
    keys = jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def loss(where):
        bound = methods.bind(method, ready, theta)
        return method.loss(bound, Batch(Posterior(x, x), ids, concept_mask=where), keys)

    value, metrics = loss(where)
    assert float(metrics["loss/unmix"]) > 0
    total = metrics["loss/denoising"] + 0.5 * metrics["loss/unmix"]
    np.testing.assert_allclose(value, total, rtol=1e-6)
    assert float(loss(where.at[0].set(False))[1]["loss/unmix"]) == 0
