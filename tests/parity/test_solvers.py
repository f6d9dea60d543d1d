"""Whole trajectories against diffusers' schedulers, max abs error 1e-4 at every step.

Both sides start from the same noise and call the same smooth, nonlinear network. The
trajectories are compared as variance-preserving x: the sigma schedulers' samples are
divided by sqrt(sigma² + 1).
"""

import functools
import importlib
import inspect

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from personax.diffusion import scheduler_classes
from personax.diffusion.sampling import image_keys
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS, ddim
from personax.diffusion.solvers.solver import draw
from tests.small_configs import BETAS

# diffusers' DEIS calls numpy on tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
TOLERANCE = 1e-4
SHAPE = (3, 4, 4, 2)
SOLVERS_HERE = {**SOLVERS, "ddim_eta": ddim(eta=0.7)}
SD15 = {**BETAS, "steps_offset": 1}
CLASSES = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "ddim_eta": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
    ),
    "lms": ("LMSDiscreteScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
OVER_SIGMA = ("euler", "euler_ancestral", "heun", "lms")
KARRAS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "lms", "deis", "unipc")
NO_SAMPLE = ("plms", "euler_ancestral")


def network(x, t, sin):
    return x - 0.3 * sin(1.3 * x + 0.003 * t)


@functools.cache
def start():
    return jax.random.normal(jax.random.key(1), SHAPE)


def noise_keys():
    return image_keys(jax.random.key(2), jnp.arange(SHAPE[0]))


def row_keys(keys, i):
    return jax.vmap(jax.random.fold_in, (0, None))(keys, i)


@functools.cache
def noises():
    """What our solvers draw on each of the first 50 rows."""
    rows = jnp.arange(50)
    return np.asarray(
        jax.vmap(lambda i: draw(row_keys(noise_keys(), i), jnp.zeros(SHAPE)))(rows)
    )


@functools.partial(jax.jit, static_argnames="name")
def one_row(name, x, state, row, i):
    output = network(x, row.t, jnp.sin)
    return SOLVERS_HERE[name].step(x, state, output, row, row_keys(noise_keys(), i))


def ours(name, schedule, steps):
    """x after every row of the grid."""
    grid = SOLVERS_HERE[name].grid(schedule, steps)
    x = grid.start * start()
    state, trajectory = SOLVERS_HERE[name].init(x), []
    # One compilation for all that differ in their grid only.
    rows = grid.replace(start=1.0)
    for i in range(len(grid.t)):
        row = jax.tree.map(lambda column, i=i: column[i], rows)
        x, state = one_row(name, x, state, row, i)
        trajectory.append(np.asarray(x))
    return np.stack(trajectory)


def theirs(name, config, steps, monkeypatch):
    """x after every step of diffusers' scheduler, given our noise."""
    scheduler = getattr(diffusers, CLASSES[name][0]).from_config(config)
    scheduler.set_timesteps(steps)
    fresh = iter(torch.tensor(noises()))
    module = importlib.import_module(type(scheduler).__module__)
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(fresh))
    eta = {"eta": 0.7} if name == "ddim_eta" else {}
    x = torch.tensor(np.asarray(start())) * scheduler.init_noise_sigma
    trajectory = []
    for i, t in enumerate(scheduler.timesteps):
        out = network(scheduler.scale_model_input(x, t), t, torch.sin)
        x = scheduler.step(out, t, x, return_dict=False, **eta)[0]
        scale = 1.0
        if name in OVER_SIGMA:
            scale = (scheduler.sigmas[i + 1] ** 2 + 1) ** 0.5
        trajectory.append((x / scale).numpy())
    return np.stack(trajectory)


def config_of(name, **options):
    published, own = CLASSES[name]
    return {"_class_name": published, **SD15, **own, **options}


def error(monkeypatch, name, steps, **options):
    """The largest difference in any step of the two trajectories."""
    config = config_of(name, **options)
    schedule = ScheduleConfig.from_json(config)
    expected = theirs(name, config, steps, monkeypatch)
    return np.abs(ours(name, schedule, steps) - expected).max()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", CLASSES)
