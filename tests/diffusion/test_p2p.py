"""Prompt-to-Prompt's laws on the tiny model; tolerance 1e-5 where floats differ."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.control.maps import Borrow, Capture
from personax.diffusion import p2p, paired
from personax.diffusion.denoiser import FROZEN, Prompt, predict
from personax.diffusion.guidance import Term, cfg, complete, guide
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Follow, Stream
from personax.diffusion.sampling import sample, start_noise
from personax.diffusion.solvers import SOLVERS, ddim
from personax.networks.unet import UNetConfig, cross_sites

N, STEPS, IMAGES = 12, 3, 2
TOLERANCE = 1e-5
X = start_noise(jax.random.key(0), jnp.arange(IMAGES), (8, 8, 4))


@pytest.fixture(scope="module")
def prompts():
    """Null, source and edits."""
    keys = jax.random.split(jax.random.key(1), 5)
    return [Prompt(jax.random.normal(key, (1, N, 24))) for key in keys]


@pytest.fixture(scope="module")
def grid(tiny_spec):
    return ddim().grid(tiny_spec.schedule, STEPS)


def terms(prompts, *chosen):
    conditional = [Term(prompts[k], jnp.float32(2.0)) for k in chosen]
    return tuple(complete(conditional, prompts[0]))


def follow(cross=1.0, within=1.0, scale=1.0):
    """The identity on tokens, scaled, at all steps or a share."""
    return Follow(
        jnp.eye(N) * scale,
        jnp.zeros(N),
        jnp.full((STEPS, N), cross),
        jnp.full((STEPS,), within),
        16,
    )


TRACES = []  # one entry for every compilation of `draw`


@jax.jit
def draw(denoiser, streams, grid, x, blend=None):
    TRACES.append(len(streams))
    return p2p.draw({"base": denoiser}, streams, ddim(), grid, x, blend=blend)


@jax.jit
def plain(denoiser, terms, grid, x):
    return sample(guide({"base": denoiser}, terms), ddim(), grid, x)


def pair_of(prompts, edit, how):
    return [Stream(terms(prompts, 1)), Stream(terms(prompts, edit), (None, how))]


def test_the_same_prompt_gives_the_same_picture(tiny, grid, prompts):
    source, edit = draw(tiny, pair_of(prompts, 1, follow()), grid, X)
    np.testing.assert_allclose(source, edit, atol=TOLERANCE)


def test_amount_zero_is_plain_sampling(tiny, grid, prompts):
    drawn = draw(tiny, pair_of(prompts, 2, follow(0.0, 0.0)), grid, X)
    for stream, prompt in zip(drawn, (1, 2), strict=True):
        alone = plain(tiny, terms(prompts, prompt), grid, X)
        np.testing.assert_allclose(stream, alone, atol=TOLERANCE)


def test_following_moves_the_edit_and_never_the_source(tiny, grid, prompts):
    source, edit = draw(tiny, pair_of(prompts, 2, follow()), grid, X)
    np.testing.assert_allclose(
        source, plain(tiny, terms(prompts, 1), grid, X), atol=TOLERANCE
    )
    assert jnp.abs(edit - plain(tiny, terms(prompts, 2), grid, X)).max() > 1e-2


def test_several_edits_at_once_are_each_alone(tiny, grid, prompts):
    hows = follow(0.0, 1.0), follow(1.0, 0.0, scale=-2.0)
    pairs = [pair_of(prompts, 2 + k, how) for k, how in enumerate(hows)]
    together = draw(tiny, [pairs[0][0], pairs[0][1], pairs[1][1]], grid, X)
    for k, streams in enumerate(pairs):
        alone = draw(tiny, streams, grid, X)
        np.testing.assert_allclose(together[1 + k], alone[1], atol=TOLERANCE)


def test_schedules_and_factors_compile_nothing(tiny, grid, prompts):
    draw(tiny, pair_of(prompts, 2, follow(0.5)), grid, X)
    before = len(TRACES)
    draw(tiny, pair_of(prompts, 3, follow(0.0, 0.3, scale=-1.0)), grid, X + 1)
    assert len(TRACES) == before


def test_each_term_borrows_from_the_sources_same_term(tiny, prompts):
    """Under generalised guidance; every prediction apart, against the pair's."""
    how = follow(0.7, 0.6, scale=1.5)
    source, edit = terms(prompts, 1, 2), terms(prompts, 3, 4)
    streams = [Stream(source), Stream(edit, (None, how, how))]
    x, t, i = jnp.concatenate([X, X + 0.3]), jnp.array(500.0), jnp.array(1)

    @jax.jit
    def ours(denoiser, x):
        return paired.pair({"base": denoiser}, streams, keep=(Capture(),))(x, t, i)

    @functools.partial(jax.jit, static_argnames="controls")
    def one(x, prompt, controls=(), borrows=(), maps={}):  # noqa: B006
        prompt = Prompt(jnp.broadcast_to(prompt.text, (IMAGES, N, 24)))
        time = jnp.full((IMAGES,), t)
        offered = {"source": maps}
        controls = (*borrows, *controls)
        return predict(tiny, x, time, prompt, controls=controls, maps=offered)

    total = source[0].weight * jnp.stack([one(z, prompts[0])[0] for z in (X, X + 0.3)])
    captured = {}
    for j in (1, 2):
        captures = (Capture(), Capture(kind="self"))
        a, maps = one(X, source[j].prompt, captures)
        mapper = 0.7 * how.mapper
        borrows = (
            Borrow(mapper, jnp.full(N, 0.3), source="source"),
            Borrow(
                amount=jnp.float32(0.6), source="source", kind="self", max_pixels=16
            ),
        )
        b, captured[j] = one(X + 0.3, edit[j].prompt, (Capture(),), borrows, maps)
        total += 2.0 * jnp.stack([a, b])
    eps, maps = ours(tiny, x)
    np.testing.assert_allclose(eps, total.reshape(x.shape), atol=TOLERANCE)
    assert set(maps) == {0, 1}
    assert set(maps[1]) == {1, 2}
    for j, sites in captured.items():
        for name, probs in sites.items():
            np.testing.assert_allclose(maps[1][j][name], probs, atol=TOLERANCE)


