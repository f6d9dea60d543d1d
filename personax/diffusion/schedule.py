"""The noise schedule: its config file, signal and noise rates, training targets.

Everywhere x = signal * z0 + noise * eps with signal² + noise² = 1 (variance
preserving): signal = sqrt(ᾱ_t), noise = sqrt(1 - ᾱ_t) in the DDPM paper's symbols.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from personax.core.typing import Latents
from personax.diffusion.scheduler_classes import (
    CLASSES,
    TRAINED,
    class_of,
    not_computed,
    solver_of,
)

Time = Num[Array, ""] | Num[Array, "b"]

_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": (None, "leading", "trailing", "linspace"),
}


_FLAG = "true or false", lambda value: isinstance(value, bool)
_COUNT = "a whole number above 0", lambda value: _is_whole(value) and value > 0
_POSITIVE = "a number above 0", lambda value: _is_number(value) and value > 0
_BETA = "a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "num_train_timesteps": _COUNT,
    "beta_start": _BETA,
    "beta_end": _BETA,
    "trained_betas": (
        "null or a list of numbers between 0 and 1",
        lambda values: (
            values is None
            or (
                isinstance(values, tuple)
                and bool(values)
                and all(map(_BETA[1], values))
            )
        ),
    ),
    "rescale_betas_zero_snr": _FLAG,
    "steps_offset": (
        "a whole number, 0 or above",
        lambda value: _is_whole(value) and value >= 0,
    ),
    "set_alpha_to_one": (
        "true or false",
        lambda value: value is None or isinstance(value, bool),
    ),
    "use_karras_sigmas": _FLAG,
    "clip_sample": _FLAG,
    "clip_sample_range": _POSITIVE,
    "original_inference_steps": _COUNT,
    "timestep_scaling": _POSITIVE,
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule and how it is sampled, under the published option names.

    With `timestep_spacing` or `set_alpha_to_one` None each solver uses the default of
    its diffusers class. `solver` is that of the published class, or the class's name if
    that is unknown. `published` are the options of the file, which `read_by` reads.
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
    original_inference_steps: int = 50  # of LCM's distillation
    timestep_scaling: float = 10.0  # of LCM's boundary condition
    solver: str = "ddim"
    published: tuple[tuple[str, Any], ...] = ()

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

        An unknown class is taken for its betas, with DDPM's other options. Options that
        are not computed are refused by `read_by`. Raises ValueError for betas or a
        prediction type that are not computed, and for values that no schedule has.
        """
        name = values.get("_class_name")
        if not isinstance(name, str) or (
            name not in CLASSES and not {"beta_start", "trained_betas"} & values.keys()
        ):
            known = ", ".join(CLASSES)
            raise ValueError(
                f"Unknown scheduler {name!r} without betas; expected one of {known}."
            )
        published = {
            option: _hashable(value)
            for option, value in values.items()
            if any(option in each.options for each in CLASSES.values())
        }
        own = _read(name, published)
        # Training reads every file as DDPM's.
        own["rescale_betas_zero_snr"] = published.get("rescale_betas_zero_snr") or False
        for option, (expected, holds) in _RANGES.items():
            if not holds(value := own[option]):
                raise ValueError(
                    f"The scheduler's {option} must be {expected}; it is {value!r}."
                )
        published = {"_class_name": name, **published}
        return cls(
            **own, solver=solver_of(published), published=tuple(published.items())
        )

    def read_by(self, solver: str) -> "ScheduleConfig":
        """The schedule with the options that the solver's published class has.

        This is diffusers' `Class.from_config(pipe.scheduler.config)`. Fields that were
        replaced after the file was read remain. Raises ValueError for a prediction type
        and for options that the solver does not compute.
        """
        name, published = class_of(solver), dict(self.published)
        if self.prediction_type not in CLASSES[name].predictions:
            raise ValueError(
                f"The solver {solver} does not compute prediction_type="
                f"{self.prediction_type!r}, nor does diffusers' {name}; select another "
                "solver, such as ddim."
            )
        if not published:
            return self
        if refused := not_computed(name, published, besides=vars(self)):
            raise ValueError(
                f"The solver {solver} does not compute the scheduler's "
                f"{', '.join(refused)}; select another solver, such as ddim."
            )
        before = ScheduleConfig.from_json(published)
        kept = {
            option: value
            for option, value in vars(self).items()
            if option in TRAINED or value != getattr(before, option)
        }
        own = {**_read(name, published), **kept, "solver": solver, "published": ()}
        return dataclasses.replace(self, **own)


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return repr(value) if isinstance(value, dict) else value


def _read(name: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schedule as the class `name` reads them.

    An unknown class reads them as DDPM's. A field that the class does not have, or does
    not use, has its default; so has one that may be None for the class's default.
    """
    scheduler = CLASSES.get(name, CLASSES["DDPMScheduler"])
    fields = {}
    for field in dataclasses.fields(ScheduleConfig):
        value, option = field.default, field.name
        if option in scheduler.options and option not in scheduler.unused:
            value = published.get(option)
            if value is None and field.default is not None:
                value = scheduler.options[option]
        if isinstance(field.default, float) and type(value) is int:
            value = float(value)  # JSON may write 1.0 as 1
        fields[option] = value
    del fields["solver"], fields["published"]
    return fields


def to_record(schedule: ScheduleConfig) -> dict[str, Any]:
    """The fields that determine what a solver over training times draws.

    Regularisation sets are named by them; new fields must not be added.
    """
    record = dataclasses.asdict(schedule)
    for option in ("original_inference_steps", "timestep_scaling", "published"):
        del record[option]
    return record


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


def alphas_cumprod(
    schedule: ScheduleConfig, zero: float = 2.0**-24
) -> Float[np.ndarray, " t"]:
    """ᾱ_t = Π (1 - β) in float64 for every training time.

    With `rescale_betas_zero_snr` (Algorithm 1, Lin et al. 2023) the last is `zero`. It
    is 2^-24 in diffusers' sigma schedulers, because sigma is infinite at 0, and 0 in
    those over times.
    """
    bar = np.cumprod(1 - betas(schedule))
    if schedule.rescale_betas_zero_snr:
        root = np.sqrt(bar)
        bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        bar[-1] = zero
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
