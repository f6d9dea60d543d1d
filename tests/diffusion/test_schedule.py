"""The schedule: what is read from a published file, rates, noise and targets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.diffusion.schedule import (
    ScheduleConfig,
    alphas_cumprod,
    noise,
    rates,
    sigmas,
    target,
    to_eps,
    to_record,
)
from personax.diffusion.solvers import SOLVERS, get_solver

# runwayml/stable-diffusion-v1-5, scheduler/scheduler_config.json
SD15 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
CLASSES = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "LMSDiscreteScheduler": "lms",
    "DEISMultistepScheduler": "deis",
    "UniPCMultistepScheduler": "unipc",
    "LCMScheduler": "lcm",
}


def same_grids(ours, theirs):
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def latents(seed):
    return jax.random.normal(jax.random.key(seed), (3, 2, 2, 4))


def test_sd15_is_read():
    schedule = ScheduleConfig.from_json(SD15)
    assert schedule.solver == "plms"
    assert schedule.steps_offset == 1
    assert schedule.timestep_spacing is None
    # The published model's first and last ᾱ.
    bar = alphas_cumprod(schedule)
    np.testing.assert_allclose(bar[[0, -1]], [0.99915, 0.00466], atol=1e-5)


@pytest.mark.parametrize(("published", "solver"), CLASSES.items())
def test_class_names_a_solver(published, solver):
    assert ScheduleConfig.from_json({"_class_name": published}).solver == solver
    assert solver in SOLVERS


def test_sde_algorithm_names_its_solver():
    values = {
        "_class_name": "DPMSolverMultistepScheduler",
        "algorithm_type": "sde-dpmsolver++",
        "lambda_min_clipped": -float("inf"),
        "use_karras_sigmas": True,
    }
    schedule = ScheduleConfig.from_json(values)
    assert schedule.solver == "dpmpp_2m_sde"
    assert schedule.use_karras_sigmas


def test_a_record_of_a_schedule_remains_what_it_was():
    """Cached regularisation sets are named by it."""
    assert to_record(ScheduleConfig.from_json(SD15)) == {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "trained_betas": None,
        "rescale_betas_zero_snr": False,
        "prediction_type": "epsilon",
        "timestep_spacing": None,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "use_karras_sigmas": False,
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "solver": "plms",
    }


def test_absent_options_take_the_class_default():
    assert ScheduleConfig.from_json({"_class_name": "DDIMScheduler"}).clip_sample
    heun = ScheduleConfig.from_json({"_class_name": "HeunDiscreteScheduler"})
    assert (heun.beta_start, heun.beta_end, heun.clip_sample) == (0.00085, 0.012, False)


@pytest.mark.parametrize(
    ("published", "option", "value"),
    [
        ("DDIMScheduler", "thresholding", True),
        ("UniPCMultistepScheduler", "lower_order_final", False),
        ("UniPCMultistepScheduler", "predict_x0", False),
        ("UniPCMultistepScheduler", "disable_corrector", [0]),
        ("DEISMultistepScheduler", "solver_order", 3),
        ("PNDMScheduler", "skip_prk_steps", False),
        ("DDPMScheduler", "variance_type", "learned_range"),
        ("EulerDiscreteScheduler", "use_beta_sigmas", True),
        ("EulerDiscreteScheduler", "final_sigmas_type", "sigma_min"),
        ("DPMSolverMultistepScheduler", "solver_order", 3),
        ("DPMSolverMultistepScheduler", "algorithm_type", "dpmsolver"),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", True),
    ],
)
def test_what_is_not_computed_is_refused_by_its_solver_alone(published, option, value):
    schedule = ScheduleConfig.from_json({"_class_name": published, option: value})
    with pytest.raises(ValueError, match=rf"does not compute .*{option}"):
        SOLVERS[schedule.solver].grid(schedule, 10)
    other = "ddim" if schedule.solver != "ddim" else "euler"
    SOLVERS[other].grid(schedule, 10)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("beta_schedule", "sigmoid"),
        ("prediction_type", "flow_prediction"),
        ("timestep_spacing", "even"),
        ("num_train_timesteps", "1000"),
        ("num_train_timesteps", 0),
        ("beta_start", -0.1),
        ("beta_end", 1.5),
        ("beta_end", True),
        ("trained_betas", []),
        ("trained_betas", [0.1, "0.2"]),
        ("steps_offset", 0.5),
        ("clip_sample", "yes"),
        ("clip_sample_range", 0),
        ("set_alpha_to_one", 1),
        ("rescale_betas_zero_snr", "true"),
    ],
)
def test_what_no_schedule_has_is_refused(option, value):
    with pytest.raises(ValueError, match=option):
        ScheduleConfig.from_json({"_class_name": "DDIMScheduler", option: value})


def test_pndm_with_runge_kutta_steps_is_refused():
    absent = {key: SD15[key] for key in SD15 if key != "skip_prk_steps"}
    with pytest.raises(ValueError, match="skip_prk_steps"):
        SOLVERS["plms"].grid(ScheduleConfig.from_json(absent), 10)


def test_plms_draws_with_a_file_of_another_class():
    absent = {key: SD15[key] for key in SD15 if key != "skip_prk_steps"}
    absent["_class_name"] = "DDIMScheduler"
    SOLVERS["plms"].grid(ScheduleConfig.from_json(absent), 10)


def test_of_an_unknown_class_the_betas_are_taken():
    values = {**SD15, "_class_name": "KDPM2DiscreteScheduler", "sigma_data": 0.5}
    schedule = ScheduleConfig.from_json(values)
    known = ScheduleConfig.from_json(SD15)
    np.testing.assert_array_equal(alphas_cumprod(schedule), alphas_cumprod(known))
    ours, theirs = (SOLVERS["ddim"].grid(each, 10) for each in (schedule, known))
    same_grids(ours, theirs)
    with pytest.raises(ValueError, match=r"KDPM2DiscreteScheduler is not computed"):
        get_solver(schedule.solver)


@pytest.mark.parametrize(
    "values", [{"shift": 3.0}, {"_class_name": 5}, {"_class_name": None}]
)
def test_a_class_without_betas_is_refused_with_the_known(values):
    values = {"_class_name": "FlowMatchEulerDiscreteScheduler", **values}
    with pytest.raises(ValueError, match=r"Unknown scheduler .*DDIMScheduler"):
        ScheduleConfig.from_json(values)


def test_an_option_of_another_class_has_no_effect():
    left = {
        "algorithm_type": "sde-dpmsolver++",
        "use_karras_sigmas": True,
        "variance_type": "learned",
        "interpolation_type": "log_linear",
        "solver_order": 3,
    }
    schedule = ScheduleConfig.from_json(
        {**left, **SD15, "_class_name": "DDIMScheduler"}
    )
    plain = ScheduleConfig.from_json({**SD15, "_class_name": "DDIMScheduler"})
    assert schedule.solver == "ddim"
    ours, theirs = (SOLVERS["ddim"].grid(each, 10) for each in (schedule, plain))
    same_grids(ours, theirs)


def test_the_solver_s_class_reads_what_the_file_s_does_not():
    """As DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)."""
    schedule = ScheduleConfig.from_json({**SD15, "use_karras_sigmas": True})
    assert not schedule.use_karras_sigmas
    assert schedule.read_by("dpmpp_2m").use_karras_sigmas
    assert not schedule.read_by("ddim").use_karras_sigmas


def test_a_replaced_option_remains():
    schedule = ScheduleConfig.from_json({**SD15, "timestep_spacing": "leading"})
    schedule = dataclasses.replace(schedule, timestep_spacing="trailing")
    assert schedule.read_by("ddim").timestep_spacing == "trailing"


def test_training_reads_zero_terminal_snr_of_every_class():
    """As DDPMScheduler.from_pretrained does in diffusers' training scripts."""
    schedule = ScheduleConfig.from_json({**SD15, "rescale_betas_zero_snr": True})
    assert schedule.rescale_betas_zero_snr
    assert not schedule.read_by("plms").rescale_betas_zero_snr
    assert schedule.read_by("ddim").rescale_betas_zero_snr


