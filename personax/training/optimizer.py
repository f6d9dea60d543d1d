"""Optimisers and learning rate schedules of a config."""

from collections.abc import Mapping

import jax
import optax

from personax.core.tree import nearest
from personax.core.typing import Theta
from personax.training.adam_8bit import scale_by_adam_8bit
from personax.training.config import OptimizerConfig
from personax.training.muon import scale_by_muon


def make_schedule(
    config: OptimizerConfig, steps: int, examples: int = 1
) -> optax.Schedule:
    """`step -> learning rate`: linear warmup over `warmup` steps, then `schedule`.

    "constant" keeps the rate, "linear" and "cosine" decay it to 0 at `steps`. With
    `scale_by_batch` the rate is multiplied by the `examples` of a step, priors
    included, as by the released scripts' --scale_lr. Raises ValueError for a warmup of
    `steps` or more.
    """
    rate, warmup = config.learning_rate, config.warmup
    if config.scale_by_batch:
        rate *= examples
    if warmup >= max(steps, 1):
        raise ValueError(f"warmup={warmup}: expected less than the {steps} steps.")
    rest = steps - warmup
    after = {
        "constant": lambda: optax.constant_schedule(rate),
        "linear": lambda: optax.linear_schedule(rate, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(rate, rest),
    }[config.schedule]()
    if not warmup:
        return after
    ramp = optax.linear_schedule(0.0, rate, warmup)
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
    schedule: optax.Schedule, theta: Theta, config: OptimizerConfig = OptimizerConfig()
) -> optax.GradientTransformation:
    """Clip the global gradient norm, then the optimiser, decoupled decay and the rate.

    "adamw_8bit" keeps AdamW's moments in 8 bits; "adafactor" is factored, without
    momentum; "muon" is Muon for kernels and Adam for the rest. "adamw" and "lion" use
    `b1` and `b2`, "adamw" also `eps`, "muon" all of them for Adam's part, "sgd" `b1` as
    its momentum, "adafactor" none of them. Weight decay is decoupled (Loshchilov &
    Hutter 2019) for every optimiser, and so multiplied by the rate. `learning_rates`
    are those of parts of theta, by name; the schedule is multiplied by their ratio to
    `learning_rate`.

    Raises ValueError for an unknown part.
    """
    own = {part: rate for part, rate in config.learning_rates.items() if rate}
    for part in own:
        if part not in theta:
            raise ValueError(
                f"The method trains no part {part!r}; nearest: {nearest(part, theta)}."
            )
    b1, b2, eps, clip = config.b1, config.b2, config.eps, config.clip
    direction = {
        "adamw": lambda: optax.scale_by_adam(b1, b2, eps),
        "adamw_8bit": lambda: scale_by_adam_8bit(b1, b2, eps),
        "muon": lambda: scale_by_muon(b1, b2, eps),
        "lion": lambda: optax.scale_by_lion(b1, b2),
        "sgd": lambda: optax.trace(b1),
        "adafactor": optax.scale_by_factored_rms,
    }[config.name]()
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        direction,
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule),
        _scale_parts({part: rate / config.learning_rate for part, rate in own.items()}),
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
