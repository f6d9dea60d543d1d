"""Whole trajectories against diffusers' schedulers, max abs error 1e-4 at every step.

Both sides start from the same noise and call the same smooth, nonlinear network. The
trajectories are compared as variance-preserving x: the sigma schedulers' samples are
divided by sqrt(sigma² + 1).
"""

import functools
import importlib

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from personax.diffusion.sampling import image_keys
from personax.diffusion.schedule import ScheduleConfig, to_eps
from personax.diffusion.solvers import SOLVERS, ddim
from personax.diffusion.solvers.solver import draw

TOLERANCE = 1e-4
SHAPE = (3, 4, 4, 2)
SOLVERS_HERE = {**SOLVERS, "ddim_eta": ddim(eta=0.7)}
SD15 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
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
}
OVER_SIGMA = ("euler", "euler_ancestral", "heun")
KARRAS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde")


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


@functools.partial(jax.jit, static_argnames=("name", "prediction"))
def one_row(name, prediction, x, state, row, i):
    schedule = ScheduleConfig.from_json(
        {"_class_name": "PNDMScheduler", **SD15, "prediction_type": prediction}
        | CLASSES["plms"][1]
    )
    eps = to_eps(schedule, network(x, row.t, jnp.sin), x, row.t)
    return SOLVERS_HERE[name].step(x, state, eps, row, row_keys(noise_keys(), i))


def ours(name, prediction, grid):
    """x after every row of the grid."""
    x = grid.start * start()
    state, trajectory = SOLVERS_HERE[name].init(x), []
    columns = jax.tree.map(np.asarray, grid.replace(start=1.0))
    for i in range(len(grid.t)):
        row = jax.tree.map(lambda column, i=i: column[i], columns)
        x, state = one_row(name, prediction, x, state, row, i)
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


def cases():
    for name in CLASSES:
        for spacing in ("leading", "trailing", "linspace"):
            yield name, spacing, False
    for name in KARRAS:
        yield name, "linspace", True
        yield name, "leading", True


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("name", "spacing", "karras"), cases())
def test_trajectory(name, spacing, karras, steps, prediction, monkeypatch):
    published, options = CLASSES[name]
    config = {
        "_class_name": published,
        **SD15,
        **options,
        "prediction_type": prediction,
        "timestep_spacing": spacing,
    }
    if karras:
        config["use_karras_sigmas"] = True
    schedule = ScheduleConfig.from_json(config)
    grid = SOLVERS_HERE[name].grid(schedule, steps)
    expected = theirs(name, config, steps, monkeypatch)
    assert np.abs(ours(name, prediction, grid) - expected).max() <= TOLERANCE
