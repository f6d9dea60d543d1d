"""The command that draws pictures: `python -m personax.sample --prompt "a dog"`."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from personax.cli import attention_flags, command, img2img_flags, sampling_flags
from personax.cli.sampling_flags import Drawing
from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.diffusion.guidance_schedule import written
from personax.diffusion.img2img import Picture
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    sampling_flags.define_flags()
    many("prompt", [], "A term with the weight --guidance.")
    flags.DEFINE_float("guidance", 3.0, "The weight of every --prompt.")
    text("prompts", None, "A file with a prompt a line: a sheet of prompts x seeds.")
    text(
        "grid",
        "seeds",
        "The columns of the sheet: seeds, or weights=1,3,5 of every prompt, with a row "
        "for each prompt and picture.",
    )
    img2img_flags.define_flags()
    flags.DEFINE_enum(
        "decode",
        "whole",
        ["whole", "sliced", "tiled"],
        "The autoencoder's way; sliced and tiled take less memory.",
    )
    flags.DEFINE_enum(
        "f_stream",
        "shared_latent",
        ["shared_latent", "own_trajectory"],
        "Where Infusion's frozen stream stands: at each step's latents, or on its own.",
    )
    attention_flags.define_flags()
    text("out", "out/sample", "Folder for the pictures.")


class Cell(NamedTuple):
    """What the pictures of one place in the sheet are asked for."""

    row: str
    column: str
    term_specs: tuple[TermSpec, ...]


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        cells = _cells(argv)
        plan = sampling_flags.set_up(FLAGS)
        for cell in cells:
            sampling_flags.check(FLAGS, plan, cell.term_specs)
        plan, picture = img2img_flags.begin(FLAGS, plan)
        terms = sampling_flags.make_terms(FLAGS, plan)
        first = terms(cells[0].term_specs)
        words = attention_flags.find_words(FLAGS, plan.models, cells[0].term_specs)
        _check_words(words, cells)
        look = None
        if words:
            look = attention_flags.make_look(FLAGS, plan.models["base"], plan.shape)
        own = _own_trajectory(plan, picture, bool(words))

    batches = sampling_flags.batches(FLAGS, plan.mesh)
    key = jax.random.key(FLAGS.seed)
    sampler = dataclasses.replace(
        plan.sampler, decoder=FLAGS.decode, attention=look, own_trajectory=own
    )
    with watch("compile"):
        sampler = sampler.compile(plan.models, first, key, batches[0], picture)

    drawn: list[list[Pixels]] = []
    heats = []
    total = len(cells) * FLAGS.num_images
    with Progress(total=total, unit="image", desc="sampling") as progress:
        for cell in cells:
            asked, pictures = terms(cell.term_specs), []
            for indices in batches:
                with watch("sample"):
                    sampled = jax.block_until_ready(
                        sampler.latents(plan.models, asked, key, indices, picture)
                    )
                if sampled.attention_maps is not None:
                    heats.append(np.asarray(sampled.attention_maps))
                with watch("decode"):
                    pictures += list(np.asarray(sampler.decode(sampled.latents)))
            drawn.append(pictures[: FLAGS.num_images])
            progress.update(FLAGS.num_images)
    with watch("write"):
        out = pathlib.Path(FLAGS.out)
        _write(out, cells, drawn, _settings(plan))
        for name, shown in plan.shown.items():
            images.write_png(out / f"hint_{name}.png", shown.picture)
        if words:
            maps = np.concatenate(heats, axis=1)
            attention_flags.write(out, drawn[0], maps, words)
    print(f"{total} pictures in {out}: {watch}.")


def _cells(argv: Sequence[str]) -> list[Cell]:
    """What is asked for, row by row; one cell where there is no sheet to lay out."""
    if argv[1:]:
        raise ValueError(f"{argv[1]!r} belongs to no flag: quote prompts with spaces.")
    lines = img2img_flags.read_prompts(FLAGS.prompts) if FLAGS.prompts else [None]
    others = [prompt_terms.parse(term) for term in FLAGS.term]
    weights = _weights(FLAGS.grid)
    if weights and not (FLAGS.prompt or FLAGS.prompts):
        raise ValueError("--grid weights=… are those of --prompt or --prompts.")
    cells = []
    for line in lines:
        asked = [*FLAGS.prompt, *([] if line is None else [line])]
        for weight in weights or [FLAGS.guidance]:
            term_specs = [*(TermSpec(prompt, weight) for prompt in asked), *others]
            column = f"weight {weight:g}" if weights else ""
            row = line if line is not None else ", ".join(asked)
            cells.append(Cell(row, column, tuple(term_specs or [TermSpec("", 1.0)])))
    return cells


def _weights(text: str) -> list[float]:
    """The weights of --grid, none for seeds."""
    name, _, listed = text.partition("=")
    try:
        numbers = [float(part) for part in command.listed(listed)]
    except ValueError:
        numbers = []
    if text == "seeds":
        return []
    if name != "weights" or not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"--grid {text!r} is neither seeds nor weights=1,3,5.")
    return numbers


def _check_words(words: Sequence[attention_flags.Word], cells: Sequence[Cell]) -> None:
    if words and len(cells) > 1:
        raise ValueError(
            f"--attention shows one prompt, and the sheet has {len(cells)}."
        )


def _own_trajectory(plan: Drawing, picture: Picture | None, words: bool) -> bool:
    if FLAGS.f_stream == "shared_latent":
        return False
    if all(model.denoiser.reference is None for model in plan.models.values()):
        raise ValueError("--f_stream is Infusion's; no concept here has two streams.")
    if words or (picture is not None and picture.repaint is not None):
        flag = "--attention" if words else "--mask"
        raise ValueError(f"{flag} needs --f_stream shared_latent.")
    return True


def _settings(plan: Drawing) -> dict[str, Any]:
    """What a picture's metadata says beside its prompt, under the names in use."""
    more: dict[str, Any] = {}
    if FLAGS.spacing:
        more["Schedule type"] = FLAGS.spacing
    if FLAGS.eta:
        more["Eta"] = FLAGS.eta
    for title, given in (
        ("Models", FLAGS.model),
        ("ControlNets", FLAGS.control),
        ("Hints", FLAGS.hint),
        ("Control strengths", FLAGS.control_strength),
    ):
        if given:
            more[title] = " ".join(given)
    if FLAGS.hint:
        more["Preprocess"] = FLAGS.preprocess
    more |= img2img_flags.settings(FLAGS)
    return command.settings(FLAGS, plan.base, **plan.settings, **more)


