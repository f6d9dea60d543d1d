"""The models that terms may name: their sources, shared weights and predictions.

Three small bases on disk, and a concept on the third of them.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.concepts.load_models import check_agreement, load_models
from personax.core.tree import flat
from personax.diffusion import guidance
from personax.diffusion.denoiser import predict
from personax.diffusion.solvers import SOLVERS
from personax.loading.write import write_controlnet
from personax.networks.controlnet import ControlNetConfig, copy_encoder
from personax.sampling import prompt_terms
from personax.sampling.grammar import parse_term
from tests.small_models import write_concept, write_small

# One compilation for all models of one shape.
predicted = jax.jit(predict)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """The folders "base", "sd", "art", and "face": a concept that names "art"."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(["base", "sd", "art"]):
        write_small(root / name, seed)
    write_concept(root / "face", root / "art")
    return root


def named(disk, *names):
    return {name: str(disk / name) for name in names}


@pytest.fixture(scope="module")
def loaded(disk):
    return load_models(str(disk / "base"), others=named(disk, "sd", "art", "face"))


def leaves(model):
    return flat(model.denoiser.params)


def test_a_concept_is_loaded_with_its_own_base(loaded):
    art, face = (leaves(loaded.models[name]) for name in ("art", "face"))
    changed = {path for path in art if art[path] is not face[path]}
    assert changed
    assert all("/attn2/to_" in path for path in changed)
    assert [concept.class_word for concept in loaded.models["face"].concepts] == [
        "face"
    ]


def test_a_concept_of_the_base_shares_its_weights(disk):
    loaded = load_models(str(disk / "art"), others=named(disk, "face"))
    art, face = (leaves(loaded.models[name]) for name in ("base", "face"))
    shared = [path for path in art if art[path] is face[path]]
    assert len(shared) > 0.9 * len(art)


def test_two_names_of_one_base_are_one_model(disk):
    again = {"copy": disk / "base", "more": disk / "sd", "sd": disk / "sd"}
    again = {name: str(source) for name, source in again.items()}
    models = load_models(str(disk / "base"), others=again).models
    assert models["copy"] is models["base"]
    assert models["sd"] is models["more"]
    term_specs = list(map(parse_term, ("copy@2:a dog", "1:a cat", "sd@1:")))
    terms = prompt_terms.to_terms(models, term_specs, unconditional="copy")
    assert [term.denoiser for term in terms] == ["base", "base", "base", "more"]


@pytest.mark.parametrize(
    ("first", "second", "unconditional"),
    [
        ("face@1.5:", "sd@2.5:wearing glasses", "sd"),  # concept-centric
        ("art@3:a dog", "sd@0:", "base"),  # rectified
        ("face@1.5:", "art@2:at night", "base"),  # a third checkpoint's style
        ("2:a dog", "face@-1:a cat", "art"),
    ],
)
def test_terms_match_the_formula_of_generalised_guidance(
    loaded, first, second, unconditional, monkeypatch
):
    """eps = (1 - w1 - w2) eps_u + w1 eps_1 + w2 eps_2, each by its own model."""
    monkeypatch.setattr(guidance, "network", predicted)
    term_specs = [parse_term(first), parse_term(second)]
    terms = prompt_terms.to_terms(
        loaded.models, term_specs, unconditional=unconditional
    )
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    denoisers = {name: model.denoiser for name, model in loaded.models.items()}
    eps_fn = guidance.guide(denoisers, terms)
    ours = eps_fn(x, jnp.array(500.0), jnp.array(0))[0]
    w1, w2 = (term_spec.weight for term_spec in term_specs)
    eps = [
        _alone(loaded.models[name], text, x, marked)
        for name, text, marked in [
            (unconditional, "", False),
            *((term_spec.model, term_spec.prompt, True) for term_spec in term_specs),
        ]
    ]
    expected = (1 - w1 - w2) * eps[0] + w1 * eps[1] + w2 * eps[2]
    scale = np.abs(expected).max()
    assert np.isfinite(scale)
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-5)