def test_spacings(name, spacing, steps, prediction, monkeypatch):
    options = {"timestep_spacing": spacing, "prediction_type": prediction}
    assert error(monkeypatch, name, steps, **options) <= TOLERANCE


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("name", KARRAS)
def test_karras(name, spacing, steps, prediction, monkeypatch):
    options = {
        "timestep_spacing": spacing,
        "use_karras_sigmas": True,
        "prediction_type": prediction,
    }
    assert error(monkeypatch, name, steps, **options) <= TOLERANCE


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in NO_SAMPLE])
def test_sample_prediction(name, karras, monkeypatch):
    options = {"prediction_type": "sample", "use_karras_sigmas": karras}
    assert error(monkeypatch, name, 10, **options) <= TOLERANCE


@pytest.mark.parametrize("name", NO_SAMPLE)
def test_sample_prediction_that_diffusers_lacks_is_refused(name, monkeypatch):
    options = {"prediction_type": "sample"}
    with pytest.raises((ValueError, NotImplementedError), match="prediction_type"):
        theirs(name, config_of(name, **options), 10, monkeypatch)
    schedule = ScheduleConfig.from_json(config_of(name, **options))
    with pytest.raises(ValueError, match=f"{name} does not compute prediction_type="):
        SOLVERS[name].grid(schedule, 10)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "ddim_eta", "heun", "lcm"])
def test_clipped(name, monkeypatch):
    options = {"clip_sample": True, "clip_sample_range": 0.5}
    assert error(monkeypatch, name, 10, **options) <= TOLERANCE


@pytest.mark.parametrize("name", ["plms", "ddim"])
def test_final_alpha_one(name, monkeypatch):
    assert error(monkeypatch, name, 10, set_alpha_to_one=True) <= TOLERANCE


@pytest.mark.parametrize("kind", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("name", ["ddpm", "euler", "dpmpp_2m", "deis", "unipc"])
def test_other_betas(name, kind, monkeypatch):
    options = {"beta_schedule": kind, "timestep_spacing": "leading"}
    assert error(monkeypatch, name, 10, **options) <= TOLERANCE


@pytest.mark.parametrize("published", scheduler_classes.CLASSES)
def test_a_class_has_diffusers_options_and_defaults(published):
    signature = inspect.signature(getattr(diffusers, published).__init__)
    options = {name: each.default for name, each in signature.parameters.items()}
    del options["self"]
    if "disable_corrector" in options:
        options["disable_corrector"] = tuple(options["disable_corrector"])
    assert scheduler_classes.CLASSES[published].options == options


LEFT_OVER = {
    "algorithm_type": "sde-dpmsolver++",
    "use_karras_sigmas": True,
    "rescale_betas_zero_snr": True,
    "variance_type": "fixed_large",
    "interpolation_type": "log_linear",
    "clip_sample": True,
    "set_alpha_to_one": True,
    "solver_type": "bh1",
}


@pytest.mark.parametrize("name", ["ddim", "ddim_eta", "plms", "euler_ancestral", "lms"])
def test_options_of_other_classes_count_as_in_diffusers(name, monkeypatch):
    """A file of another class, as `Class.from_config(pipe.scheduler.config)` leaves it.

    The same options are read for each solver, and those that its class has apply.
    """
    options = {**LEFT_OVER, "prediction_type": "v_prediction"}
    assert error(monkeypatch, name, 10, **options) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "ddim_eta"])
def test_another_class_s_file_is_read_as_from_config_does(name, monkeypatch):
    file = {**SD15, **LEFT_OVER, "skip_prk_steps": True, "_class_name": "TCDScheduler"}
    file |= {"prediction_type": "v_prediction", "variance_type": None}
    file |= {"interpolation_type": "linear", "solver_type": "bh2"}
    if name in ("deis", "dpmpp_2m"):
        del file["algorithm_type"]
    schedule = ScheduleConfig.from_json(file)
    expected = theirs(name, file, 10, monkeypatch)
    assert np.abs(ours(name, schedule, 10) - expected).max() <= TOLERANCE


ZERO_SNR = ("ddpm", "ddim", "lcm", "euler", "euler_ancestral", "dpmpp_2m", "unipc")


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("name", ZERO_SNR)
def test_zero_terminal_snr(name, spacing, monkeypatch):
    options = {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": spacing,
        "prediction_type": "v_prediction",
    }
    assert error(monkeypatch, name, 10, **options) <= TOLERANCE
