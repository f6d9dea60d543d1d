"""A config, checked and read: all that a run is before anything is computed."""

import dataclasses
from typing import NamedTuple

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
from personax.training.concept_text import Lesson, check_prompts, entries, lessons
from personax.training.datasets import make_dataset, make_validation
from personax.training.optimizer import make_optimizer, make_schedule
from personax.training.preview import captions
from personax.training.regularization import Prior, check


class Run(NamedTuple):
    """What there is before the first step."""

    base: Base
    plain: Model  # the base, with the concepts that it starts from
    tokenizer: Tokenizer  # which knows the words to come as well
    method: Method
    lessons: list[Lesson]
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
        return [lesson.concept for lesson in self.lessons]

    @property
    def known(self) -> tuple[Concept, ...]:
        """Those and the ones that it starts from, in the order of their marks."""
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
        """What it starts from, with the concepts as far as they are taught."""
        bound = methods.bind(self.method, self.plain.denoiser, theta)
        return Model(bound, self.tokenizer, self.known)


def prepare(config: ConfigDict, like: Run | None = None) -> Run:
    """The run that a config asks for.

    What a run `like` it has loaded and computed of the base is taken from there: its
    config may differ in the concept alone.

    Raises ValueError, TypeError or FileNotFoundError in one sentence for whatever in
    the config does not exist or does not fit.
    """
    _check_keys(config)
    _check_numbers(config)
    mesh = sharding.make_mesh(**config.mesh.shape)
    method = methods.make(config.method, **config.method_args)
    _check_hints(config, method)
    base, plain = _load(config, mesh, like)
    size = (config.size, config.size) if config.size else base.spec.size
    base.spec.latent_shape(*size)
    found, tokenizer = lessons(
        entries(config.concept.to_dict(), config.concepts_list),
        plain.tokenizer,
        adds_words=method.adds_words,
    )
    spoken = [lesson.concept for lesson in found]
    shown = captions(config.preview.prompts, spoken)
    check_prompts(tokenizer, [row.text for row in shown])
    priors = [_prior(config, lesson) for lesson in found]
    key = jax.random.key(config.seed)
    theta = methods.init(method, key, plain.denoiser.params, spoken)
    if not theta:
        raise ValueError(f"The method {config.method} has nothing to train here.")
    corpus = _corpus(config, method, tokenizer)
    schedule, tx = _optimizer(config, theta)
    _check_rows(config, mesh)
    sharding.of_tree(theta, mesh, config.mesh.theta_rules)  # refuses a missing rule
    sharding.check_rules(config.mesh.theta_rules, sharding.paths_of(theta))
    dataset = make_dataset(config, base, size, mesh, found)
    if like is None:
        ready = methods.prepare(method, plain.denoiser, corpus)
    else:
        ready = like.plain.denoiser
    return Run(
        base=base,
        plain=plain._replace(denoiser=ready),
        tokenizer=tokenizer,
        method=method,
        lessons=found,
        dataset=dataset,
        validation=make_validation(config, dataset),
        priors=priors,
        size=size,
        mesh=mesh,
        theta=theta,
        schedule=schedule,
        tx=tx,
    )


_KEYS = (
    *("base", "before", "loading", "seed", "size", "method", "method_args"),
    *("concept", "concepts_list", "data", "stream", "prior", "optimizer", "batch"),
    *("accumulate", "steps", "ema_decay", "dtype", "remat", "mesh", "log_every"),
    *("save_every", "keep", "preview", "validation", "corpus"),
)


def _check_keys(config: ConfigDict) -> None:
    missing = [key for key in _KEYS if key not in config]
    if missing:
        raise ValueError(
            f"The config has no {', '.join(missing)}; configs/common.py has them all."
        )


def _check_numbers(config: ConfigDict) -> None:
    for name in (
        *("batch", "accumulate", "steps", "log_every", "save_every", "keep"),
        *("preview.steps", "preview.images"),
    ):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}; it must be at least 1.")
    if config.seed < 0:
        raise ValueError(f"seed is {config.seed}; it must not be negative.")
    if config.preview.unconditional not in ("own", "base"):
        found = config.preview.unconditional
        raise ValueError(f"preview.unconditional is {found!r}; there are: own, base.")
    if config.optimizer.learning_rate <= 0:
        rate = config.optimizer.learning_rate
        raise ValueError(f"optimizer.learning_rate is {rate}; it must be positive.")


def _check_hints(config: ConfigDict, method: Method) -> None:
    needed = any(part.needs == "hints" for part in method.parts.values())
    if needed and not (config.stream.source and config.stream.hint):
        raise ValueError(
            f"The method {config.method} learns from hints, which a stream brings: "
            "--config.stream.source scenes --config.stream.hint canny."
        )


def _load(config: ConfigDict, mesh: Mesh, like: Run | None) -> tuple[Base, Model]:
    options = {name: value for name, value in config.loading.items() if value}
    if like is None:
        base = load_base(
            config.base,
            sharding=sharding.by_rules(mesh, config.mesh.base_rules),
            **options,
        )
        sharding.check_rules(config.mesh.base_rules, sharding.paths_of(base.params))
    else:
        base = like.base
    plain = from_base(base, Compute(config.dtype, config.remat, mesh=mesh))
    return base, with_concepts(plain, base, config.before)


def _prior(config: ConfigDict, lesson: Lesson) -> Prior:
    fields = {field.name for field in dataclasses.fields(Prior)}
    settings = {name: x for name, x in config.prior.items() if name in fields}
    prior = Prior(**settings, prompt=lesson.prior_prompt, images=lesson.prior_images)
    check(prior, lesson.concept.class_word)
    return prior


def _corpus(config: ConfigDict, method: Method, tokenizer: Tokenizer) -> Ids | None:
    """What a method wants read before it begins: captions, the empty text, or none."""
    needs = {part.needs for part in method.parts.values()}
    if "captions" not in needs:
        return jnp.asarray(tokenize(tokenizer, [""])) if "null" in needs else None
    if not config.corpus:
        raise ValueError(
            f"The method {config.method} needs a corpus of captions: --config.corpus "
            "world, world:N or FILE.txt."
        )
    return jnp.asarray(tokenize(tokenizer, read_corpus(config.corpus)))


def _optimizer(
    config: ConfigDict, theta: Theta
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    settings = config.optimizer
    rate = settings.learning_rate
    if settings.scale_by_batch:
        # The released scripts' --scale_lr: what one step sees, regularisation included.
        rate *= config.batch * config.accumulate * _shares(config)
    schedule = make_schedule(
        rate, schedule=settings.schedule, warmup=settings.warmup, steps=config.steps
    )
    factors = {
        part: own / settings.learning_rate
        for part, own in settings.learning_rates.items()
        if own
    }
    named = ("name", "b1", "b2", "eps", "weight_decay", "clip")
    options = {name: settings[name] for name in named}
    return schedule, make_optimizer(schedule, theta, factors=factors, **options)


def _check_rows(config: ConfigDict, mesh: Mesh) -> None:
    rows = config.batch * _shares(config)
    if rows % mesh.size:
        raise ValueError(
            f"A batch of {rows} examples does not divide by the {mesh.size} devices."
        )


def _shares(config: ConfigDict) -> int:
    """How many times `batch` examples a step sees: the concepts' and a prior's."""
    return 2 if config.prior.source else 1
