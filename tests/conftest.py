"""How every test runs: eight CPU devices, shapes checked, warnings are errors."""

import os

from tests.fast import FAST

# Before jax starts: a wheel with a TPU library would otherwise look for one.
os.environ["JAX_PLATFORMS"] = "cpu"
_DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES} {FAST}".strip()
os.environ["HF_HUB_OFFLINE"] = "1"
# Where each operation was written is not looked up: some 3 % of the time.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"


import jax  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Every annotated shape of the library is checked whenever a test calls it.
install_import_hook("personax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")

from hypothesis import HealthCheck, settings  # noqa: E402

# The first example compiles, and the machine may be busy: time is no property here.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

import pytest  # noqa: E402

from personax.core import tree  # noqa: E402
from personax.diffusion.spec import Spec  # noqa: E402
from personax.networks.clip_text import init_clip_text  # noqa: E402
from personax.networks.unet import init_unet  # noqa: E402
from personax.networks.vae import init_vae  # noqa: E402
from tests.random_params import random_params  # noqa: E402
from tests.small_configs import TINY  # noqa: E402


def pytest_addoption(parser):
    parser.addoption(
        "--full-size",
        action="store_true",
        help="also run the checks at Stable Diffusion 1.5's full size (16 GB, minutes)",
    )


LONGEST = ("test_laws.py", "test_resume.py", "test_configs.py", "test_edit_command.py")


def pytest_configure(config):
    # xdist would begin with the files of the most tests.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    # The longest files first: at the end a worker would be alone with one.
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.getoption("--full-size"):
        return
    skip = pytest.mark.skip(reason="needs --full-size")
    for item in items:
        if "full_size" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_spec() -> Spec:
    """A whole model: every kind of layer, few numbers."""
    return TINY


@pytest.fixture(scope="session")
def tiny_params(tiny_spec) -> dict:
    """{"unet", "text_encoder", "vae"}, random; the same in every test."""
    inits = {
        "unet": (init_unet, tiny_spec.unet),
        "text_encoder": (init_clip_text, tiny_spec.text_encoder),
        "vae": (init_vae, tiny_spec.vae),
    }
    shapes = {
        part: jax.eval_shape(lambda i=init, c=config: i(jax.random.key(0), c))
        for part, (init, config) in inits.items()
    }
    return random_params(shapes)


@pytest.fixture(scope="session")
def tiny(tiny_spec, tiny_params):
    """The denoiser of the tiny model."""
    from personax.diffusion.denoiser import Denoiser

    params = {name: tiny_params[name] for name in ("unet", "text_encoder")}
    assert tree.count(params) < 300_000
    return Denoiser(params, spec=tiny_spec)


@pytest.fixture(scope="session")
def emoji():
    """The embedded base."""
    from personax.loading import load_base

    return load_base("emoji")
