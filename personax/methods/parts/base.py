"""A method: an ordered record of parts, which hold what is trained, and a loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array, Float

from personax.core.typing import Ids, Key, Metrics, Params, Theta
from personax.diffusion.denoiser import Denoiser


class Concept(NamedTuple):
    """What a concept is called, in words and in token ids."""

    placeholder: str  # "<v1>": the word that stands for the concept; "" without one
    class_word: str  # "dog": what kind of thing it is
    ids: tuple[int, ...]  # what the placeholder is read as: new rows, or rare words
    initial: tuple[int | None, ...]  # the rows those start from; None: drawn at random
    phrase: str = ""  # "<v1> dog": how prompts speak of it

    @property
    def handle(self) -> str:
        """The words of a prompt that are marked as the concept's."""
        return self.placeholder or self.class_word


def _same(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
    return denoiser


class Part(NamedTuple):
    """One place where theta enters a model: weights, tokens or activations.

    `init(key, params, concepts)` gives this part's theta, {} where it trains nothing;
    `bind(denoiser, theta)` gives the denoiser that has it. `prepare(denoiser, corpus)`
    does once what each bind would do again, and keeps it in `denoiser.prepared`;
    `corpus` are tokenised captions, None when a trained concept is bound. `after(base,
    theta, batch)` is theta after what no gradient tells it, at the end of each step.
    `needs` says what there must be for training: a `corpus` of "captions", or of the
    empty text alone ("null"), or "hints" in the batches. `saves` names what of
    `prepared` goes along with a concept: that which cannot be computed again where the
    concept is bound.
    """

    init: Callable[[Key, Params, Sequence[Concept]], Any]
    bind: Callable[[Denoiser, Any], Denoiser]
    prepare: Callable[[Denoiser, Ids | None], Denoiser] = _same
    after: Callable[[Denoiser, Theta, Any], Theta] | None = None
    needs: Literal["", "captions", "null", "hints"] = ""
    saves: str = ""


class Method(NamedTuple):
    """Parts, bound in order, and `loss(denoiser, batch, keys) -> (scalar, metrics)`.

    A method with a part called "tokens" gives every placeholder rows of its own.
    Without one, a placeholder is another name for the rare words that it starts from.
    """

    parts: Mapping[str, Part]
    loss: Callable[[Denoiser, Any, Key], tuple[Float[Array, ""], Metrics]]

    @property
    def adds_words(self) -> bool:
        return "tokens" in self.parts


def prepare(method: Method, denoiser: Denoiser, corpus: Ids | None = None) -> Denoiser:
    """The denoiser with all that the parts want computed once."""
    for part in method.parts.values():
        denoiser = part.prepare(denoiser, corpus)
    return denoiser


def saved(method: Method, denoiser: Denoiser) -> dict[str, Any]:
    """{name: arrays} of what the parts have prepared and want saved with the concept.

    `denoiser` is what `prepare` returned.
    """
    names = (part.saves for part in method.parts.values() if part.saves)
    return {name: denoiser.prepared[name] for name in names}


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


def after(method: Method, base: Denoiser, theta: Theta, batch: Any) -> Theta:
    """Theta after the parts' own updates; `theta` is the whole method's."""
    for part in method.parts.values():
        if part.after is not None:
            theta = part.after(base, theta, batch)
    return theta
