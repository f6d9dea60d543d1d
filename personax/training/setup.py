"""A config, checked and read: all that a run is before anything is computed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from personax import methods
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core import images
from personax.core.typing import Ids, Theta
from personax.data import concepts
from personax.data.captioned import Captioned
from personax.data.corpus import read_corpus
from personax.loading import Base, load_base
from personax.methods import Concept, Method
from personax.networks.compute import Compute
from personax.networks.tokenizer import Tokenizer, tokenize
from personax.training import few_shot, sharding
from personax.training.concept_text import Lesson, check_prompts, entries, lessons
from personax.training.few_shot import Data, Example, Options, still
from personax.training.optimizer import make_optimizer, make_schedule
from personax.training.preview import captions
from personax.training.regularization import Prior, check
from personax.training.stream_setup import Encoders, Material, open_material
from personax.training.streaming import Language


class Run(NamedTuple):
    """What there is before the first step."""

    base: Base
    plain: Model  # the base, with the concepts that it starts from
    tokenizer: Tokenizer  # which knows the words to come as well
    method: Method
    lessons: list[Lesson]
    pictures: list[list[images.Pixels]]  # of each lesson
    masks: list[list[images.Mask | None]]  # of each picture
    priors: list[Prior]
    size: tuple[int, int]  # (height, width) in pixels
    mesh: Mesh
    theta: Theta
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    material: Material | None  # a large set, in place of the pictures

    @property
    def concepts(self) -> list[Concept]:
        return [lesson.concept for lesson in self.lessons]

    @property
    def known(self) -> tuple[Concept, ...]:
        """Those and the ones that it starts from, in the order of their marks."""
        return (*self.plain.concepts, *self.concepts)

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
    material = _material(config, base, size, mesh, found)
    pictures = []
    if material is None:
        pictures = [concepts.pictures(lesson.images) for lesson in found]
    if like is None:
        ready = methods.prepare(method, plain.denoiser, corpus)
    else:
        ready = like.plain.denoiser
    run = Run(
        base=base,
        plain=plain._replace(denoiser=ready),
        tokenizer=tokenizer,
        method=method,
        lessons=found,
        pictures=pictures,
        masks=[
            _masks(lesson, len(own))
            for lesson, own in zip(found, pictures, strict=material is None)
        ],
        priors=priors,
        size=size,
        mesh=mesh,
        theta=theta,
        schedule=schedule,
        tx=tx,
        material=material,
    )
    if material is None:
        data = make_data(config, run, ())
        for each in (data, fixed_data(config, run, data)):
            few_shot.check(each)
    return run


def language(run: Run) -> Language:
    """How a run that streams speaks of its concept."""
    concept = run.concepts[0]
    return Language(
        tokenizer=run.tokenizer,
        handles=tuple(each.handle for each in run.known),
        phrase=concept.phrase,
        class_word=concept.class_word,
        pairs=_pairs(run),
    )


def make_data(
    config: ConfigDict, run: Run, priors: Sequence[Sequence[Captioned]]
) -> Data:
    """What the run's steps see, its regularisation pictures read."""
    # "" and () leave it to the augmentation.
    unset = ("crop", "words", "shrink")
    options = {k: v or None if k in unset else v for k, v in config.data.items()}
    return Data(
        sets=_sets(run),
        priors=tuple(
            tuple(
                Example(images.read_image(picture.path), (picture.caption,))
                for picture in found
            )
            for found in priors
            if found
        ),
        pairs=_pairs(run),
        handles=tuple(concept.handle for concept in run.known),
        size=run.size,
        factor=run.base.spec.vae.factor,
        rows=config.batch * config.accumulate,
        seed=config.seed,
        prior_weight=config.prior.weight,
        options=Options(**options),
    )


def fixed_data(config: ConfigDict, run: Run, data: Data) -> Data:
    """What the validation loss sees: pictures as they are, of its own folder if any."""
    sets = data.sets
    if config.validation.images:
        pixels = concepts.pictures(config.validation.images)
        first = sets[0][0]
        sets = (tuple(first._replace(pixels=each) for each in pixels),)
    # As many as a step sees, which divides by the devices.
    rows = data.rows * _shares(config)
    return data._replace(sets=sets, priors=(), rows=rows, options=still(data.options))


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


# What `config.stream` says of its own, or what makes no sense there.
_FEW_SHOT = ("augment", "crop", "flip", "words", "shrink", "cut_mix")


def _material(
    config: ConfigDict,
    base: Base,
    size: tuple[int, int],
    mesh: Mesh,
    found: Sequence[Lesson],
) -> Material | None:
    if not config.stream.source:
        return None
    unset = ("none", "", False, (), 0)
    said = [name for name in _FEW_SHOT if config.data[name] not in unset]
    if said:
        raise ValueError(
            f"data.{said[0]} is for few pictures; a stream has stream.crop and "
            "stream.flip, and no augmentation."
        )
    if config.prior.source:
        raise ValueError(
            'A stream has no regularisation set beside it: --config.prior.source "".'
        )
    if len(found) > 1:
        raise ValueError("A stream teaches one concept, and concepts_list has more.")
    if config.validation.every and config.validation.images:
        raise ValueError(
            "A stream holds out validation.count of its own pictures; leave "
            "validation.images empty."
        )
    return open_material(
        config.stream.to_dict(),
        encoders=Encoders(
            base.name,
            base.vae_fingerprint,
            base.text_fingerprint,
            base.spec.vae.factor,
        ),
        size=size,
        rows=config.batch * config.accumulate,
        mesh=mesh,
        seed=config.seed,
        prompts=found[0].captions,
        dropout=config.data.caption_dropout,
        held_out=config.validation.count if config.validation.every else 0,
    )


def _masks(lesson: Lesson, count: int) -> list[images.Mask | None]:
    if not lesson.masks:
        return [None] * count
    return list(concepts.masks(lesson.masks, lesson.images))


def _sets(run: Run) -> tuple[tuple[Example, ...], ...]:
    return tuple(
        tuple(
            Example(
                pixels,
                lesson.captions,
                lesson.concept.phrase,
                lesson.concept.class_word,
                mask,
            )
            for pixels, mask in zip(pictures, masks, strict=True)
        )
        for lesson, pictures, masks in zip(
            run.lessons, run.pictures, run.masks, strict=True
        )
    )


def _pairs(run: Run):
    """The phrases that the semantic preservation loss compares, concept by concept."""
    phrases = [
        f"a photo of a {words}"
        for concept in run.concepts
        if concept.placeholder
        for words in (concept.phrase, concept.class_word)
    ]
    ids = tokenize(run.tokenizer, phrases)
    return ids.reshape(-1, 2, ids.shape[1])
