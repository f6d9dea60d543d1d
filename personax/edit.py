"""The command that edits by words: `python -m personax.edit --prompt … --edit …`."""

import functools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float

from personax.cli import command
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.typing import Latents
from personax.diffusion import alignment, p2p
from personax.diffusion.alignment import DEFAULT, Window
from personax.diffusion.p2p import Blend, Stream
from personax.diffusion.solvers import ddim
from personax.loading import Base, load_base
from personax.networks.compute import Compute
from personax.networks.tokenizer import (
    Tokenizer,
    concept_mask,
    positions,
    unknown_placeholders,
)
from personax.sampling import prompt_terms, sampler
from personax.sampling.inversion import (
    InvertedImage,
    invert_picture,
    reconstruction_psnr,
)
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents

FLAGS = flags.FLAGS


class EditRequest(NamedTuple):
    """What the flags say about the prompts and their words."""

    prompt: str
    edits: tuple[str, ...]
    factors: dict[str, float]  # {word: how much attention it gets}
    cross: dict[str, Window]
    within: Window
    blend: tuple[str, ...]
    subtract: tuple[str, ...]
    threshold: tuple[float, float]  # the source's, an edit's


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    number = flags.DEFINE_float
    command.define_base_flags()
    many("concept", [], "[<NAME>=]DIR: a trained concept that the edits may speak of.")
    text("prompt", None, "What the picture shows; with --image, what FILE shows.")
    many("edit", [], "What it shall show instead. Default: the prompt, reweighted.")
    flags.DEFINE_enum(
        "kind",
        "auto",
        ["auto", "replace", "refine"],
        "Replace word by word, or refine: keep what both prompts have. auto replaces "
        "where both have as many words.",
    )
    many("reweight", [], "WORD=FACTOR: more, less or negative attention to a word.")
    text(
        "cross_replace",
        "0.8",
        "Steps with the source's cross-attention: a share, FROM,TO, or by word "
        '"default=1.0,lion=0.4,hat=0.2:0.6".',
    )
    text("self_replace", "0.4", "Steps with its self-attention: a share, or FROM,TO.")
    number("self_limit", 0.5, "Self-attention up to this share of the latents' side.")
    text("blend", "", "Words, as in cat,dog: the picture changes only near them.")
    text("subtract", "", "Words near which it does not change, all the same.")
    text("blend_threshold", "0.3", "Share of a map's maximum: of both, or SOURCE,EDIT.")
    number("subtract_threshold", 0.3, "The same of the subtracted words.", 0.0, 1.0)
    number("blend_start", 0.2, "The share of the steps before blending.", 0.0, 1.0)
    flags.DEFINE_bool("compat", False, "Misalign words as the authors' release does.")
    text("image", None, "A real picture to edit.")
    flags.DEFINE_enum(
        "inversion", "null_text", ["null_text", "ddim"], "How --image is inverted."
    )
    number("guidance", 3.0, "The weight of the prompts.")
    flags.DEFINE_integer("steps", 50, "DDIM steps.", 1)
    flags.DEFINE_integer("num_images", 4, "How many pictures; one with --image.", 1)
    flags.DEFINE_integer("batch", 4, "Pictures at a time, each with its edits.", 1)
    flags.DEFINE_integer("seed", 0, "Picture i depends on the seed and i alone.")
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "bfloat16", "float16"],
        "Of weights and activations. Default: float32 on a CPU and with --image, else "
        "bfloat16.",
    )
    text("out", "out/edit", "Folder for the pictures.")
    flags.mark_flag_as_required("prompt")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        words = _words(argv)
        pixels = images.read_image(FLAGS.image) if FLAGS.image else None
        base, models = _models()
        term_specs = _wishes(models, words)
        prompt_terms.check(models, term_specs)
        tokenizer = models[term_specs[-1].model].tokenizer
        _check_words(tokenizer, words)
        spec = models["base"].denoiser.spec
        shape = spec.latent_shape(*spec.size)
        grid = ddim().grid(spec.schedule, FLAGS.steps)
        streams = _streams(models, term_specs, words, shape)
        blend = _blend(tokenizer, words)
        if blend is not None:  # for its ValueError
            p2p.blend_side(spec.unet, (1, *shape))

    denoisers = {name: model.denoiser for name, model in models.items()}
    photo, starts, count = None, _starts(shape), FLAGS.num_images
    if pixels is not None:
        with watch("invert"):
            fitted = images.fit(pixels, spec.size)
            photo = invert_picture(
                base.params["vae"],
                denoisers,
                streams[0],
                grid,
                fitted,
                null_text=FLAGS.inversion == "null_text",
            )
        streams = [stream.replace(null=photo.null) for stream in streams]
        starts, count = [photo.start], 1

    draw = jax.jit(functools.partial(p2p.draw, solver=ddim()))
    rows: list[list[Pixels]] = []
    with Progress(total=count, unit="image", desc="editing") as progress:
        for x in starts:
            with watch("edit"):
                latents = draw(denoisers, streams, grid=grid, x=x, blend=blend)
                together = latents.reshape(-1, *shape)
                drawn = np.asarray(decode_latents(spec, base.params["vae"], together))
            drawn = drawn.reshape(*latents.shape[:2], *drawn.shape[1:])
            rows += [list(row) for row in drawn.swapaxes(0, 1)]
            progress.update(min(len(rows), count) - progress.n)
    with watch("write"):
        found = reconstruction_psnr(photo, rows[0][0]) if photo else {}
        out = pathlib.Path(FLAGS.out)
        described = _described(models, term_specs)
        _write(out, rows[:count], described, words, base, photo, found)
    for what, ratio in found.items():
        print(f"{what}: {ratio:.2f} dB")
    print(f"{count} x {len(words.edits)} edits in {out}: {watch}.")


