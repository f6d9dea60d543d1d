"""NeTI (Alaluf et al. 2023): a small network says the word, by time and layer."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from personax.core.typing import ConceptMask, Key, Params, Text, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods import losses
from personax.methods.losses import Loss
from personax.methods.parts.base import Concept, Method, Part
from personax.methods.parts.conditioned_tokens import check_single
from personax.networks.layers import dense, init_dense, init_norm, keys_for, layer_norm
from personax.networks.unet import cross_sites

# Deviations of the Fourier frequencies, of timesteps out of 1,000 and of layers.
SIGMA_T, SIGMA_LAYER = 0.03, 2.0
FREQUENCIES = 1024
TIME_ANCHORS = 10
HIDDEN = 128


def neti(
    *,
    bypass: float = 0.2,
    dropout: float = 0.5,
    truncate: int = 0,
    **denoising,
) -> Method:
    """A mapper of (t, layer) to the embedding of V*, and to a change of its encoding.

    The embedding is as long as that of the word which the placeholder starts from: the
    class word. `bypass` is how much of the mapper's second half is added to what the
    encoder says at V*, of both as unit vectors; 0 is without. With the chance `dropout`
    an example is trained on the first few of the mapper's hidden values only, so that
    they are ordered: when it is sampled, `truncate` keeps that many, 0 all, and fewer
    are easier to edit and less like the concept. SD 1.5: 563,616 numbers. `denoising`
    are the options of `losses.denoising`.
    """
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout is {dropout}; it is a chance, from 0 to 1.")
    if not 0 <= truncate <= HIDDEN:
        raise ValueError(f"truncate is {truncate}; it must be from 0 to {HIDDEN}.")
    loss = nested(losses.denoising(**denoising), dropout)
    return Method({"mapper": _part(bypass, truncate)}, loss)


@struct.dataclass
class Mapper:
    """Words that a mapper per concept says; concept k is row `first` + k of the marks.

    `kept` is how many of the hidden values count, for each prompt of the batch or for
    all of them alike; None is all.
    """

    params: Params  # leaves "k …"
    kept: Int[Array, " e"] | None
    bypass: float = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)
    concept_offset: int = struct.field(pytree_node=False)
    by_layer: bool = struct.field(pytree_node=False, default=True)

    def embed(
        self,
        x: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        # What stands there is the class word's embedding.
        length = _length(x)
        for marked, said in self._said(concept_mask, t, layer):
            word, _ = jnp.split(said, 2, axis=-1)
            said = (_unit(word)[:, None] * length).astype(x.dtype)
            x = jnp.where(marked[..., None], said, x)
        return x

    def after(
        self,
        states: Text,
        concept_mask: ConceptMask,
        t: Float[Array, " b"],
        layer: Int[Array, " b"],
    ) -> Text:
        if not self.bypass:
            return states
        length = _length(states)
        for marked, said in self._said(concept_mask, t, layer):
            _, v = jnp.split(said, 2, axis=-1)
            said = _unit(states) + self.bypass * _unit(v)[:, None]
            states = jnp.where(marked[..., None], _unit(said) * length, states)
        return states

    def _said(
        self, concept_mask: ConceptMask, t: Float[Array, " b"], layer: Int[Array, " b"]
    ):
        """(its marks, what its mapper says) of each concept."""
        kept = self.kept
        if kept is not None:
            # Rows are the batch's prompts, once for each layer.
            kept = jnp.tile(kept, layer.shape[0] // kept.shape[0])
        x = encoding(t * (1000 / self.steps), layer)
        count = jax.tree.leaves(self.params)[0].shape[0]
        for k in range(count):
            own = jax.tree.map(lambda leaf, k=k: leaf[k], self.params)
            yield concept_mask[self.concept_offset + k], mapped(own, x, kept)


def mapped(
    params: Params, x: Float[Array, "b f"], kept: Int[Array, " b"] | None = None
) -> Float[Array, "b d2"]:
    """What a mapper says of an `encoding`, with its first `kept` hidden values only."""
    y = dense(params["input"], x)
    for i in ("0", "1"):
        y = layer_norm(params["norm"][i], dense(params["hidden"][i], y))
        y = jax.nn.leaky_relu(y, 0.01)
    if kept is not None:
        y = jnp.where(jnp.arange(HIDDEN)[None] < kept[:, None], y, 0)
    return dense(params["output"], y)


def init_mapper(key: Key, layers: int, width: int) -> Params:
    """A mapper for a UNet of so many cross-attention layers and a text so wide.

    The first layer compares (t, layer) with anchors, ten times for each layer.
    """
    keys = keys_for(key, "input", "0", "1", "output")
    steps = jnp.arange(TIME_ANCHORS, dtype=jnp.float32) * (1000 / TIME_ANCHORS)
    numbers = jnp.tile(jnp.arange(layers), TIME_ANCHORS)
    anchors = encoding(jnp.repeat(steps, layers), numbers)
    count = TIME_ANCHORS * layers
    first = init_dense(keys["input"], 2 * FREQUENCIES, count)
    return {
        "input": {**first, "kernel": anchors.T},
        "hidden": {
            "0": init_dense(keys["0"], count, HIDDEN),
            "1": init_dense(keys["1"], HIDDEN, HIDDEN),
        },
        "norm": {i: init_norm(HIDDEN) for i in ("0", "1")},
        "output": init_dense(keys["output"], HIDDEN, 2 * width),
    }


def encoding(t: Float[Array, " b"], layer: Int[Array, " b"]) -> Float[Array, "b f"]:
    """Random Fourier features of (t, layer), t out of 1,000, as unit vectors."""
    over_t, over_layers = _frequencies()
    angles = t[:, None] * over_t[None] + layer[:, None] * over_layers[None]
    features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return features / FREQUENCIES**0.5


def nested(loss: Loss, chance: float) -> Loss:
    """`loss` with nested dropout (Rippel et al. 2014) in the mapper bound last.

    With that chance only the first j of an example's hidden values count, j drawn from
    0 to all but one; what is drawn is the example's own, whatever the batch.
    """

    def draw(key: Key) -> Int[Array, ""]:
        # Apart from the numbers that `losses.draws` splits off.
        drops, index = jax.random.split(jax.random.fold_in(key, 100))
        j = jax.random.randint(index, (), 0, HIDDEN)
        return jnp.where(jax.random.bernoulli(drops, chance), j, HIDDEN)

    def dropped(denoiser, batch, keys):
        *others, own = denoiser.words
        own = own.replace(kept=jax.vmap(draw)(keys))
        return loss(denoiser.replace(words=(*others, own)), batch, keys)

    return dropped


def _part(bypass: float, truncate: int) -> Part:
    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        check_single(concepts)
        embeddings = params["text_encoder"]["text_model"]["embeddings"]
        width = embeddings["position_embedding"]["embedding"].shape[1]
        layers = len(cross_sites(params["unet"]))
        make = functools.partial(init_mapper, layers=layers, width=width)
        return jax.vmap(make)(jax.random.split(key, len(concepts)))

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        words = Mapper(
            theta,
            kept=jnp.array([truncate]) if truncate else None,
            bypass=bypass,
            steps=denoiser.spec.schedule.num_train_timesteps,
            concept_offset=denoiser.concept_offset,
        )
        return denoiser.replace(words=(*denoiser.words, words))

    return Part(init, bind)


@functools.cache
def _frequencies() -> tuple[Float[np.ndarray, " w"], Float[np.ndarray, " w"]]:
    # They do not train and are in no file: this generator's numbers never change
    # (numpy's NEP 19), which can be said of no other, jax.random included.
    drawn = np.random.RandomState(0).standard_normal((2, FREQUENCIES))
    sigmas = np.array([[SIGMA_T], [SIGMA_LAYER]])
    over_t, over_layers = (sigmas * drawn).astype(np.float32)
    return over_t, over_layers


def _length(x: Text) -> Float[Array, "b n 1"]:
    return jnp.linalg.norm(x.astype(jnp.float32), axis=-1, keepdims=True)


def _unit(x: Float[Array, "*rest d"]) -> Float[Array, "*rest d"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
