"""From a config to a run: everything that is loaded and checked before training."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from personax import methods
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core.typing import Ids, Theta
from personax.data.corpus import read_corpus
from personax.data.dataset import Dataset
from personax.loading import Base, load_base
from personax.methods import Concept, Method
from personax.networks.compute import Compute
from personax.networks.tokenizer import Tokenizer, tokenize
from personax.training import sharding
from personax.training.concept_text import (
    ConceptSpec,
    check_prompts,
    concept_configs,
    make_specs,
)
from personax.training.config import TrainConfig, train_config
from personax.training.datasets import make_dataset, make_validation
from personax.training.optimizer import make_optimizer, make_schedule
from personax.training.preview import captions
from personax.training.regularization import Prior, check
from personax.training.state import TrainState, create

# What `Part.requires` may name.
_PROVIDED = frozenset({"captions", "hints", "null"})


class Loaded(NamedTuple):
    """A base, and its model, for runs that are only checked."""

    base: Base
    plain: Model


class Run(NamedTuple):
    """What a training run consists of before its first step."""

    config: TrainConfig
    base: Base
    plain: Model  # the base with the concepts of `config.before`
    tokenizer: Tokenizer  # with the placeholders of the run's concepts
    method: Method
    specs: list[ConceptSpec]
    dataset: Dataset  # without regularisation sets
    validation: Dataset | None
    priors: list[Prior]
    size: tuple[int, int]  # (height, width) in pixels
    mesh: Mesh
    theta: Theta
    schedule: optax.Schedule
    tx: optax.GradientTransformation

    @property
    def concepts(self) -> list[Concept]:
        return [spec.concept for spec in self.specs]

    @property
    def known(self) -> tuple[Concept, ...]:
        """The concepts of `config.before`, then the run's own; their marks' order."""
        return (*self.plain.concepts, *self.concepts)

    @property
    def pairs(self) -> Int[np.ndarray, "k 2 n"]:
        """The phrases that the semantic preservation loss compares, by concept."""
        phrases = [
            f"a photo of a {words}"
            for concept in self.concepts
            if concept.placeholder
            for words in (concept.phrase, concept.class_word)
        ]
        ids = tokenize(self.tokenizer, phrases)
        return ids.reshape(-1, 2, ids.shape[1])

    def bind(self, theta: Theta) -> Model:
        """The base and the concepts of `config.before`, with `theta` applied."""
        bound = methods.bind(self.method, self.plain.denoiser, theta)
        return Model(bound, self.tokenizer, self.known)


def prepare(
    config: TrainConfig | ConfigDict | Mapping[str, Any],
    like: Run | Loaded | None = None,
) -> Run:
    """The run of a config, with everything loaded and checked.

    The base and what is computed from it are taken from the run `like`, if given, whose
    config may differ in the concept alone.

    Raises ValueError, TypeError or FileNotFoundError for an invalid config.
    """
    config = train_config(config)
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh.shape))
    method = methods.make(config.method, **config.method_args)
    _check_requirements(config, method)
    base, plain = _load(config, mesh, like)
    if base.spec.inpaints and (config.stream.source or "").startswith("cache:"):
        raise ValueError(
            f"{base.name} is an inpainting model: its masks need pictures, and "
            f"{config.stream.source} holds latents; stream the pictures themselves."
        )
    size = (config.size, config.size) if config.size else base.spec.size
    base.spec.latent_shape(*size)
    specs, tokenizer = make_specs(
        concept_configs(config.concept, config.concepts_list),
        plain.tokenizer,
        adds_words=method.adds_tokens,
    )
    concepts = [spec.concept for spec in specs]
    previews = captions(config.preview.prompts, concepts)
    check_prompts(tokenizer, [row.text for row in previews])
    settings = dataclasses.asdict(config.prior)
    priors = [
        Prior(**settings, prompt=spec.prior_prompt, images=spec.prior_images)
        for spec in specs
    ]
    for prior, concept in zip(priors, concepts, strict=True):
        check(prior, concept.class_word)
    key = jax.random.key(config.seed)
    theta = methods.init(method, key, plain.denoiser.params, concepts)
    if not theta:
        raise ValueError(f"The method {config.method} trains no parameters here.")
    corpus = _corpus(config, method, tokenizer)
    rows = config.batch * (2 if config.prior.source else 1)
    schedule = make_schedule(config.optimizer, config.steps, rows * config.accumulate)
    tx = make_optimizer(schedule, theta, config.optimizer)
    if rows % mesh.size:
        raise ValueError(
            f"A batch of {rows} examples is not divisible by the {mesh.size} devices."
        )
    sharding.of_tree(theta, mesh, config.mesh.theta_rules)  # raises for a missing rule
    sharding.check_rules(config.mesh.theta_rules, theta)
    dataset = make_dataset(config, base, size, mesh, specs)
    if like is None:
        ready = methods.prepare(method, plain.denoiser, corpus)
    else:
        ready = like.plain.denoiser
    return Run(
        config=config,
        base=base,
        plain=plain._replace(denoiser=ready),
        tokenizer=tokenizer,
        method=method,
        specs=specs,
        dataset=dataset,
        validation=make_validation(config, dataset),
        priors=priors,
        size=size,
        mesh=mesh,
        theta=theta,
        schedule=schedule,
        tx=tx,
    )


def init_state(run: Run) -> tuple[TrainState, TrainState]:
    """The state before the first step, and its shardings."""
    config, key = run.config, jax.random.fold_in(jax.random.key(run.config.seed), 1)

    def init(theta: Theta, opt: Any) -> TrainState:
        return create(theta, opt, key, ema=config.ema_decay is not None)

    shapes = jax.eval_shape(lambda theta: init(theta, run.tx.init(theta)), run.theta)
    shardings = sharding.of_state(shapes, run.tx, run.mesh, config.mesh.theta_rules)
    theta = sharding.put(run.theta, shardings.theta)
    # Created in place: one device may not hold the moments of all parameters.
    opt = jax.jit(run.tx.init, out_shardings=shardings.opt)(theta)
    return sharding.put(init(theta, opt), shardings), shardings


def _check_requirements(config: TrainConfig, method: Method) -> None:
    unknown = method.requires - _PROVIDED
    if unknown:
        raise ValueError(
            f"The method {config.method} requires {min(unknown)}; a training run can "
            f"provide {', '.join(sorted(_PROVIDED))}."
        )
    if config.dtype == "float16" and jax.default_backend() == "cpu":
        raise ValueError(
            "dtype=float16 needs a GPU or TPU; on a CPU use float32 or bfloat16."
        )
    prompted = config.stream.source and config.stream.captions == "prompt"
    if prompted and not config.concept.class_word:
        raise ValueError(
            f"What do the pictures of {config.stream.source} show? Set "
            "concept.class_word, such as dog."
        )
    if config.stream.source and config.concept.captions == "own":
        raise ValueError(
            "concept.captions own applies to few pictures; a stream has "
            "stream.captions own."
        )
    if "hints" in method.requires and not (config.stream.source and config.stream.hint):
        raise ValueError(
            f"The method {config.method} needs hints: --config.stream.source scenes "
            "--config.stream.hint canny."
        )


def _load(
    config: TrainConfig, mesh: Mesh, like: Run | Loaded | None
) -> tuple[Base, Model]:
    if like is None:
        base = load_base(
            config.base,
            sharding=sharding.by_rules(mesh, config.mesh.base_rules),
            **config.loading.options(),
        )
        sharding.check_rules(config.mesh.base_rules, base.params)
    else:
        base = like.base
    compute = Compute(config.dtype, config.remat, mesh=mesh)  # type: ignore[arg-type]
    plain = from_base(base, compute)
    allowed = config.loading.allow_pickle
    return base, with_concepts(plain, base, config.before, allow_pickle=allowed)


def _corpus(config: TrainConfig, method: Method, tokenizer: Tokenizer) -> Ids | None:
    """The ids that a method encodes before training: captions, or the empty text."""
    if "captions" not in method.requires:
        null = "null" in method.requires
        return jnp.asarray(tokenize(tokenizer, [""])) if null else None
    if not config.corpus:
        raise ValueError(
            f"The method {config.method} needs a corpus of captions: --config.corpus "
            "world, world:N or FILE.txt."
        )
    return jnp.asarray(tokenize(tokenizer, read_corpus(config.corpus)))
