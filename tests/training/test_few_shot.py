"""What each step sees: a function of the seed and the step, and of nothing else."""

import dataclasses
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.images import to_float
from personax.data.augment import Augmentation
from personax.data.few_shot import Example, FewShot
from personax.diffusion.denoiser import Denoiser, encode
from personax.networks import vae
from personax.networks.tokenizer import add_placeholder, tokenize
from personax.training.batches import Batcher, CaptionTokenizer
from personax.training.sharding import make_mesh

ROWS = 8  # one for each device
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # one picture at a time, or several


def example(seed, *captions, phrase="<v1> dog", class_word="dog"):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
    captions = captions or ("a photo of a <v1> dog",)
    return Example(pixels, captions, phrase, class_word)


PAIRS = np.arange(2 * 77, dtype=np.int32).reshape(1, 2, 77)


def make_data(sets=None, priors=(), **changes) -> FewShot:
    fields = [field.name for field in dataclasses.fields(Augmentation)]
    options = Augmentation(**{k: changes.pop(k) for k in fields if k in changes})
    return FewShot(
        sets or (tuple(example(i) for i in range(3)),),
        priors=priors,
        size=(32, 32),
        factor=4,
        batch=changes.pop("rows", ROWS),
        seed=changes.pop("seed", 0),
        options=options,
        **changes,
    )


def prior(count=2):
    return tuple(
        Example(example(50 + i).pixels, (f"a dog and {i} cats",)) for i in range(count)
    )


@pytest.fixture(scope="module")
def make(emoji, tokenizer):
    """A dataset to a function from its steps to batches, on all devices."""

    def batches(data, frozen_text=None, handles=()):
        batcher = Batcher(
            data,
            emoji.params["vae"],
            emoji.spec,
            CaptionTokenizer(tokenizer, handles),
            make_mesh(),
            pairs=PAIRS,
            frozen_text=frozen_text,
        )
        return lambda step: batcher(data.step(step))

    return batches


@pytest.fixture(scope="module")
def tokenizer(emoji):
    tokenizer = add_placeholder(emoji.tokenizer, "<v1>")
    return add_placeholder(tokenizer, "<v2>")


@pytest.fixture(scope="module")
def posterior(emoji):
    """float pictures to their posteriors, all in one call."""
    return jax.jit(lambda x: vae.encode(emoji.params["vae"], emoji.spec.vae, x))


def rows(data, step):
    return list(data.rows(step))


def flown(data, steps):
    """(set, number, mirrored) of the concepts' rows over the steps, in order."""
    return [row.item for i in range(steps) for row in rows(data, i)[: data.batch]]


VARIED = {"augment": "huggingface", "flip": True, "caption_dropout": 0.2}


@pytest.mark.parametrize("options", [{}, VARIED])
def test_a_batch_depends_on_the_seed_and_the_step_alone(make, options):
    data = make_data(priors=(prior(),), **options)
    reseeded = dataclasses.replace(data, seed=1)
    one, two, other = (make(each) for each in (data, data, reseeded))
    forth = {i: one(i) for i in (0, 1, 7)}
    back = {i: two(i) for i in (7, 1, 0)}
    for i, batch in forth.items():
        jax.tree.map(np.testing.assert_array_equal, batch, back[i])
    assert not np.array_equal(forth[0].posterior.mean, forth[7].posterior.mean)
    assert not np.array_equal(forth[0].posterior.mean, other(0).posterior.mean)


def test_concepts_take_turns_whatever_their_numbers_of_pictures():
    sets = tuple(tuple(example(i) for i in range(count)) for count in (1, 2, 5))
    seen = [which for which, _, _ in flown(make_data(sets, rows=4), 30)]
    assert seen == list(itertools.islice(itertools.cycle([0, 1, 2]), 120))


