"""The `Method` record: ordered parts, which hold theta, and a loss."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
from jaxtyping import Array, Float

from personax.core.typing import Ids, Key, Metrics, Params, Theta
from personax.diffusion.denoiser import Denoiser

Recipe = TypeVar("Recipe", bound=Callable[..., Any])


class Concept(NamedTuple):
    """The words and token ids of a concept."""

    placeholder: str  # "<v1>": the word that stands for the concept; "" without one
    class_word: str  # "dog": the kind of thing it is
    ids: tuple[int, ...]  # the placeholder's token ids: new rows, or rare tokens
    initial: tuple[int | None, ...]  # the rows those start from; None: drawn at random
    phrase: str = ""  # "<v1> dog": the concept as written in prompts

    @property
    def handle(self) -> str:
        """The words of a prompt that are marked as the concept's."""
        return self.placeholder or self.class_word


def _unchanged(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
    return denoiser


class Part(NamedTuple):
    """One place where theta enters a model: weights, tokens or activations.

    - `init(key, params, concepts)` returns the part's theta, {} if nothing trains.
    - `bind(denoiser, theta)` returns the denoiser with the part's theta applied.
    - `prepare(denoiser, corpus)` computes once what every `bind` needs and stores it in
      `denoiser.prepared`. `corpus` holds tokenised captions; it is None when a trained
      concept is loaded.
    - `after(denoiser, theta, batch)` returns the part's theta after a non-gradient
      update at the end of each step. `denoiser` has the earlier parts bound.
    - `adds_tokens`: every placeholder gets rows of its own in the embedding table.
    - `requires`: what the training run must provide: "captions" (a corpus), "null" (the
      empty text as the corpus), "hints" (in the batches).
    - `saves`: the entry of `denoiser.prepared` that is saved with the concept, because
      it cannot be recomputed when the concept is loaded.
    - `exclusive`: what concepts that are bound together cannot share: the "word" that
      marks the concept, a "part" of this name, or the "model" as a whole.
    """

    init: Callable[[Key, Params, Sequence[Concept]], Any]
    bind: Callable[[Denoiser, Any], Denoiser]
    prepare: Callable[[Denoiser, Ids | None], Denoiser] = _unchanged
    after: Callable[[Denoiser, Any, Any], Any] | None = None
    adds_tokens: bool = False
    requires: frozenset[str] = frozenset()
    saves: str | None = None
    exclusive: Literal["word", "part", "model"] | None = None


class Method(NamedTuple):
    """Parts, bound in order, and `loss(denoiser, batch, keys) -> (scalar, metrics)`.

    Parts are named; the names are the first components of the paths in
    theta.safetensors.
    """

    parts: Mapping[str, Part]
    loss: Callable[[Denoiser, Any, Key], tuple[Float[Array, ""], Metrics]]

    @property
    def adds_tokens(self) -> bool:
        """Whether placeholders get new rows; otherwise they alias rare tokens."""
        return any(part.adds_tokens for part in self.parts.values())

    @property
    def requires(self) -> frozenset[str]:
        """What the training run must provide; see `Part`."""
        return frozenset().union(*(part.requires for part in self.parts.values()))

    @property
    def saves(self) -> tuple[str, ...]:
        """The entries of `denoiser.prepared` that are saved with a concept."""
        return tuple(part.saves for part in self.parts.values() if part.saves)


def forwards(target: Callable[..., Any]) -> Callable[[Recipe], Recipe]:
    """A decorator for a recipe that passes its `**kwargs` on to `target`.

    The recipe's signature then lists the arguments of `target` in place of `**kwargs`.
    Raises TypeError for a recipe without `**kwargs`.
    """

    def decorate(recipe: Recipe) -> Recipe:
        signature = inspect.signature(recipe)
        own = [p for p in signature.parameters.values() if not _is_kwargs(p)]
        if len(own) == len(signature.parameters):
            raise TypeError(f"{recipe.__name__} has no **kwargs to forward.")
        names = {parameter.name for parameter in own}
        forwarded = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(target).parameters.items()
            if name not in names
        ]
        recipe.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *forwarded]
        )
        return recipe

    return decorate


def argument_names(recipe: Callable[..., Any]) -> list[str]:
    """The names of a recipe's arguments, including those it forwards.

    Raises TypeError for a recipe with `**kwargs` that is not decorated by `forwards`.
    """
    parameters = inspect.signature(recipe).parameters
    kwargs = [name for name, p in parameters.items() if _is_kwargs(p)]
    if kwargs:
        raise TypeError(
            f"{recipe.__name__} takes **{kwargs[0]}; decorate it with "
            "@forwards(FUNCTION), the function that receives them."
        )
    return list(parameters)


def prepare(method: Method, denoiser: Denoiser, corpus: Ids | None = None) -> Denoiser:
    """The denoiser with what the parts compute once, in `denoiser.prepared`."""
    for part in method.parts.values():
        denoiser = part.prepare(denoiser, corpus)
    return denoiser


def saved(method: Method, denoiser: Denoiser) -> dict[str, Any]:
    """{name: arrays} of the entries of `denoiser.prepared` to save with the concept."""
    return {name: denoiser.prepared[name] for name in method.saves}


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
    """The base with every part bound, in order; differentiable in theta."""
    return _bind(method.parts, base, theta)


def after(method: Method, base: Denoiser, theta: Theta, batch: Any) -> Theta:
    """Theta after the parts' non-gradient updates; see `Part.after`."""
    earlier: dict[str, Part] = {}
    for name, part in method.parts.items():
        if part.after is not None:
            denoiser = _bind(earlier, base, theta)
            theta = {**theta, name: part.after(denoiser, theta[name], batch)}
        earlier[name] = part
    return theta


def _bind(parts: Mapping[str, Part], denoiser: Denoiser, theta: Theta) -> Denoiser:
    for name, part in parts.items():
        denoiser = part.bind(denoiser, theta.get(name, {}))
    return denoiser


def _is_kwargs(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.VAR_KEYWORD
