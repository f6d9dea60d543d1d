"""Concepts of ours at a strength: what is scaled, what is kept and what is refused."""

import jax
import numpy as np
import pytest

from personax import methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.source import Source, parse_source
from personax.control.residual import Residual
from personax.core.tree import flat
from personax.loading import load_base
from personax.methods import Concept
from personax.methods.parts.tokens import TABLE
from tests.small_models import write_small

pytestmark = pytest.mark.quick
WORD = Concept("<v1>", "dog", (1212,), (7,), "<v1> dog")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(write_small(tmp_path_factory.mktemp("strength") / "base"))


def save(folder, base, name, **arguments):
    method = methods.make(name, **arguments)
    theta = methods.init(method, jax.random.key(0), base.params, [WORD])
    theta = jax.tree.map(lambda leaf: leaf + 0.1, theta)
    artifact.save(
        folder,
        theta,
        [WORD],
        method=name,
        method_args=arguments,
        base=base.name,
        fingerprint=base.fingerprint,
    )
    return str(folder)


def bind(base, source):
    return with_concepts(from_base(base), base, [source]).denoiser


def test_weights_are_between_the_base_s_and_the_concept_s(base, tmp_path):
    source = save(tmp_path / "a", base, "custom_diffusion")
    whole, half = bind(base, source), bind(base, f"{source}@0.25")
    plain = from_base(base).denoiser
    old, new, own = (flat(each.params) for each in (plain, whole, half))
    changed = [path for path in old if old[path] is not new[path] and path != TABLE]
    assert changed
    for path in changed:
        want = 0.75 * np.float64(old[path]) + 0.25 * np.float64(new[path])
        np.testing.assert_allclose(own[path], want, rtol=0, atol=1e-6, err_msg=path)
    # A word has no weaker form.
    np.testing.assert_array_equal(own[TABLE], new[TABLE])


def test_infusion_s_values_are_scaled(base, tmp_path):
    source = save(tmp_path / "a", base, "infusion")
    whole, half = (
        next(each for each in bind(base, text).controls if isinstance(each, Residual))
        for text in (source, f"{source}@-0.5")
    )
    assert whole.values
    for site, values in whole.values.items():
        assert np.abs(values).max() > 0.05
        np.testing.assert_allclose(half.values[site], -0.5 * values, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("textual_inversion", "this concept is a word alone"),
        ("perfusion", "changes that cannot be scaled"),
        ("neti", "changes that cannot be scaled"),
    ],
)
def test_a_strength_without_meaning_is_refused(base, tmp_path, name, said):
    source = save(tmp_path / "a", base, name)
    bind(base, source)
    with pytest.raises(ValueError, match=said) as error:
        bind(base, f"{source}@0.5")
    assert str(error.value).startswith(f"{source}@0.5: ")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a", "", 1.0)),
        ("a@0.5", ("a", "", 0.5)),
        ("a@-1", ("a", "", -1.0)),
        ("<v2>=a@.5", ("a", "<v2>", 0.5)),
        ("<v2>=b@2", ("b@2", "<v2>", 1.0)),  # exists
        ("b@2", ("b@2", "", 1.0)),
        ("b@2@3", ("b@2", "", 3.0)),
        ("c=d", ("c=d", "", 1.0)),
        ("c=d@2", ("c=d", "", 2.0)),
        ("missing@0.5", ("missing", "", 0.5)),
        ("<v2>=missing", ("missing", "<v2>", 1.0)),
    ],
)
def test_sources(tmp_path, monkeypatch, text, parts):
    for name in ("a", "b@2", "c=d"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    source = parse_source(text)
    assert (str(source.path), source.placeholder, source.strength) == parts
    assert parse_source(str(source)) == source or "missing" in text
    assert isinstance(source, Source)
