"""The optimiser that a config describes, and the learning rate of each step."""

from collections.abc import Iterable, Mapping

import jax
import optax

from personax.core.tree import nearest
from personax.core.typing import Theta
from personax.training.adam_8bit import scale_by_adam_8bit

_OPTIMIZERS = ("adamw", "adamw_8bit", "lion", "sgd", "adafactor")
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
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    clip: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Clip the gradient as a whole, direct it, decay, scale by the rate.

    "adamw_8bit" keeps adamw's moments in 8 bits, "adafactor" factors and no momentum.
    "adamw" and "lion" read `b1` and `b2`, "adamw" `eps`, "sgd" has `b1` as its
    momentum, "adafactor" reads none. Decay is decoupled (Loshchilov & Hutter 2019) and
    so multiplied by the rate, for every one of them. `factors` are multiples of the
    rate for parts of theta, by name. Raises ValueError for a name or a part that does
    not exist.
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"No optimiser {name!r}; there are: {_join(_OPTIMIZERS)}.")
    factors = {} if factors is None else factors
    for part in factors:
        if part not in theta:
            raise ValueError(
                f"The method trains no part {part!r}; nearest: {nearest(part, theta)}."
            )
    direction = {
        "adamw": lambda: optax.scale_by_adam(b1, b2, eps),
        "adamw_8bit": lambda: scale_by_adam_8bit(b1, b2, eps),
        "lion": lambda: optax.scale_by_lion(b1, b2),
        "sgd": lambda: optax.trace(b1),
        "adafactor": optax.scale_by_factored_rms,
    }[name]()
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        direction,
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
        _scale_parts(factors),
    )


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