def test_a_pair_is_infusion_with_a_trajectory_of_its_own(tiny, prompts):
    """On one latent it predicts what a denoiser with a reference predicts."""
    other = jax.tree.map(lambda leaf: 0.9 * leaf, tiny.params)
    custom = tiny.replace(params=other, controls=(Borrow(source=FROZEN),))
    marked = prompts[1]._replace(concept_mask=jnp.ones((1, 1, N), bool))
    source = tuple(complete([Term(prompts[1], jnp.float32(2.0))], prompts[0]))
    edit = tuple(
        complete([Term(marked, jnp.float32(2.0), "v")], prompts[0], denoiser="v")
    )
    streams = [Stream(source), Stream(edit, (None, Follow()))]
    t, i = jnp.array(500.0), jnp.array(0)

    @jax.jit
    def both(x):
        models = {"base": tiny, "v": custom}
        eps, _ = paired.pair(models, streams, offer=FROZEN)(
            jnp.tile(x, (2, 1, 1, 1)), t, i
        )
        following = custom.replace(reference=tiny)
        return eps[IMAGES:], guide({"v": following}, edit)(x, t, i)[0]

    np.testing.assert_allclose(*both(X), atol=TOLERANCE)


@jax.jit
def first(denoiser, stream, i):
    """The noise of a source without edits."""
    return paired.pair({"base": denoiser}, [stream])(X, jnp.array(500.0), i)[0]


def test_the_null_text_may_differ_from_step_to_step(tiny, prompts):
    nulls = 3, 0, 4
    text = jnp.stack([prompts[k].text for k in nulls])
    stream = Stream(terms(prompts, 1), null=text)
    for i, k in enumerate(nulls):
        fixed = Stream(tuple(cfg(prompts[1], prompts[k], jnp.float32(2.0))))
        ours, theirs = (first(tiny, each, jnp.array(i)) for each in (stream, fixed))
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def test_texts_may_differ_by_layer(tiny, prompts):
    sites = len(cross_sites(tiny.params["unet"]))
    layered = prompts[1]._replace(text=jnp.tile(prompts[1].text, (sites, 1, 1, 1)))
    streams = (
        Stream(terms([prompts[0], prompt], 1)) for prompt in (prompts[1], layered)
    )
    ours, theirs = (first(tiny, stream, jnp.array(0)) for stream in streams)
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def test_solvers_that_draw_draw_the_same_for_all(tiny, prompts, tiny_spec, monkeypatch):
    monkeypatch.setattr(paired, "pair", lambda *_, **__: lambda x, t, i: (0.1 * x, {}))
    solver = SOLVERS["euler_ancestral"]
    grid = solver.grid(tiny_spec.schedule, STEPS)
    keys = jax.random.split(jax.random.key(3), IMAGES)
    streams = pair_of(prompts, 1, follow())
    drawn = p2p.draw({"base": tiny}, streams, solver, grid, X, keys)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert jnp.abs(drawn[:, 0] - drawn[:, 1]).max() > 0.1


def blend(threshold=0.3, start=0, words=(2,), subtract=()):
    def mask(tokens):
        return jnp.zeros((2, 2, N)).at[:, 1, jnp.array(tokens, int)].set(1)

    return Blend(
        mask(words),
        jnp.full(2, threshold),
        mask(subtract),
        jnp.float32(0.3),
        jnp.int32(start),
    )


