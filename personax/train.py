"""The command that teaches: `python -m personax.train --config FILE`."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jaxtyping import Float, Int
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from personax import artifact, command, generate, images, methods, prompts
from personax.data import concepts
from personax.denoiser import Denoiser
from personax.diffusion.solvers import SOLVERS
from personax.loading import Base, load_base
from personax.methods import Concept
from personax.methods.losses import Batch
from personax.model import Model, from_base, with_words
from personax.networks import vae
from personax.networks.compute import Compute
from personax.networks.tokenizer import (
    tokenize,
    unknown_placeholders,
    vocabulary_id,
)
from personax.prompts import Wish
from personax.training.checkpoint import Checkpoints
from personax.training.state import TrainState, create
from personax.training.step import make_step
from personax.tree import count
from personax.typing import Metrics


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    config_flags.DEFINE_config_file("config", None, "Such as configs/quickstart.py.")
    flags.DEFINE_string("workdir", None, "Default: runs/NAME of the config.")
    flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    command.start()
    config = flags.FLAGS.config
    source = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    train(config, pathlib.Path(flags.FLAGS.workdir or f"runs/{source.stem}"))


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Train the config's concept; leaves checkpoints, grid.png and concept/ there."""
    watch = command.Stopwatch()
    with watch("load"), command.one_sentence():
        base = load_base(config.base)
        method = methods.make(config.method, **config.method_args)
        compute = Compute(config.dtype, config.remat)
        plain = from_base(base, compute)
        concept = _concept(config, plain)
        model = plain._replace(tokenizer=with_words(plain.tokenizer, [concept]))
        size = (config.size, config.size) if config.size else base.spec.size
        pictures = concepts.pictures(config.concept.images, size)
        ids = tokenize(model.tokenizer, [config.concept.prompt] * config.batch)
        key = jax.random.key(config.seed)
        theta = methods.init(method, key, plain.denoiser.params, [concept])
        tx = optax.adamw(**config.optimizer)

    for part, leaves in theta.items():
        print(f"training {part}: {count(leaves):,} numbers in {len(leaves)} leaves")
    state = create(theta, tx.init(theta), jax.random.fold_in(key, 1))
    with watch("encode"):
        posterior = _posterior(base, compute, pictures)
    with (
        watch("train"),
        Checkpoints(
            workdir.absolute() / "checkpoints", every=config.save_every
        ) as checkpoints,
    ):
        state = checkpoints.restore(state)
        step = make_step(method, tx)
        state = _loop(config, step, state, plain.denoiser, posterior, ids, checkpoints)
    artifact.save(
        workdir / "concept",
        state.theta,
        [concept],
        method=config.method,
        method_args=config.method_args.to_dict(),
        base=base.name,
        fingerprint=base.fingerprint,
        step=int(state.step),
        prompt=config.concept.prompt,
        config=config.to_dict(),
    )
    with watch("preview"):
        trained = model._replace(
            denoiser=methods.bind(method, plain.denoiser, state.theta)
        )
        sheet = _preview(config, base, plain, trained, pictures)
        images.write_png(workdir / "grid.png", sheet)
    print(f"concept in {workdir / 'concept'}, pictures in {workdir / 'grid.png'}")
    print(watch)


def _concept(config: ConfigDict, model: Model) -> Concept:
    """The config's concept with its ids; ValueError for words that do not fit."""
    words = config.concept
    for word in (words.placeholder, words.class_word):
        if word not in words.prompt:
            raise ValueError(f"The prompt {words.prompt!r} does not hold {word!r}.")
    row = vocabulary_id(model.tokenizer, words.initial)
    concept = Concept(
        words.placeholder, words.class_word, (model.tokenizer.size,), (row,)
    )
    tokenizer = with_words(model.tokenizer, [concept])
    for prompt in (words.prompt, *config.preview.prompts):
        unknown = unknown_placeholders(tokenizer, [prompt])
        if unknown:
            raise ValueError(
                f"{unknown[0]} in {prompt!r} is not the concept's {words.placeholder}."
            )
    return concept


def _posterior(
    base: Base, compute: Compute, pictures: Float[np.ndarray, "n h w c"]
) -> vae.Posterior:
    """Every picture's posterior, computed once: the autoencoder does not train."""
    encode = jax.jit(
        functools.partial(vae.encode, config=base.spec.vae, compute=compute)
    )
    # One at a time: a set is small, a full-size picture's activations are not.
    each = [encode(base.params["vae"], images=picture[None]) for picture in pictures]
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *each)
    return jax.block_until_ready(joined)


def _loop(
    config: ConfigDict,
    step: Callable[..., tuple[TrainState, Metrics]],
    state: TrainState,
    base: Denoiser,
    posterior: vae.Posterior,
    ids: Int[np.ndarray, "b n"],
    checkpoints: Checkpoints,
) -> TrainState:
    """The state after the config's steps, from whichever it has taken."""
    start = int(state.step)
    visits = concepts.visits(posterior.mean.shape[0], config.batch, config.seed, start)
    with tqdm(total=config.steps, initial=start, unit="step", desc="training") as bar:
        for i, visit in zip(range(start, config.steps), visits, strict=False):
            batch = Batch(jax.tree.map(lambda x, v=visit: x[v], posterior), ids)
            state, metrics = step(state, base, batch)
            bar.update()
            if (i + 1) % config.log_every == 0:
                loss = float(metrics["loss"])
                if not np.isfinite(loss):
                    raise FloatingPointError(f"The loss is {loss} at step {i + 1}.")
                bar.set_postfix(loss=f"{loss:.4f}")
            checkpoints.save(state, i + 1)
    checkpoints.save(state, config.steps, force=True)
    return state


def _preview(
    config: ConfigDict,
    base: Base,
    plain: Model,
    trained: Model,
    pictures: Float[np.ndarray, "n h w c"],
) -> images.Pixels:
    """A sheet: training pictures, the class as the base has it, the concept."""
    settings, words = config.preview, config.concept
    spec, columns = plain.denoiser.spec, settings.images
    solver = SOLVERS["ddim"]
    grid = solver.grid(spec.schedule, settings.steps)
    draw = generate.make_draw(solver, spec.latent_shape(*pictures.shape[1:3]))
    decode = generate.make_decode(spec)

    def row(model: Model, prompt: str) -> list[images.Pixels]:
        models = {"base": model}
        terms = prompts.to_terms(models, [Wish(prompt, settings.guidance)])
        key = jax.random.key(config.seed)
        latents = draw({"base": model.denoiser}, terms, grid, key, jnp.arange(columns))
        return list(np.asarray(decode(base.params["vae"], latents)))

    shown = list(images.to_uint8(pictures))[:columns]
    tiles: list[images.Pixels | None] = [*shown, *[None] * (columns - len(shown))]
    labels = ["training pictures"]
    for prompt in tqdm(settings.prompts, "drawing", unit="prompt"):
        for model, noun in (
            (plain, words.class_word),
            (trained, f"{words.placeholder} {words.class_word}"),
        ):
            labels.append(prompt.format(noun))
            tiles += row(model, labels[-1])
    title = f"{config.method}: {words.placeholder} {words.class_word}"
    return images.grid(tiles, columns=columns, row_labels=labels, title=title)


if __name__ == "__main__":
    define_flags()
    command.run(main)
