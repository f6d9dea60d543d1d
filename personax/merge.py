"""The command that joins concepts: `python -m personax.merge A B --out AB`."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jaxtyping import Float

from personax.cli import command
from personax.concepts import artifact
from personax.concepts.artifact import Artifact
from personax.concepts.bind import Model, from_base, with_concepts
from personax.concepts.merge_kernels import (
    Merged,
    Target,
    merge_kernels,
    rows_of,
    target_prompts,
)
from personax.core.tree import flat, select
from personax.core.typing import Theta
from personax.diffusion.denoiser import encode
from personax.loading import EMBEDDED, Base, embedded_world, load_base
from personax.methods import Concept
from personax.networks.tokenizer import tokenize

FLAGS = flags.FLAGS
RIDGE = 1e-6
_CAPTIONS = 1000  # as many as the paper's
_BATCH = 16


class Word(NamedTuple):
    """A concept to merge, as its own folder knows it."""

    folder: pathlib.Path
    concept: Concept
    phrase: str
    prompts: list[str]  # that it was trained with


class Source(NamedTuple):
    """One of the folders to merge."""

    artifact: Artifact
    model: Model  # with the artifact bound
    words: list[Word]


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text = flags.DEFINE_string
    command.define_base_flags()
    text("out", None, "Folder for the merged concept.")
    text("captions", None, "File of captions, one a line. Default: the emoji world's.")
    flags.DEFINE_float(
        "ridge",
        RIDGE,
        "Weight of small kernels, in units of the captions' mean eigenvalue; 0 is the "
        "paper's, whose kernels may lose their accuracy in bfloat16.",
        0.0,
    )
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch, out = command.Stopwatch(), pathlib.Path(FLAGS.out)
    with watch("load"), command.exit_on_user_error():
        folders = _folders(argv, out)
        base = load_base(FLAGS.base, **command.base_options(FLAGS))
        captions = read_captions(base, FLAGS.captions)
    with watch("merge"), command.exit_on_user_error():
        done = merge(base, folders, out, captions, ridge=FLAGS.ridge)
    for word, concept in zip(done.words, done.concepts, strict=True):
        old, called = word.concept.placeholder, concept.placeholder
        renamed = "" if old == called else f", where it is {old}"
        print(f"{called} {concept.class_word} from {word.folder}{renamed}")
    merged = done.merged
    print(
        f"constraint residual {merged.residual_targets:.1e}, regularisation residual "
        f"{merged.residual_regularisation:.2e} over {done.tokens:,} tokens; "
        f"kernels moved {merged.growth:.1f} times as far as in training"
    )
    size = (out / "theta.safetensors").stat().st_size
    print(f"{len(done.concepts)} concepts in {out}, {size / 1e6:.1f} MB: {watch}")


class Done(NamedTuple):
    """What was merged, and what it is called in the merged concept."""

    merged: Merged
    words: list[Word]
    concepts: list[Concept]
    tokens: int  # of the regularisation text


def merge(
    base: Base,
    folders: Sequence[pathlib.Path],
    out: pathlib.Path,
    captions: Sequence[str],
    *,
    ridge: float = RIDGE,
) -> Done:
    """Writes the concepts of these folders as one concept, merged in closed form.

    Raises ValueError for concepts that cannot be merged, and for text without the rank
    that a merge needs; see `merge_kernels`.
    """
    plain = from_base(base)
    sources = [_read(base, plain, folder) for folder in folders]
    words = [word for source in sources for word in source.words]
    concepts = one_vocabulary(words, base.tokenizer.size)
    regularisation = _rows(plain, [Target(caption, 1) for caption in captions])
    merged = merge_kernels(
        _kernels(select(plain.denoiser.params, "kv")),
        [_kernels(source.artifact.theta["weights"]) for source in sources],
        regularisation,
        [_rows(source.model, _targets(source)) for source in sources],
        ridge=ridge,
    )
    artifact.save(
        out,
        _theta(merged, sources),
        concepts,
        method="custom_diffusion",
        method_args={},
        base=base.name,
        fingerprint=base.fingerprint,
        prompts=[
            [
                prompt.replace(word.concept.placeholder, concept.placeholder)
                for prompt in word.prompts
            ]
            for word, concept in zip(words, concepts, strict=True)
        ],
        merged_from=[str(folder) for folder in folders],
        ridge=ridge,
        captions=len(captions),
        residual_targets=merged.residual_targets,
        residual_regularisation=merged.residual_regularisation,
        growth=merged.growth,
    )
    return Done(merged, words, concepts, len(regularisation))


def _folders(argv: Sequence[str], out: pathlib.Path) -> list[pathlib.Path]:
    folders = [pathlib.Path(name) for name in argv[1:]]
    if len(folders) < 2:
        raise ValueError("A merge takes two concepts or more: personax.merge A B ….")
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ValueError(f"--out {out} is one of the concepts; choose another folder.")
    artifact.check_replaceable(out)
    return folders


def read_captions(base: Base, file: str | None) -> list[str]:
    """The text on which the merged kernels are to stay near the base's.

    The lines of a file, or captions of the emoji world for its base. Raises ValueError
    for another base without a file, and for a file without captions.
    """
    if file:
        lines = pathlib.Path(file).read_text().splitlines()
        captions = [line.strip() for line in lines if line.strip()]
        if not captions:
            raise ValueError(f"{file} holds no captions.")
        return captions
    if base.name != EMBEDDED:
        raise ValueError(
            f"The base {base.name!r} needs --captions FILE, a few hundred image "
            f"captions, one a line; only the embedded base brings its own."
        )
    return embedded_world.captions(_CAPTIONS)


def _read(base: Base, plain: Model, folder: pathlib.Path) -> Source:
    """The concept in `folder`; ValueError where it trains other than K, V and V*."""
    params = plain.denoiser.params
    found = artifact.load(folder, params, base.fingerprint)
    trained = flat(found.theta.get("weights", {})).keys()
    if set(found.theta) != {"weights", "tokens"} or trained != set(
        select(params, "kv")
    ):
        raise ValueError(
            f"{folder} is a concept of {found.about['method']} that trains something "
            f"else than words and whole cross-attention keys and values; only those "
            f"can be merged (custom_diffusion's default)."
        )
    if artifact.earlier(folder):
        raise ValueError(
            f"{folder} was trained on top of another concept; only concepts that were "
            f"trained on the base can be merged."
        )
    return Source(
        found, with_concepts(plain, base, [str(folder)]), _words(folder, found)
    )


def _words(folder: pathlib.Path, found: Artifact) -> list[Word]:
    # One concept per folder was all that there was when "prompts" was "prompt".
    old = [[found.about["prompt"]]] if "prompt" in found.about else []
    words = []
    for concept, prompts in zip(
        found.concepts, found.about.get("prompts", old), strict=True
    ):
        phrase = concept.phrase or f"{concept.placeholder} {concept.class_word}"
        words.append(Word(folder, concept, phrase, prompts))
    return words


def one_vocabulary(words: Sequence[Word], size: int) -> list[Concept]:
    """All concepts in order, their ids from `size` on and their placeholders unique."""
    names = [word.concept.placeholder for word in words]
    if len({name.lower() for name in names}) < len(names):
        names = [f"<v{k}>" for k in range(1, len(names) + 1)]
    concepts = []
    for (_, concept, phrase, _), name in zip(words, names, strict=True):
        ids = tuple(range(size, size + len(concept.ids)))
        phrase = phrase.replace(concept.placeholder, name)
        concepts.append(concept._replace(placeholder=name, ids=ids, phrase=phrase))
        size += len(ids)
    return concepts


def _targets(source: Source) -> list[Target]:
    tokenizer = source.model.tokenizer
    return [
        target
        for word in source.words
        for target in target_prompts(tokenizer, word.phrase, word.prompts)
    ]


def _rows(model: Model, targets: Sequence[Target]) -> Float[np.ndarray, "m d"]:
    """The text encoder's states of the tokens that the targets name."""
    prompts, starts = zip(*targets, strict=True)
    ids = tokenize(model.tokenizer, prompts)
    # Batches of one size, so that the encoder compiles once.
    padded = np.pad(ids, ((0, -len(ids) % _BATCH), (0, 0)), mode="edge")
    batches = np.split(padded, len(padded) // _BATCH)
    text = [np.asarray(_encode(model.denoiser, batch).text) for batch in batches]
    return rows_of(
        np.concatenate(text)[: len(ids)], ids, starts, eos=model.tokenizer.eos
    )


_encode = jax.jit(encode)


def _kernels(leaves: dict[str, Any]) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flat(leaves).items()}


def _theta(merged: Merged, sources: Sequence[Source]) -> Theta:
    rows = [flat(source.artifact.theta["tokens"])["embedding"] for source in sources]
    return {
        "weights": {path: W.astype(np.float32) for path, W in merged.kernels.items()},
        "tokens": {"embedding": np.concatenate(rows)},
    }


if __name__ == "__main__":
    define_flags()
    command.run(main)
