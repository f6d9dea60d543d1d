"""What the tests of evaluations share."""

import jax
import pytest

from personax.training import sharding


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Of the eight that the tests have: one step less for each to wait for."""
    make_mesh = sharding.make_mesh
    with pytest.MonkeyPatch.context() as patched:
        one = jax.devices()[:1]
        patched.setattr(
            sharding, "make_mesh", lambda data, fsdp: make_mesh(1, 1, devices=one)
        )
        yield
