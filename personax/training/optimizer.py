"""Optimisers and learning rate schedules of a config."""

from collections.abc import Mapping

import jax
import optax

from personax.core.tree import nearest
from personax.core.typing import Theta
from personax.training.adam_8bit import scale_by_adam_8bit
from personax.training.config import OPTIMIZERS, SCHEDULES


def make_schedule(
    learning_rate: float, *, schedule: str = "constant", warmup: int = 0, steps: int
) -> optax.Schedule:
    """`step -> learning rate`: linear warmup over `warmup` steps, then `schedule`.

    "constant" keeps the rate, "linear" and "cosine" decay it to 0 at `steps`. Raises
    ValueError for an unknown schedule, and for a warmup of `steps` or more.
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"Unknown schedule {schedule!r}; expected one of {', '.join(SCHEDULES)}."
        )
    if warmup >= max(steps, 1):
        raise ValueError(f"warmup={warmup}: expected less than the {steps} steps.")
    rest = steps - warmup
    after = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "linear": lambda: optax.linear_schedule(learning_rate, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest),
    }[schedule]()
    if not warmup:
        return after
    ramp = optax.linear_schedule(0.0, learning_rate, warmup)
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
    schedule: optax.Schedule,
    theta: Theta,
    *,
    name: str = "adamw",
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    clip: float | None = None,
    factors: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Clip the global gradient norm, then the optimiser, decoupled decay and the rate.

    "adamw_8bit" keeps AdamW's moments in 8 bits; "adafactor" is factored, without
    momentum. "adamw" and "lion" use `b1` and `b2`, "adamw" also `eps`, "sgd" uses `b1`
    as its momentum, "adafactor" none of them. Weight decay is decoupled (Loshchilov &
    Hutter 2019) for every optimiser, and so multiplied by the rate. `factors` are
    multiples of the rate for parts of theta, by name.

    Raises ValueError for an unknown optimiser or part.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"Unknown optimiser {name!r}; expected one of {', '.join(OPTIMIZERS)}."
        )
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
    # Factors instead of an optimiser per part, so that the optimiser's state has the
    # shape of theta, which checkpoints and shardings rely on.
    def scale(updates: Theta, _: Theta | None) -> Theta:
        return {
            part: jax.tree.map(lambda x, f=factors.get(part, 1.0): f * x, leaves)
            for part, leaves in updates.items()
        }

    return optax.stateless(scale)
