"""A method: an ordered record of parts, which hold what is trained, and a loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from personax.denoiser import Denoiser
from personax.typing import Key, Metrics, Params, Theta


class Concept(NamedTuple):
    """What a concept is called, in words and in token ids."""

    placeholder: str  # "<v1>": the word that stands for the concept
    class_word: str  # "dog": what kind of thing it is
    ids: tuple[int, ...]  # the placeholder's rows, at and above the vocabulary's size
    initial: tuple[int, ...]  # the rows that those start from, one each


class Part(NamedTuple):
    """One place where theta enters a model: weights, tokens or activations.

    `init(key, params, concepts)` gives this part's theta, {} where it trains nothing;
    `bind(denoiser, theta)` gives the denoiser that has it.
    """

    init: Callable[[Key, Params, Sequence[Concept]], Any]
    bind: Callable[[Denoiser, Any], Denoiser]


class Method(NamedTuple):
    """Parts, bound in order, and `loss(denoiser, batch, key) -> (scalar, metrics)`."""

    parts: Mapping[str, Part]
    loss: Callable[[Denoiser, Any, Key], tuple[Float[Array, ""], Metrics]]


def init(
    method: Method, key: Key, params: Params, concepts: Sequence[Concept]
) -> Theta:
    """{part: its theta}, float32, without the parts that train nothing."""
    keys = jax.random.split(key, len(method.parts))
    theta = {
        name: part.init(keys[i], params, concepts)
        for i, (name, part) in enumerate(method.parts.items())
    }
    return {name: leaves for name, leaves in theta.items() if leaves}


def bind(method: Method, base: Denoiser, theta: Theta) -> Denoiser:
    """The base with every part bound to it, in order; differentiable in theta."""
    denoiser = base
    for name, part in method.parts.items():
        denoiser = part.bind(denoiser, theta.get(name, {}))
    return denoiser