def _alone(model, text, x, marked):
    prompt = prompt_terms.to_prompt(model, text, marked=marked)
    rows = guidance.broadcast_prompt(prompt, x.shape[0])
    return predicted(model.denoiser, x, jnp.full(x.shape[:1], 500.0), rows)[0]


def test_a_digest_changes_with_the_weights(loaded):
    digests = loaded.digests
    assert list(digests) == list(loaded.models)
    assert len(set(digests.values())) == 4
    assert digests["face"].startswith(digests["art"])


def test_a_weight_schedule_needs_a_grid(loaded):
    grid = SOLVERS["heun"].grid(loaded.base.spec.schedule, 3)
    term_specs = [parse_term("sd@1>3:a dog"), parse_term("2[0,0.5]:")]
    null, first, second = prompt_terms.to_terms(loaded.models, term_specs, grid=grid)
    np.testing.assert_allclose(first.weight, [1, 2, 2, 3, 3])
    np.testing.assert_allclose(second.weight, [2, 0, 0, 0, 0])
    np.testing.assert_allclose(null.weight, [-2, -1, -1, -2, -2])
    with pytest.raises(ValueError, match="grid"):
        prompt_terms.to_terms(loaded.models, term_specs)


@pytest.mark.parametrize(
    ("part", "option", "value", "sentence"),
    [
        ("vae", "scaling_factor", 1.5, "scaled by 1.5"),
        ("vae", "latent_channels", 8, "latents of 8 channels"),
        ("schedule", "prediction_type", "v_prediction", "predicts v_prediction"),
        ("schedule", "beta_end", 0.02, "another noise schedule"),
    ],
)
def test_models_that_cannot_be_combined_are_refused(
    loaded, part, option, value, sentence
):
    spec = loaded.base.spec
    other = dataclasses.replace(getattr(spec, part), **{option: value})
    check_agreement("face", spec, spec)
    with pytest.raises(ValueError, match=sentence):
        check_agreement("face", dataclasses.replace(spec, **{part: other}), spec)


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("base", "x", "must not be base"),
        ("a:b", "x", "not contain @ or a colon"),
        ("face", "/nowhere/at/all", "/nowhere/at/all"),
    ],
)
def test_an_invalid_source_is_refused(disk, name, source, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        load_models(str(disk / "base"), others={name: source})


def test_a_controlnet_is_added_to_the_named_model(disk, loaded, tmp_path):
    config = ControlNetConfig.of(loaded.base.spec.unet, (4, 8))
    unet = loaded.base.params["unet"]
    net = copy_encoder(jax.random.key(0), unet, (4, 8))
    write_controlnet(tmp_path / "net", net, config)
    base, net = str(disk / "base"), str(tmp_path / "net")
    models = load_models(base, others={"edges": base}, controls={"edges": net}).models
    own, plain = (models[name].denoiser.params for name in ("edges", "base"))
    assert "controlnet" in own
    assert "controlnet" not in plain
    assert own["unet"] is plain["unet"]
    with pytest.raises(ValueError, match="unknown model 'edge'; expected one of base"):
        load_models(base, controls={"edge": net})


def test_a_concept_whose_base_is_missing_or_changed_is_refused(disk, tmp_path):
    about = json.loads((disk / "face" / "concept.json").read_text())
    theta = (disk / "face" / "theta.safetensors").read_bytes()
    for name, base, sentence in (
        ("gone", "/nowhere/at/all", "has the base '/nowhere/at/all'"),
        ("other", str(disk / "sd"), "whose weights differ"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "concept.json").write_text(json.dumps({**about, "base": base}))
        (folder / "theta.safetensors").write_bytes(theta)
        with pytest.raises(ValueError, match=sentence):
            load_models(str(disk / "base"), others={"face": str(folder)})
