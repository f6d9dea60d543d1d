"""Cross-attention to the null text, replaced by one constant vector per layer."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.control.maps import Capture
from personax.core.tree import flat, nest
from personax.core.typing import Ids, Key, Params, Theta
from personax.diffusion.denoiser import Denoiser, encode, network
from personax.diffusion.guidance import broadcast_prompt
from personax.diffusion.sampling import sample_with_state, start_noise
from personax.diffusion.solvers import ddim
from personax.methods.parts.base import Concept, Part
from personax.methods.parts.prepared import get_prepared, put_prepared
from personax.networks.unet import cross_sites

NORMS = ("attn_mean", "token_mean")
NAME = "null_text"  # the vectors' entry in `prepared`, saved with the concept

# {site: c_l} and {site: mean attention of each head to each token}.
Vectors = Mapping[str, Float[Array, " c"]]
Attention = Mapping[str, Float[Array, "m n"]]


def null_text(norm: str = "attn_mean", *, latents: int, steps: int, seed: int) -> Part:
    """Every cross-attention as a constant c_l (Cao et al. 2023, eq. 5 and 6).

    c_l = W_out(mean_p A_p V) + b_out of the empty text, where A_p are the attention
    probabilities of query p. The paper says only that V is normalised over its tokens.
    With "attn_mean" A is the base's own attention, as in the released code, which uses
    one latent at one timestep; here it is the mean over all steps of sampling `latents`
    pictures from the empty text, with `steps` DDIM steps and the key `seed`.
    "token_mean" weights all tokens equally.

    Queries, keys, values, outputs and norm2 are dropped from the parameters, so the
    concept cannot be combined with others in one model. The part trains nothing; its
    vectors are saved with the concept.
    """
    if norm not in NORMS:
        raise ValueError(
            f"Unknown null_norm {norm!r}; expected one of {', '.join(NORMS)}."
        )
    for name, value in (("latents", latents), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        return {}

    def prepare(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
        if NAME in denoiser.prepared or corpus is None:
            return denoiser
        null = corpus[:1]
        if norm == "attn_mean":
            shape = denoiser.spec.latent_shape(*denoiser.spec.size)
            attention = _sampled(denoiser, null, shape, latents, steps, seed)
        else:
            attention = _uniform(denoiser, null)
        return put_prepared(denoiser, NAME, _vectors(denoiser, null, attention))

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        vectors = get_prepared(denoiser, NAME)
        return dataclasses.replace(denoiser, params=fold(denoiser.params, vectors))

    requires = frozenset({"null"})
    return Part(init, bind, prepare, requires=requires, saves=NAME, exclusive="model")


def fold(params: Params, vectors: Vectors) -> Params:
    """`params` with {"null": vector} in place of each cross-attention and its norm."""
    leaves = {path: leaf for path, leaf in flat(params).items() if not is_text(path)}
    for site, vector in vectors.items():
        leaves[f"unet/{site}/null"] = vector
    return nest(leaves)


def unfold(params: Params, base: Params) -> Params:
    """An ordinary UNet that ignores its text and equals the folded one.

    Projections are zero and the output's bias is the vector. norm2, whose result is not
    used, is the base's.
    """
    leaves, vectors = {}, {}
    for path, leaf in flat(params).items():
        if is_text(path):
            vectors[path.removesuffix("/null")] = leaf
        else:
            leaves[path] = leaf
    for path, leaf in flat(base).items():
        if is_text(path):
            leaves[path] = leaf if "/norm2/" in path else jnp.zeros_like(leaf)
    for site, vector in vectors.items():
        leaves[f"{site}/to_out/0/bias"] = vector
    return nest(leaves)


def reads_text(params: Params) -> bool:
    """Whether a UNet reads its text; a folded one does not."""
    unet = params.get("unet", {})
    return not any(path.endswith("/attn2/null") for path in flat(unet))


def is_text(path: str) -> bool:
    """Whether a parameter belongs to a cross-attention or to the norm before it."""
    module, _, rest = path.partition("/transformer_blocks/")
    name = rest.split("/")[1:2]
    return bool(module) and name in (["attn2"], ["norm2"])


def _sampled(
    denoiser: Denoiser,
    null: Ids,
    shape: tuple[int, int, int],
    latents: int,
    steps: int,
    seed: int,
) -> Attention:
    """The mean over queries, pictures and steps of sampling from the empty text."""
    solver = ddim()
    grid = solver.grid(denoiser.spec.schedule, steps)

    @jax.jit
    def run(denoiser: Denoiser, null: Ids, grid: Any) -> Attention:
        prompt = broadcast_prompt(encode(denoiser, null), latents)

        def eps(x, t, i):
            t = jnp.broadcast_to(t, x.shape[:1])
            return network(denoiser, x, t, prompt, controls=(Capture(),))

        def add(i, x, maps, total):
            means = {site: probs.mean(axis=(0, 2)) for site, probs in maps.items()}
            return x, jax.tree.map(lambda a, b: a + b / steps, total, means)

        x = start_noise(jax.random.key(seed), jnp.arange(latents), shape)
        x = grid.start * x
        zero = jax.tree.map(
            lambda shape: jnp.zeros((shape.shape[1], shape.shape[3])),
            jax.eval_shape(lambda x: eps(x, grid.t[0], 0)[1], x),
        )
        return sample_with_state(eps, solver, grid, x, None, add, zero)[1]

    return run(denoiser, null, grid)


def _uniform(denoiser: Denoiser, null: Ids) -> Attention:
    n = null.shape[1]
    sites = cross_sites(denoiser.params["unet"])
    return {site: jnp.full((1, n), 1 / n) for site in sites}  # all heads alike


@jax.jit
def _vectors(denoiser: Denoiser, null: Ids, attention: Attention) -> Vectors:
    encoded = encode(denoiser, null).text
    assert encoded is not None
    text = encoded[0].astype(jnp.float32)
    leaves = flat(denoiser.params)

    def vector(site: str, probs: Float[Array, "m n"]) -> Float[Array, " c"]:
        def leaf(name: str) -> Array:
            return leaves[f"unet/{site}/{name}"].astype(jnp.float32)

        m, n = probs.shape
        values = (text @ leaf("to_v/kernel")).reshape(n, m, -1)
        mean = jnp.einsum("mn,nme->me", probs, values).reshape(-1)
        return mean @ leaf("to_out/0/kernel") + leaf("to_out/0/bias")

    return {site: vector(site, probs) for site, probs in attention.items()}