def _words(argv: Sequence[str]) -> EditRequest:
    if argv[1:]:
        raise ValueError(f"{argv[1]!r} belongs to no flag: quote prompts with spaces.")
    if not FLAGS.edit and not FLAGS.reweight:
        raise ValueError("Nothing is edited: give an --edit, or a --reweight.")
    threshold = _numbers("blend_threshold", FLAGS.blend_threshold)
    if not all(0 <= number <= 1 for number in threshold):
        raise ValueError(f"--blend_threshold {FLAGS.blend_threshold} is not in [0, 1].")
    return EditRequest(
        prompt=FLAGS.prompt,
        edits=tuple(FLAGS.edit) or (FLAGS.prompt,),
        factors=dict(map(_factor, FLAGS.reweight)),
        cross=_cross(FLAGS.cross_replace),
        within=_window("self_replace", FLAGS.self_replace),
        blend=command.listed(FLAGS.blend),
        subtract=command.listed(FLAGS.subtract),
        threshold=(threshold[0], threshold[-1]),
    )


def _factor(text: str) -> tuple[str, float]:
    word, _, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        value = math.nan
    if not word or not math.isfinite(value):
        raise ValueError(
            f"--reweight {text!r} is not of the form WORD=FACTOR, such as hat=2."
        )
    return word, value


def _cross(text: str) -> dict[str, Window]:
    """{word or DEFAULT: its window}."""
    if "=" not in text:
        return {DEFAULT: _window("cross_replace", text)}
    windows = {}
    for part in text.split(","):
        word, _, window = part.rpartition("=")
        if not word:
            raise ValueError(
                f"--cross_replace {text!r} is not of the form WORD=SHARE,WORD=FROM:TO."
            )
        windows[word.strip()] = _window("cross_replace", window.replace(":", ","))
    return windows


def _window(flag: str, text: str) -> Window:
    first, *rest = _numbers(flag, text)
    return alignment.check_window((first, *rest) if rest else first)