def test_every_epoch_of_every_set_is_a_permutation():
    sets = tuple(tuple(example(i) for i in range(count)) for count in (5, 5))
    seen = flown(make_data(sets, rows=5), 30)
    orders = []
    for which, count in ((0, 5), (1, 5)):
        numbers = [number for each, number, _ in seen if each == which]
        epochs = np.reshape(numbers[: len(numbers) // count * count], (-1, count))
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1
        orders.append(numbers)
    assert orders[0] != orders[1]


def test_repeats_are_visits_in_every_epoch():
    repeated = tuple(example(i)._replace(repeats=n) for i, n in ((0, 1), (1, 3)))
    seen = [number for _, number, _ in flown(make_data((repeated,), rows=4), 30)]
    epochs = np.reshape(seen, (-1, 4))
    assert all(sorted(epoch) == [0, 1, 1, 1] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_picture_has_one_of_its_captions_each_about_as_often():
    captions = tuple(f"{i} photos of a <v1> dog" for i in range(4))
    data = make_data(((example(0, *captions),),))
    drawn = [row.caption for i in range(200) for row in rows(data, i)]
    counts = [drawn.count(caption) for caption in captions]
    # 400 each; three standard deviations are 52.
    assert sum(counts) == 1600
    assert max(abs(count - 400) for count in counts) < 60


def test_the_prior_s_rows_come_after_the_concept_s(make, tokenizer):
    data = make_data(priors=(prior(), prior(3)), prior_weight=0.5)
    examples = rows(data, 3)
    assert [row.item[0] for row in examples] == [0] * ROWS + [1, 2] * (ROWS // 2)
    assert all("<v1>" in row.caption for row in examples[:ROWS])
    assert all(row.caption == row.plain for row in examples[ROWS:])
    ids = tokenize(tokenizer, [row.caption for row in examples])
    np.testing.assert_array_equal(make(data)(3).ids, ids)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_weights_make_it_the_mean_plus_lambda_times_the_mean(make, weight):
    batch = make(make_data(priors=(prior(),), prior_weight=weight))(0)
    losses = np.random.default_rng(0).random(2 * ROWS)
    expected = losses[:ROWS].mean() + weight * losses[ROWS:].mean()
    assert (batch.weight * losses).mean() == pytest.approx(expected, rel=1e-6)


def test_without_a_prior_every_example_counts_alike(make):
    assert make(make_data())(0).weight is None


def test_the_kept_posterior_is_the_picture_s(make, posterior):
    data = make_data(priors=(prior(),))
    sets = (*data.concepts, *data.priors)
    for i in (0, 5):
        seen = [
            sets[which][number] for which, number, _ in (r.item for r in rows(data, i))
        ]
        expected = posterior(np.stack([to_float(each.pixels) for each in seen]))
        batch = make(data)(i).posterior
        np.testing.assert_allclose(batch.mean, expected.mean, **CLOSE)
        np.testing.assert_allclose(batch.logvar, expected.logvar, **CLOSE)


def test_a_mirrored_picture_has_the_posterior_of_its_mirror_image(make, posterior):
    data = make_data(flip=True)
    examples = rows(data, 0)
    assert {row.item[2] for row in examples} == {False, True}
    pictures = [data.concepts[0][row.item[1]].pixels for row in examples]
    turned = [
        pixels[:, ::-1] if row.item[2] else pixels
        for row, pixels in zip(examples, pictures, strict=True)
    ]
    expected = posterior(np.stack([to_float(pixels) for pixels in turned]))
    mean = make(data)(0).posterior.mean
    np.testing.assert_allclose(mean, expected.mean, **CLOSE)
    plain = posterior(np.stack([to_float(pixels) for pixels in pictures]))
    assert np.abs(mean - plain.mean).max() > 0.1


def test_half_of_the_visits_are_mirrored():
    turned = [mirrored for _, _, mirrored in flown(make_data(flip=True), 125)]
    assert sum(turned) == pytest.approx(500, abs=48)  # three standard deviations


def test_augmentation_gives_pictures_masks_and_words(make, tokenizer, posterior):
    data = make_data(augment="huggingface", priors=(prior(),))
    feed = make(data)
    steps = [(rows(data, i), feed(i)) for i in range(3)]
    for seen, batch in steps:
        mine, theirs = seen[:ROWS], seen[ROWS:]
        assert all(row.item is None for row in mine)
        np.testing.assert_array_equal(
            batch.mask[:ROWS], np.stack([row.view.mask for row in mine])
        )
        # The regularisation set stays as it is.
        assert all(row.view is None for row in theirs)
        assert (batch.mask[ROWS:] == 1).all()
        expected = posterior(np.stack([row.view.pixels for row in mine]))
        np.testing.assert_allclose(batch.posterior.mean[:ROWS], expected.mean, **CLOSE)
        ids = tokenize(tokenizer, [row.caption for row in seen])
        np.testing.assert_array_equal(batch.ids, ids)
    captions = {row.caption for seen, _ in steps for row in seen[:ROWS]}
    prefixes = {each.removesuffix("a photo of a <v1> dog").strip() for each in captions}
    assert prefixes == {"", "a far away", "very small", "zoomed in", "close up"}
    assert 0 < min(batch.mask.mean() for _, batch in steps) < 1


def test_a_picture_that_varies_is_mirrored_before_it_is_cut():
    data = make_data(crop="random", flip=True)
    seen = [row for i in range(3) for row in rows(data, i)]
    mirrored = set()
    for row in seen:
        # A picture of the canvas' size has but one crop.
        plain = [to_float(each.pixels) for each in data.concepts[0]]
        turned = [pixels[:, ::-1] for pixels in plain]
        as_it_is = any((row.view.pixels == each).all() for each in plain)
        assert as_it_is != any((row.view.pixels == each).all() for each in turned)
        mirrored.add(not as_it_is)
    assert mirrored == {False, True}


def test_half_a_batch_may_not_divide_by_the_devices(make):
    data = make_data(augment="paper", priors=(prior(),), rows=4)
    assert make(data)(0).ids.shape[0] == 8


@pytest.mark.parametrize("augment", ["none", "huggingface"])
def test_plain_ids_have_the_class_word_for_the_phrase(make, tokenizer, augment):
    sets = (
        (example(0),),
        (example(1, "a <v2> on a chair", phrase="<v2>", class_word="cat"),),
    )
    data = make_data(sets, augment=augment)
    feed = make(data)
    plain = [
        row.caption.replace("<v1> dog", "dog").replace("<v2>", "cat")
        for row in rows(data, 0)
    ]
    assert not any("<" in caption for caption in plain)
    np.testing.assert_array_equal(feed(0).plain, tokenize(tokenizer, plain))


def test_captions_are_dropped_as_often_as_asked():
    data = make_data(priors=(prior(),), caption_dropout=0.3)
    seen = [row for i in range(125) for row in rows(data, i)]
    dropped = [row.caption == "" for row in seen]
    assert sum(dropped) == pytest.approx(600, abs=62)  # three standard deviations
    assert all(row.plain == "" for row in seen if row.caption == "")
    everything = make_data(caption_dropout=1.0)
    assert {row.caption for row in rows(everything, 0)} == {""}


def test_a_dropped_caption_leaves_the_other_draws_as_they_were():
    with_all, without = make_data(flip=True), make_data(flip=True, caption_dropout=0.5)
    assert flown(with_all, 20) == flown(without, 20)


def test_frozen_texts_are_what_the_text_encoder_says(make, emoji):
    params = {name: emoji.params[name] for name in ("unet", "text_encoder")}
    base = Denoiser(params, spec=emoji.spec)
    captions = ("a photo of a dog", "a dog at night")
    sets = (tuple(example(i, *captions, phrase="dog") for i in range(2)),)
    data = make_data(sets, priors=(prior(),), caption_dropout=0.4)
    batch = make(data, base)(1)
    assert {row.caption for row in rows(data, 1)} >= {"", *captions}
    np.testing.assert_allclose(batch.text, encode(base, batch.ids).text, **CLOSE)


def test_texts_are_not_kept_where_they_train_or_vary(make, emoji):
    params = {name: emoji.params[name] for name in ("unet", "text_encoder")}
    base = Denoiser(params, spec=emoji.spec)
    sets = ((example(0, "a dog", phrase="dog"),),)
    assert make(make_data(sets))(0).text is None
    varied = make_data(sets, augment="huggingface")
    assert make(varied, base)(0).text is None


def test_the_pairs_go_along_whole(make):
    pairs = make(make_data())(0).pairs
    np.testing.assert_array_equal(pairs, PAIRS)
    assert len(pairs.sharding.device_set) == 8
    assert pairs.sharding.is_fully_replicated


def test_the_rows_lie_on_their_devices(make):
    batch = make(make_data(priors=(prior(),), **VARIED))(0)
    for leaf in jax.tree.leaves(batch._replace(pairs=None)):
        assert len(leaf.addressable_shards) == 8
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {2}


@pytest.mark.parametrize("options", [{}, {"crop": "random"}, VARIED])
def test_nothing_is_compiled_after_the_first_step(make, options, caplog):
    feed = make(make_data(priors=(prior(),), **options))
    feed(0)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for i in range(1, 5):
            feed(i)
        assert not [each for each in caplog.messages if "ompil" in each]
        # What the log would have shown:
        jax.jit(lambda x: x + 3)(jnp.zeros(3)).block_until_ready()
        assert [each for each in caplog.messages if "ompil" in each]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"augment": "paper", "shrink": (0.1, 1.0)}, "no whole latent cell"),
        ({"cut_mix": 0.5}, "there is only one"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_data(**options)


def test_the_tokens_of_every_concept_are_marked_and_none_of_a_prior_s(make):
    caption = "a <v1> dog next to a <v2> cat"
    sets = ((example(0, caption),),)
    data = make_data(sets, (prior(),))
    batch = make(data, handles=("<v1>", "<v2>", "dog"))(0)
    ids, marks = np.asarray(batch.ids), np.asarray(batch.concept_mask)
    assert marks.shape == (2 * ROWS, 3, ids.shape[1])
    assert not marks[ROWS:].any()
    for row, mark in zip(ids[:ROWS], marks[:ROWS], strict=True):
        first, second, dog = (np.flatnonzero(each) for each in mark)
        assert list(first) == [2]
        assert list(dog) == [3]
        assert list(second) == [7]
        assert row[7] == row[2] + 1


def half():
    """A mask of the left half."""
    return np.repeat([[255] * 16 + [0] * 16], 32, axis=0).astype(np.uint8)


def test_a_mask_weighs_the_cells_that_it_covers(make):
    masked = tuple(example(i)._replace(mask=half()) for i in range(3))
    masks = np.asarray(make(make_data((masked,)))(0).mask)
    assert masks.shape == (ROWS, 8, 8)
    np.testing.assert_array_equal(masks[0], [[1] * 4 + [0] * 4] * 8)


def test_a_mirrored_picture_has_a_mirrored_mask(make):
    data = make_data(((example(0)._replace(mask=half()),),), flip=True)
    masks = np.asarray(make(data)(0).mask)
    for row, mask in zip(data.rows(0), masks, strict=True):
        assert mask[0, 0] == (not row.item[2])
    assert 0 < masks[:, 0, 0].mean() < 1


def test_a_mask_goes_with_its_picture_through_augmentation(make):
    white = np.where(half()[..., None] > 0, 255, 0).repeat(3, -1).astype(np.uint8)
    each = example(0)._replace(pixels=white, mask=half())
    data = make_data(((each,),), augment="paper")
    for step in range(3):
        masks = np.asarray(make(data)(step).mask)
        for row, mask in zip(data.rows(step), masks, strict=True):
            light = row.view.pixels[..., 0].reshape(8, 4, 8, 4).mean((1, 3))
            # Cells that count fully show white alone, and black ones do not count.
            assert (light[mask > 0.99] > 0.8).all()
            assert (mask[light < -0.99] < 0.01).all()


def test_without_masks_or_augmentation_there_is_no_mask(make):
    assert make(make_data())(0).mask is None


def test_the_fingerprint_sees_every_pixel_the_shape_and_the_masks():
    pixels = [np.zeros((32, 48, 3), np.uint8), np.ones((40, 40, 3), np.uint8)]
    other = [pixels[0].copy(), pixels[1]]
    other[0][3, 5, 2] = 1
    turned = [pixels[0].reshape(48, 32, 3), pixels[1]]

    def fingerprint(pictures, **changes):
        examples = (example(0)._replace(pixels=each, **changes) for each in pictures)
        return make_data((tuple(examples),)).fingerprint()

    prints = [fingerprint(each) for each in (pixels, other, turned, pixels[::-1])]
    assert len({each["pictures 0"] for each in prints}) == 4
    assert fingerprint([each.copy() for each in pixels]) == prints[0]
    assert "masks 0" not in prints[0]
    masked = make_data(((example(0)._replace(mask=half()),),)).fingerprint()
    assert masked.keys() == {"pictures 0", "masks 0"}


def test_the_fingerprint_sees_own_captions_and_repeats():
    def fingerprint(**changes):
        data = make_data(((example(0)._replace(**changes),),), own_captions=True)
        return data.fingerprint()

    prints = [fingerprint(captions=("a",)), fingerprint(captions=("b",))]
    prints.append(fingerprint(captions=("a",), repeats=2))
    assert len({each["captions 0"] for each in prints}) == 3