@pytest.mark.parametrize("name", ["ddim", "ddpm", "lcm"])
def test_eps_without_signal_is_refused(name):
    schedule = ScheduleConfig(rescale_betas_zero_snr=True)
    if name != "lcm":
        schedule = dataclasses.replace(schedule, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="no signal at its last time"):
        SOLVERS[name].grid(schedule, 5)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_signal_only_falls(kind):
    bar = alphas_cumprod(ScheduleConfig(beta_schedule=kind))
    assert bar.shape == (1000,)
    assert (np.diff(bar) < 0).all()
    assert 0 < bar[-1] < bar[0] < 1


def test_trained_betas_are_taken():
    bar = alphas_cumprod(ScheduleConfig(trained_betas=(0.5, 0.5)))
    np.testing.assert_allclose(bar, [0.5, 0.25])


def test_zero_snr_keeps_the_first_rate_and_ends_in_noise():
    plain = alphas_cumprod(ScheduleConfig())
    rescaled = alphas_cumprod(ScheduleConfig(rescale_betas_zero_snr=True))
    np.testing.assert_allclose(rescaled[0], plain[0])
    assert rescaled[-1] == 2.0**-24


def test_rates_at_training_times_are_the_table():
    schedule = ScheduleConfig.from_json(SD15)
    signal, noise = rates(schedule, jnp.arange(1000))
    bar = alphas_cumprod(schedule)
    np.testing.assert_allclose(signal, np.sqrt(bar), rtol=2e-6)
    np.testing.assert_allclose(noise, np.sqrt(1 - bar), rtol=2e-6)


def test_rates_between_times_lie_between():
    schedule = ScheduleConfig.from_json(SD15)
    signal, noise = rates(schedule, jnp.asarray(10.5))
    table = sigmas(schedule)
    np.testing.assert_allclose(
        noise / signal, np.sqrt(table[10] * table[11]), rtol=2e-6
    )


def test_noise_takes_one_time_per_image():
    schedule = ScheduleConfig.from_json(SD15)
    x0, eps, t = latents(0), latents(1), jnp.array([0, 500, 999])
    bar = alphas_cumprod(schedule)[np.asarray(t)].reshape(3, 1, 1, 1)
    expected = np.sqrt(bar) * np.asarray(x0) + np.sqrt(1 - bar) * np.asarray(eps)
    np.testing.assert_allclose(noise(schedule, x0, eps, t), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_means_the_true_eps(kind):
    schedule = ScheduleConfig(prediction_type=kind)
    x0, eps, t = latents(0), latents(1), jnp.array([20, 500, 900])
    x, perfect = noise(schedule, x0, eps, t), target(schedule, x0, eps, t)
    np.testing.assert_allclose(to_eps(schedule, perfect, x, t), eps, atol=2e-5)