def _numbers(flag: str, text: str) -> list[float]:
    """One or two numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"--{flag} {text!r} is neither a number nor two, as 0.2,0.8.")
    return numbers


def _models() -> tuple[Base, dict[str, Model]]:
    """The base, and "base" and, where there is one, "concept"."""
    exact = jax.default_backend() == "cpu" or FLAGS.image
    compute = Compute(FLAGS.dtype or ("float32" if exact else "bfloat16"))
    options = command.base_options(FLAGS)
    base = load_base(FLAGS.base, param_dtype=compute.dtype, **options)
    models = {"base": from_base(base, compute)}
    if FLAGS.concept:
        models["concept"] = with_concepts(models["base"], base, FLAGS.concept)
    return base, models


def _wishes(models: Mapping[str, Model], words: EditRequest) -> list[TermSpec]:
    """What each stream is asked for, the source first.

    The base draws the source, unless that speaks of a concept: so a concept can take
    the place of something that the base draws.
    """
    last = list(models)[-1]
    plain = unknown_placeholders(models["base"].tokenizer, [words.prompt])
    source = TermSpec(words.prompt, FLAGS.guidance, last if plain else "base")
    return [source, *(TermSpec(edit, FLAGS.guidance, last) for edit in words.edits)]


def _check_words(tokenizer: Tokenizer, words: EditRequest) -> None:
    """ValueError for a word that is in none of the prompts that it is about."""
    both = (words.prompt, *words.edits)
    for flag, named, texts in (
        ("reweight", words.factors, words.edits),
        ("cross_replace", set(words.cross) - {DEFAULT}, words.edits),
        ("blend", words.blend, both),
        ("subtract", words.subtract, both),
    ):
        for word in named:
            if not any(positions(tokenizer, text, word) for text in texts):
                quoted = ", ".join(map(repr, texts))
                raise ValueError(f"The word {word!r} of --{flag} is not in {quoted}.")
    if words.subtract and not words.blend:
        raise ValueError("--subtract takes places from those of --blend: give both.")


def _streams(
    models: Mapping[str, Model],
    term_specs: Sequence[TermSpec],
    words: EditRequest,
    shape: Sequence[int],
) -> list[Stream]:
    """The source, and the edits that follow it."""
    model = models[term_specs[-1].model]
    most = p2p.pixel_limit(model.denoiser.spec.unet, *shape[:2], FLAGS.self_limit)
    first, *others = [
        tuple(prompt_terms.to_terms(models, [term_spec], unconditional=term_spec.model))
        for term_spec in term_specs
    ]
    streams = [Stream(first)]
    for term_spec, terms in zip(term_specs[1:], others, strict=True):

        def own(
            values: Mapping[str, Any], edit: str = term_spec.prompt
        ) -> dict[str, Any]:
            """Those of the words, which another edit may have, that this one has."""
            return {
                word: value
                for word, value in values.items()
                if word == DEFAULT or positions(model.tokenizer, edit, word)
            }

        follow = p2p.follow(
            model.tokenizer,
            words.prompt,
            term_spec.prompt,
            steps=FLAGS.steps,
            kind=FLAGS.kind,
            cross=own(words.cross),
            within=words.within,
            most=most,
            factors=own(words.factors),
            phrases=_phrases(model),
            compat=FLAGS.compat,
        )
        streams.append(Stream(terms, (None, follow)))
    return streams


def _phrases(model: Model) -> list[str]:
    """What counts as one word: "<v1> dog" may take the place of "cat"."""
    return [concept.phrase for concept in model.concepts]


def _blend(tokenizer: Tokenizer, words: EditRequest) -> Blend | None:
    if not words.blend:
        return None

    def marks(named: Sequence[str]) -> Float[Array, "p 2 n"]:
        """Of each stream the unconditional term's words, none, and the prompt's."""
        texts = (words.prompt, *words.edits)
        found = concept_mask(tokenizer, texts, named).any(0)
        return jnp.stack([jnp.zeros(found.shape), found.astype(np.float32)], 1)

    return Blend(
        words=marks(words.blend),
        threshold=jnp.asarray(words.threshold, jnp.float32),
        subtract=marks(words.subtract),
        subtract_threshold=jnp.asarray(FLAGS.subtract_threshold, jnp.float32),
        start=jnp.asarray(int(FLAGS.blend_start * FLAGS.steps)),
    )


def _starts(shape: Sequence[int]) -> Iterator[Latents]:
    """The noise of every batch: the one that `personax.sample` begins with."""
    size = min(FLAGS.batch, FLAGS.num_images)
    key = jax.random.key(FLAGS.seed)
    for first in range(0, FLAGS.num_images, size):
        yield sampler.start(key, jnp.arange(first, first + size), shape)


def _described(
    models: Mapping[str, Model], term_specs: Sequence[TermSpec]
) -> list[dict[str, str]]:
    """What edit.json says of each stream."""
    source, *edits = term_specs
    out = [{"prompt": source.prompt, "model": source.model}]
    for edit in edits:
        kind = FLAGS.kind
        if kind == "auto":
            model = models[edit.model]
            texts = source.prompt, edit.prompt
            kind = alignment.pick_kind(model.tokenizer, *texts, _phrases(model))
        out.append({"prompt": edit.prompt, "model": edit.model, "kind": kind})
    return out


def _write(
    out: pathlib.Path,
    rows: Sequence[Sequence[Pixels]],
    streams: Sequence[Mapping[str, str]],
    words: EditRequest,
    base: Base,
    photo: InvertedImage | None,
    found: Mapping[str, float],
) -> None:
    """Every picture, a labelled sheet of them, and edit.json."""
    settings = command.settings(FLAGS, base, sampler="ddim")
    records = []
    for index, row in enumerate(rows):
        names = [f"{index:04d}.png"]
        names += [f"{index:04d}_edit{k}.png" for k in range(1, len(row))]
        for name, picture, stream in zip(names, row, streams, strict=True):
            text = images.parameters(stream["prompt"], **settings)
            images.write_png(out / name, picture, {"parameters": text})
        records.append({"source": names[0], "edits": names[1:], "index": index})
    shown = {"the picture": photo.pixels, **photo.shown} if photo else {}
    for what, picture in shown.items():
        images.write_png(out / f"{what.replace(' ', '_')}.png", picture)
    labels = [*shown, *(stream["prompt"] for stream in streams)]
    tiles = [tile for row in rows for tile in (*shown.values(), *row)]
    details = ", ".join(
        f"{name}: {settings[name]}" for name in ("Steps", "Seed", "Model")
    )
    sheet = images.grid(tiles, column_labels=labels, title=f"{words.prompt}\n{details}")
    images.write_png(out / "grid.png", sheet)
    record = {
        "streams": list(streams),
        "words": words._asdict(),
        "self_limit": FLAGS.self_limit,
        "compat": FLAGS.compat,
        "image": FLAGS.image,
        "inversion": FLAGS.inversion if photo else None,
        "psnr": dict(found),
        "settings": settings,
        "pictures": records,
    }
    (out / "edit.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    define_flags()
    command.run(main)
