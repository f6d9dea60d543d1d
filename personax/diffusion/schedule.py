"""The noise schedule: its config file, signal and noise rates, training targets.

Everywhere x = signal * z0 + noise * eps with signal² + noise² = 1 (variance
preserving): signal = sqrt(ᾱ_t), noise = sqrt(1 - ᾱ_t) in the DDPM paper's symbols.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from personax.core.typing import Latents
from personax.networks.config import read_config

Time = Num[Array, ""] | Num[Array, "b"]

# {published class: (its solver, options whose default differs from ScheduleConfig's)}.
# A file contains only the options that differ from its class's defaults.
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "DDPMScheduler": ("ddpm", {"clip_sample": True}),
    "DDIMScheduler": ("ddim", {"clip_sample": True}),
    "PNDMScheduler": ("plms", {"skip_prk_steps": False}),
    "EulerDiscreteScheduler": ("euler", {}),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", {}),
    "HeunDiscreteScheduler": ("heun", {"beta_start": 0.00085, "beta_end": 0.012}),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", {}),
}

# The values of the classes' own options that the solvers implement.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "skip_prk_steps": (True,),
    "variance_type": (None, "fixed_small"),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "solver_order": (2,),
    "solver_type": ("midpoint",),
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "lower_order_final": (True,),
    "lambda_min_clipped": (-math.inf,),
}

# Parameters of options that must be off, so that they have no effect.
_IGNORED = frozenset(
    ["dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"]
)

_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": (None, "leading", "trailing", "linspace"),
}


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule and how it is sampled, under the published option names.

    With `timestep_spacing` or `set_alpha_to_one` None each solver uses the default of
    its diffusers class. `solver` is the solver of the published class.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    timestep_spacing: str | None = None
    steps_offset: int = 0
    set_alpha_to_one: bool | None = None
    use_karras_sigmas: bool = False
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    solver: str = "ddim"

    def __post_init__(self):
        for option, choices in _CHOICES.items():
            if (value := getattr(self, option)) not in choices:
                known = ", ".join(str(choice) for choice in choices)
                raise ValueError(
                    f"Unknown {option}={value!r}; expected one of {known}."
                )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ScheduleConfig":
        """The schedule of a published scheduler_config.json, as a dict.

        Raises ValueError for a scheduler class or an option that is not implemented.
        """
        name = values.get("_class_name")
        if name not in _CLASSES:
            known = ", ".join(_CLASSES)
            raise ValueError(f"Unknown scheduler {name!r}; expected one of {known}.")
        solver, defaults = _CLASSES[name]
        if values.get("algorithm_type") == "sde-dpmsolver++":
            solver = "dpmpp_2m_sde"
        return read_config(
            cls,
            {**defaults, **values, "solver": solver},
            neutral=_NEUTRAL,
            ignored=_IGNORED,
            name=name,
        )


def betas(schedule: ScheduleConfig) -> Float[np.ndarray, " t"]:
    """β_t in float64 for every training time, before rescaling to zero SNR."""
    count = schedule.num_train_timesteps
    if schedule.trained_betas is not None:
        return np.asarray(schedule.trained_betas, np.float64)
    if schedule.beta_schedule == "linear":
        return np.linspace(schedule.beta_start, schedule.beta_end, count)
    if schedule.beta_schedule == "scaled_linear":  # Latent diffusion's
        return np.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, count) ** 2
    # Eq. 17, Nichol and Dhariwal 2021
    f = np.cos((np.linspace(0, 1, count + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def alphas_cumprod(schedule: ScheduleConfig) -> Float[np.ndarray, " t"]:
    """ᾱ_t = Π (1 - β) in float64 for every training time.

    With `rescale_betas_zero_snr` (Algorithm 1, Lin et al. 2023) the last is 2^-24
    instead of 0, as in diffusers' sigma schedulers: at 0, eps determines neither z0 nor
    sigma.
    """
    bar = np.cumprod(1 - betas(schedule))
    if schedule.rescale_betas_zero_snr:
        root = np.sqrt(bar)
        bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        bar[-1] = 2.0**-24
    return bar


def sigmas(schedule: ScheduleConfig) -> Float[np.ndarray, " t"]:
    """noise / signal in float64 for every training time, ascending."""
    bar = alphas_cumprod(schedule)
    return np.sqrt((1 - bar) / bar)


def rates(schedule: ScheduleConfig, t: Time) -> tuple[Array, Array]:
    """Signal and noise rate at time t, in float32 and of t's shape.

    log(noise / signal) is interpolated between training times, as for Karras sigmas.
    """
    table = jnp.asarray(np.log(sigmas(schedule)), jnp.float32)
    at = jnp.interp(
        t.astype(jnp.float32), jnp.arange(len(table), dtype=jnp.float32), table
    )
    return jnp.sqrt(jax.nn.sigmoid(-2 * at)), jnp.sqrt(jax.nn.sigmoid(2 * at))


def noise(
    schedule: ScheduleConfig, x0: Latents, eps: Latents, t: Int[Array, " b"]
) -> Latents:
    """Noised latents at training times t, one per image (Eq. 4, Ho et al. 2020)."""
    signal, noise = _per_image(schedule, t, x0)
    return signal * x0 + noise * eps


def target(
    schedule: ScheduleConfig, x0: Latents, eps: Latents, t: Int[Array, " b"]
) -> Latents:
    """The training target of the network at `noise(schedule, x0, eps, t)`."""
    if schedule.prediction_type == "epsilon":
        return eps
    if schedule.prediction_type == "sample":
        return x0
    signal, noise = _per_image(schedule, t, x0)
    return signal * eps - noise * x0  # v, Appendix D, Salimans and Ho 2022


def to_eps(
    schedule: ScheduleConfig, prediction: Latents, x: Latents, t: Time
) -> Latents:
    """The eps of the network's prediction at (x, t)."""
    if schedule.prediction_type == "epsilon":
        return prediction
    signal, noise = _per_image(schedule, t, x)
    if schedule.prediction_type == "sample":
        return (x - signal * prediction) / noise
    return signal * prediction + noise * x


def _per_image(schedule: ScheduleConfig, t: Time, x: Latents) -> tuple[Array, Array]:
    signal, noise = rates(schedule, t)
    shape = (-1, 1, 1, 1)  # a scalar t gives one row for all images
    return signal.reshape(shape).astype(x.dtype), noise.reshape(shape).astype(x.dtype)
