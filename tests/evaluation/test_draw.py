"""Batched sampling, with terms of two models as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.concepts.bind import from_base
from personax.diffusion.solvers import SOLVERS
from personax.evaluation.config import DrawConfig
from personax.evaluation.draw import make_draw
from personax.loading import load_base
from personax.sampling.prompt_terms import TermSpec, to_terms
from personax.sampling.sampler import make_sampler
from tests.small_models import write_smaller

SETTINGS = {"solver": "ddim", "steps": 2, "guidance": 3.0, "eta": 0.0, "batch": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(write_smaller(tmp_path_factory.mktemp("base")))


def test_terms_are_those_of_sample_with_the_base_s_unconditional_one(base):
    plain = from_base(base)
    unet = jax.tree.map(lambda x: 1.1 * x, plain.denoiser.params["unet"])
    params = plain.denoiser.params | {"unet": unet}
    model = plain._replace(denoiser=plain.denoiser.replace(params=params))
    draw = make_draw(base, DrawConfig(**SETTINGS))
    asked = [("a photo of a dog", 3), ("a cat", 4)]
    found = draw(model, asked, 2, ("concept@1.5:", "2.5:{} at night"))
    assert len(found.pixels) == len(found.latents) == 4

    models = {"base": plain, "face": model}
    term_specs = [TermSpec("", 1.5, "face"), TermSpec("a cat at night", 2.5)]
    solver, spec = SOLVERS["ddim"], base.spec
    sampler = make_sampler(spec, base.params["vae"], solver, 2)
    terms = to_terms(models, term_specs)
    alone = sampler.latents(models, terms, jax.random.key(4), jnp.arange(2)).latents
    np.testing.assert_allclose(found.latents[2:], alone, atol=1e-4)
    other = draw(model, asked, 2)
    assert np.abs(other.latents - found.latents).max() > 0.01
