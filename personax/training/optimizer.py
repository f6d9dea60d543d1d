"""The optimiser that a config describes, and the learning rate of each step."""

import inspect
from collections.abc import Iterable, Mapping

import jax
import optax

from personax.tree import nearest
from personax.typing import Theta

_OPTIMIZERS = {
    "adamw": optax.adamw,
    "adafactor": optax.adafactor,
    "lion": optax.lion,
    "sgd": optax.sgd,
}
_SCHEDULES = ("constant", "linear", "cosine")


def make_schedule(
    learning_rate: float, *, schedule: str = "constant", warmup: int = 0, steps: int
) -> optax.Schedule:
    """`step -> learning rate`: linear up over `warmup`, then as `schedule` says.

    "constant" stays, "linear" and "cosine" come to 0 at `steps`.
    """
    if schedule not in _SCHEDULES:
        raise ValueError(f"No schedule {schedule!r}; there are: {_join(_SCHEDULES)}.")
    if warmup >= max(steps, 1):
        raise ValueError(f"A warm-up of {warmup} leaves nothing of {steps} steps.")
    rest = steps - warmup
    after = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "linear": lambda: optax.linear_schedule(learning_rate, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest),
    }[schedule]()
    if not warmup:
        return after
    rise = optax.linear_schedule(0.0, learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    schedule: optax.Schedule,
    theta: Theta,
    *,
    name: str = "adamw",
    factors: Mapping[str, float] | None = None,
    clip: float = 0.0,
    **options: float,
) -> optax.GradientTransformation:
    """optax's `name` with its own `options`, after clipping the gradient as a whole.

    `factors` are multiples of the learning rate for parts of theta, by name. Weight
    decay is decoupled, and so multiplied with its part's rate. Raises ValueError for a
    name, a part or an option that does not exist.
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"No optimiser {name!r}; there are: {_join(_OPTIMIZERS)}.")
    takes = list(inspect.signature(_OPTIMIZERS[name]).parameters)[1:]
    for option in options:
        if option not in takes:
            raise ValueError(
                f"{name} takes no {option!r}; its options are: {_join(takes)}."
            )
    factors = {} if factors is None else factors
    for part in factors:
        if part not in theta:
            raise ValueError(
                f"The method trains no part {part!r}; nearest: {nearest(part, theta)}."
            )
    chain = [optax.clip_by_global_norm(clip)] if clip else []
    chain.append(_OPTIMIZERS[name](schedule, **options))
    if factors:
        chain.append(_scale_parts(factors))
    return optax.chain(*chain)


def _scale_parts(factors: Mapping[str, float]) -> optax.GradientTransformation:
    # One optimiser and a factor per part, not one optimiser for each: its state then
    # has theta's own shape, which checkpoints and shardings rely on.
    def scale(updates: Theta, _: Theta | None) -> Theta:
        return {
            part: jax.tree.map(lambda x, f=factors.get(part, 1.0): f * x, leaves)
            for part, leaves in updates.items()
        }

    return optax.stateless(scale)


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
