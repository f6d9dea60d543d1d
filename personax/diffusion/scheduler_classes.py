"""diffusers' scheduler classes: the options of each, their defaults, and its solver.

A scheduler_config.json may also contain options of other classes, which diffusers keeps
when a scheduler is made from another one's config. They have no effect.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class SchedulerClass(NamedTuple):
    """A published class: {option: default}, and what is computed of it here.

    `computed` has the values with which an option is computed, if they are not its
    default alone; `unused` options have no effect in diffusers.
    """

    solver: str
    options: Mapping[str, Any]
    computed: Mapping[str, tuple[Any, ...]] = {}
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    unused: tuple[str, ...] = ()


# Parameters of options that are computed only when off.
IGNORED = frozenset(
    ["dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"]
)
# What describes the trained model: the same for all solvers.
TRAINED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)

_SHARED = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
_OVER_TIMES = {**_SHARED, "timestep_spacing": "leading"}
_OVER_SIGMAS = {**_SHARED, "timestep_spacing": "linspace"}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_THRESHOLD = {
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}
_SPACINGS = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_FLOW = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
_MULTISTEP = {
    **_OVER_SIGMAS,
    **_THRESHOLD,
    **_SPACINGS,
    **_FLOW,
    "solver_order": 2,
    "lower_order_final": True,
}
_NO_SAMPLE = ("epsilon", "v_prediction")

CLASSES: dict[str, SchedulerClass] = {
    "DDPMScheduler": SchedulerClass(
        "ddpm",
        {
            **_OVER_TIMES,
            **_CLIP,
            **_THRESHOLD,
            **_ZERO_SNR,
            "variance_type": "fixed_small",
        },
        {"variance_type": ("fixed_small", None)},
    ),
    "DDIMScheduler": SchedulerClass(
        "ddim",
        {**_OVER_TIMES, **_CLIP, **_THRESHOLD, **_ZERO_SNR, "set_alpha_to_one": True},
    ),
    "PNDMScheduler": SchedulerClass(
        "plms",
        {**_OVER_TIMES, "skip_prk_steps": False, "set_alpha_to_one": False},
        {"skip_prk_steps": (True,)},
        _NO_SAMPLE,
    ),
    "EulerDiscreteScheduler": SchedulerClass(
        "euler",
        {
            **_OVER_SIGMAS,
            **_SPACINGS,
            **_ZERO_SNR,
            "interpolation_type": "linear",
            "timestep_type": "discrete",
            "sigma_min": None,
            "sigma_max": None,
            "final_sigmas_type": "zero",
        },
    ),
    "EulerAncestralDiscreteScheduler": SchedulerClass(
        "euler_ancestral", {**_OVER_SIGMAS, **_ZERO_SNR}, predictions=_NO_SAMPLE
    ),
    "HeunDiscreteScheduler": SchedulerClass(
        "heun",
        {
            **_OVER_SIGMAS,
            **_SPACINGS,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "clip_sample_range": 1.0,
        },
    ),
    "LMSDiscreteScheduler": SchedulerClass("lms", {**_OVER_SIGMAS, **_SPACINGS}),
    "DPMSolverMultistepScheduler": SchedulerClass(
        "dpmpp_2m",
        {
            **_MULTISTEP,
            **_ZERO_SNR,
            "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint",
            "euler_at_final": False,
            "use_lu_lambdas": False,
            "final_sigmas_type": "zero",
            "lambda_min_clipped": -math.inf,
            "variance_type": None,
        },
        {
            # A step to no noise is of first order anyway.
            "lower_order_final": (True, False),
            "euler_at_final": (True, False),
            # Of other classes: diffusers takes its own default instead.
            "algorithm_type": ("dpmsolver++", "sde-dpmsolver++", "deis"),
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
            "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large"),
        },
    ),
    "DEISMultistepScheduler": SchedulerClass(
        "deis",
        {**_MULTISTEP, "algorithm_type": "deis", "solver_type": "logrho"},
        {
            "algorithm_type": ("deis", "dpmsolver", "dpmsolver++"),
            "solver_type": ("logrho", "midpoint", "heun", "bh1", "bh2"),
        },
    ),
    "UniPCMultistepScheduler": SchedulerClass(
        "unipc",
        {
            **_MULTISTEP,
            **_ZERO_SNR,
            "predict_x0": True,
            "solver_type": "bh2",
            "disable_corrector": (),
            "solver_p": None,
            "final_sigmas_type": "zero",
            "sigma_min": None,
            "sigma_max": None,
            "shift_terminal": None,
        },
        {
            "solver_type": ("bh2", "midpoint", "heun", "logrho"),
        },
    ),
    "LCMScheduler": SchedulerClass(
        "lcm",
        {
            **_OVER_TIMES,
            **_THRESHOLD,
            **_ZERO_SNR,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "clip_sample_range": 1.0,
            "set_alpha_to_one": True,
            "original_inference_steps": 50,
            "timestep_scaling": 10.0,
        },
        unused=("timestep_spacing", "steps_offset"),
    ),
}


def class_of(solver: str) -> str:
    """The published class of a solver. Raises ValueError if it has none."""
    if solver == "dpmpp_2m_sde":
        solver = "dpmpp_2m"
    for name, each in CLASSES.items():
        if each.solver == solver:
            return name
    raise ValueError(f"The solver {solver!r} is of no published scheduler class.")


def solver_of(values: Mapping[str, Any]) -> str:
    """The solver of a scheduler_config.json, or its class's name if that is unknown."""
    name = values["_class_name"]
    if name not in CLASSES:
        return name
    solver = CLASSES[name].solver
    if solver == "dpmpp_2m" and values.get("algorithm_type") == "sde-dpmsolver++":
        return "dpmpp_2m_sde"
    return solver


def not_computed(
    name: str, published: Mapping[str, Any], besides: Collection[str]
) -> list[str]:
    """The options "option=value" of a class that its solver does not compute.

    `published` are the values of a file; `besides` are options that are computed.
    """
    scheduler, refused = CLASSES[name], []
    for option, default in scheduler.options.items():
        if option in besides or option in IGNORED:
            continue
        if option == "skip_prk_steps" and published["_class_name"] != name:
            continue  # PLMS is PNDM without Runge-Kutta steps, by its name.
        value = published.get(option, default)
        allowed = (default, None) if default is False else (default,)
        if not _is_one_of(value, scheduler.computed.get(option, allowed)):
            refused.append(f"{option}={value!r}")
    return refused


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == other and type(value) is type(other) for other in allowed)