def test_a_blend_without_room_gives_the_source(tiny, grid, prompts):
    streams = pair_of(prompts, 2, follow(0.5, 0.0))
    source, edit = draw(tiny, streams, grid, X, blend(threshold=1.0))
    np.testing.assert_array_equal(source, edit)


def test_a_blend_everywhere_or_after_the_last_step_changes_nothing(tiny, grid, prompts):
    streams = pair_of(prompts, 2, follow(0.5, 0.0))
    without = draw(tiny, streams, grid, X)
    for chosen in (blend(threshold=0.0), blend(threshold=1.0, start=STEPS)):
        blended = draw(tiny, streams, grid, X, chosen)
        np.testing.assert_allclose(blended, without, atol=TOLERANCE)


def maps(spot, other=None):
    """Cross-attention of 4x4 places: each of the word's tokens attends to one place."""
    probs = np.full((1, 2, 16, N), 1e-3, np.float32)
    probs[:, :, spot, 2] = 1
    if other is not None:
        probs[:, :, other, 5] = 1
    name = "down_blocks/1/attentions/0/transformer_blocks/0/attn2"
    mid = "mid_block/attentions/0/transformer_blocks/0/attn2"
    return {1: {name: jnp.asarray(probs), mid: jnp.ones((1, 2, 16, N))}}


def test_the_mask_is_both_words_places_and_their_neighbours():
    post, carry = p2p.make_post(blend(), (4, 4), 1)
    x = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))])
    captured = {0: maps(0), 1: maps(15)}  # the source's corner, the edit's corner
    post = jax.jit(post)
    out, carry = post(jnp.array(0), x, captured, carry)
    expected = np.zeros((8, 8))
    expected[:4, :4] = expected[4:, 4:] = 1  # 2x2 places of 4x4, on 8x8 latents
    np.testing.assert_array_equal(out[1, ..., 0], expected)
    np.testing.assert_array_equal(out[0], 0)
    # The maps of earlier steps count.
    out, _ = post(jnp.array(1), x, {0: maps(0), 1: maps(12)}, carry)
    expected[4:, :4] = 1
    np.testing.assert_array_equal(out[1, ..., 0], expected)


def test_subtracted_words_are_left_alone_without_their_neighbours():
    post, carry = p2p.make_post(blend(subtract=(5,)), (4, 4), 1)
    x = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))])
    out, _ = post(jnp.array(0), x, {0: maps(0, 0), 1: maps(0, 0)}, carry)
    expected = np.zeros((8, 8))
    expected[:4, :4] = 1
    expected[:2, :2] = 0
    np.testing.assert_array_equal(out[1, ..., 0], expected)


def test_thresholds_are_the_sources_and_the_edits():
    chosen = blend().replace(threshold=jnp.array([1.0, 0.3]))
    post, carry = p2p.make_post(chosen, (4, 4), 1)
    x = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))])
    out, _ = post(jnp.array(0), x, {0: maps(0), 1: maps(15)}, carry)
    expected = np.zeros((8, 8))
    expected[4:, 4:] = 1
    np.testing.assert_array_equal(out[1, ..., 0], expected)


def test_resolutions_are_shares_of_the_side_down_to_what_there_is(emoji):
    sd, small = UNetConfig(), emoji.spec.unet
    assert p2p.pixel_limit(sd, 64, 64, 0.5) == 32**2
    assert p2p.pixel_limit(sd, 64, 64, 0.25) == 16**2
    assert p2p.pixel_limit(sd, 64, 64, 0.0) == 8**2
    assert p2p.pixel_limit(small, 8, 8, 0.5) == 4**2
    assert p2p.pixel_limit(small, 8, 8, 0.25) == 4**2
    assert p2p.blend_side(sd, (1, 64, 64, 4)) == (16, 16)
    assert p2p.blend_side(sd, (1, 96, 64, 4)) == (24, 16)
    assert p2p.blend_side(small, (1, 8, 8, 8)) == (4, 4)
    with pytest.raises(ValueError, match="share"):
        p2p.pixel_limit(sd, 64, 64, 1.5)


def test_pairs_that_do_not_match_are_refused(tiny, prompts):
    models = {"base": tiny}
    source = Stream(terms(prompts, 1))
    with pytest.raises(ValueError, match="2 terms; a stream has 3"):
        paired.pair(models, [source, Stream(terms(prompts, 2, 3), (None,) * 3)])
    with pytest.raises(ValueError, match="must be empty"):
        paired.pair(models, [Stream(terms(prompts, 1), (None, follow()))])
    with pytest.raises(KeyError, match="expected one of v"):
        paired.pair({"v": tiny}, [source])
