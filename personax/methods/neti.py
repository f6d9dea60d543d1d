"""NeTI (Alaluf et al. 2023): a mapper from (timestep, layer) to an embedding."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from personax.core.typing import ConceptMask, Key, Params, Text, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods import losses
from personax.methods.arguments import Share, SizeOrNone, Weight
from personax.methods.losses import Loss
from personax.methods.parts.base import Concept, Method, Part, forwards
from personax.methods.parts.conditioned_tokens import check_single
from personax.networks.layers import dense, init_dense, init_norm, keys_for, layer_norm
from personax.networks.unet import cross_sites

# Standard deviations of the Fourier frequencies, for t in [0, 1000) and for layers.
SIGMA_T, SIGMA_LAYER = 0.03, 2.0
FREQUENCIES = 1024
TIME_ANCHORS = 10
HIDDEN = 128


@forwards(losses.denoising)
def neti(
    *,
    bypass: Weight = 0.2,
    dropout: Share = 0.5,
    truncate: SizeOrNone = 0,
    **denoising,
) -> Method:
    """A mapper of (t, layer) to the embedding of V* and a change of its encoding.

    The embedding is scaled to the norm of the word that the placeholder starts from,
    the class word. `bypass` is the weight of the mapper's second output, which is added
    to the text encoder's output at V*, both as unit vectors; 0 turns it off. With
    probability `dropout` an example is trained with only the first few hidden units,
    which orders them: at sampling, `truncate` keeps that many (0: all), and fewer are
    easier to edit but resemble the concept less. SD 1.5: 563,616 parameters.
    `denoising` are the options of `losses.denoising`.
    """
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout is {dropout}; it must be in [0, 1].")
    if not 0 <= truncate <= HIDDEN:
        raise ValueError(f"truncate is {truncate}; it must be in [0, {HIDDEN}].")
    loss = with_nested_dropout(losses.denoising(**denoising), dropout)
    return Method({"mapper": _part(bypass, truncate)}, loss)


@struct.dataclass
class Mapper:
    """A `TokenConditioner` with a mapper per concept.

    Concept k has the row `concept_offset` + k of the concept mask. Only the first
    `num_hidden` hidden units are used, one number for each prompt of the batch or for
    all; None means all units.
    """

    params: Params  # leaves "k …"
    num_hidden: Int[Array, " e"] | None
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
        # The placeholder's own embedding is the class word's.
        norm = _norm(x)
        for mask, output in self._outputs(concept_mask, t, layer):
            word, _ = jnp.split(output, 2, axis=-1)
            embedding = (_unit(word)[:, None] * norm).astype(x.dtype)
            x = jnp.where(mask[..., None], embedding, x)
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
        norm = _norm(states)
        for mask, output in self._outputs(concept_mask, t, layer):
            _, v = jnp.split(output, 2, axis=-1)
            direction = _unit(_unit(states) + self.bypass * _unit(v)[:, None])
            states = jnp.where(mask[..., None], direction * norm, states)
        return states

    def _outputs(
        self, concept_mask: ConceptMask, t: Float[Array, " b"], layer: Int[Array, " b"]
    ) -> Iterator[tuple[Bool[Array, "b n"], Float[Array, "b d2"]]]:
        """(the mask, the mapper's output) of each concept."""
        num_hidden = self.num_hidden
        if num_hidden is not None:
            # Rows are the batch's prompts, repeated for each layer.
            num_hidden = jnp.tile(num_hidden, layer.shape[0] // num_hidden.shape[0])
        x = encoding(t * (1000 / self.steps), layer)
        count = jax.tree.leaves(self.params)[0].shape[0]
        for k in range(count):
            own = jax.tree.map(lambda leaf, k=k: leaf[k], self.params)
            mask = concept_mask[self.concept_offset + k]
            yield mask, apply_mapper(own, x, num_hidden)


def apply_mapper(
    params: Params, x: Float[Array, "b f"], num_hidden: Int[Array, " b"] | None = None
) -> Float[Array, "b d2"]:
    """A mapper's output for an `encoding`, with its first `num_hidden` units only."""
    y = dense(params["input"], x)
    for i in ("0", "1"):
        y = layer_norm(params["norm"][i], dense(params["hidden"][i], y))
        y = jax.nn.leaky_relu(y, 0.01)
    if num_hidden is not None:
        y = jnp.where(jnp.arange(HIDDEN)[None] < num_hidden[:, None], y, 0)
    return dense(params["output"], y)


def init_mapper(key: Key, layers: int, width: int) -> Params:
    """A mapper for `layers` cross-attention layers and a text encoder of `width`.

    The first layer compares (t, layer) with ten anchors per cross-attention layer.
    """
    keys = keys_for(key, "input", "0", "1", "output")
    steps = jnp.arange(TIME_ANCHORS, dtype=jnp.float32) * (1000 / TIME_ANCHORS)
    indices = jnp.tile(jnp.arange(layers), TIME_ANCHORS)
    anchors = encoding(jnp.repeat(steps, layers), indices)
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
    """Random Fourier features of (t, layer), with t in [0, 1000), as unit vectors."""
    over_t, over_layers = _frequencies()
    angles = t[:, None] * over_t[None] + layer[:, None] * over_layers[None]
    features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return features / FREQUENCIES**0.5


def with_nested_dropout(loss: Loss, probability: float) -> Loss:
    """`loss` with nested dropout (Rippel et al. 2014) in the mapper bound last.

    With this probability an example uses only its first j hidden units, j uniform in
    [0, HIDDEN). The draw depends on the example's key alone.
    """

    def draw(key: Key) -> Int[Array, ""]:
        # A stream of its own, apart from the keys that `losses.draws` splits.
        drops, index = jax.random.split(jax.random.fold_in(key, 100))
        j = jax.random.randint(index, (), 0, HIDDEN)
        return jnp.where(jax.random.bernoulli(drops, probability), j, HIDDEN)

    def dropped(denoiser, batch, keys):
        *others, own = denoiser.token_conditioners
        own = dataclasses.replace(own, num_hidden=jax.vmap(draw)(keys))
        return loss(
            dataclasses.replace(denoiser, token_conditioners=(*others, own)),
            batch,
            keys,
        )

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
            num_hidden=jnp.array([truncate]) if truncate else None,
            bypass=bypass,
            steps=denoiser.spec.schedule.num_train_timesteps,
            concept_offset=denoiser.concept_offset,
        )
        return dataclasses.replace(
            denoiser, token_conditioners=(*denoiser.token_conditioners, words)
        )

    return Part(init, bind)


@functools.cache
def _frequencies() -> tuple[Float[np.ndarray, " w"], Float[np.ndarray, " w"]]:
    # They are neither trained nor saved. Of all generators, jax.random included, only
    # RandomState guarantees the same numbers forever (numpy's NEP 19).
    drawn = np.random.RandomState(0).standard_normal((2, FREQUENCIES))
    sigmas = np.array([[SIGMA_T], [SIGMA_LAYER]])
    over_t, over_layers = (sigmas * drawn).astype(np.float32)
    return over_t, over_layers


def _norm(x: Text) -> Float[Array, "b n 1"]:
    return jnp.linalg.norm(x.astype(jnp.float32), axis=-1, keepdims=True)


def _unit(x: Float[Array, "*rest d"]) -> Float[Array, "*rest d"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