def _write(
    out: pathlib.Path,
    cells: Sequence[Cell],
    drawn: Sequence[Sequence[Pixels]],
    settings: Mapping[str, Any],
) -> None:
    """The pictures, a labelled sheet of them, and samples.json."""
    records = []
    for cell, pictures in zip(cells, drawn, strict=True):
        prompt = " AND ".join(term_spec.prompt for term_spec in cell.term_specs)
        own = {"CFG scale": cell.term_specs[0].weight} if cell.column else {}
        for index, pixels in enumerate(pictures):
            name = f"{len(records):04d}.png"
            more = {**settings, **own, "Image index": index}
            text = images.parameters(prompt, FLAGS.negative, **more)
            images.write_png(out / name, pixels, {"parameters": text})
            record = {"file": name, "seed": FLAGS.seed, "index": index}
            records.append(record)
            if len(cells) > 1:
                record["terms"] = _described(cell.term_specs)
    images.write_png(out / "grid.png", _sheet(cells, drawn, settings))
    record = {
        **({"terms": _described(cells[0].term_specs)} if len(cells) == 1 else {}),
        "negative": FLAGS.negative,
        "unconditional": FLAGS.unconditional,
        "settings": dict(settings),
        "samples": records,
    }
    (out / "samples.json").write_text(json.dumps(record, indent=2) + "\n")


def _described(term_specs: Sequence[TermSpec]) -> list[dict[str, Any]]:
    return [
        {**term_spec._asdict(), "weight": written(term_spec.weight)}
        for term_spec in term_specs
    ]


def _sheet(
    cells: Sequence[Cell],
    drawn: Sequence[Sequence[Pixels]],
    settings: Mapping[str, Any],
) -> Pixels:
    """Rows are prompts, columns seeds or weights; of one prompt, about a square."""
    details = ("Sampler", "Steps", "Seed", "Model")
    line = ", ".join(f"{name}: {settings[name]}" for name in details)
    if len(cells) == 1:
        title = " + ".join(map(str, cells[0].term_specs))
        captions = [f"image {index}" for index in range(len(drawn[0]))]
        return images.grid(drawn[0], captions=captions, title=f"{title}\n{line}")
    columns = list(dict.fromkeys(cell.column for cell in cells))
    count = len(drawn[0])
    title = " + ".join(FLAGS.term)
    title = f"{title}\n{line}" if title else line
    if columns == [""]:
        return images.grid(
            [picture for pictures in drawn for picture in pictures],
            row_labels=[cell.row for cell in cells],
            column_labels=[f"image {index}" for index in range(count)],
            title=title,
        )
    tiles, labels = [], []
    for start in range(0, len(cells), len(columns)):
        for index in range(count):
            row = drawn[start : start + len(columns)]
            tiles += [pictures[index] for pictures in row]
            labels.append(f"{cells[start].row}\nimage {index}")
    return images.grid(tiles, row_labels=labels, column_labels=columns, title=title)


if __name__ == "__main__":
    define_flags()
    command.run(main)
