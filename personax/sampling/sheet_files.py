"""The files of a sheet: pictures with metadata, a labelled grid, and samples.json."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from personax.core import images
from personax.core.files import write_json
from personax.core.images import Pixels
from personax.diffusion.guidance_schedule import to_json
from personax.sampling.attention import write_attention
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sheets import Drawn, Sheet


def write_sheet(
    out: pathlib.Path, sheet: Sheet, drawn: Drawn, metadata: Mapping[str, Any]
) -> None:
    """Write the pictures, grid.png, samples.json, hints and attention maps."""
    options = sheet.setup.options
    cells, records = sheet.cells, []
    for cell, pictures in zip(cells, drawn.pictures, strict=True):
        prompt = " AND ".join(term_spec.prompt for term_spec in cell.term_specs)
        weight = {"CFG scale": cell.term_specs[0].weight} if cell.column else {}
        for index, pixels in enumerate(pictures):
            name = f"{len(records):04d}.png"
            more = {**metadata, **weight, "Image index": index}
            text = images.parameters(prompt, options.negative, **more)
            images.write_png(out / name, pixels, {"parameters": text})
            record = {"file": name, "seed": options.seed, "index": index}
            records.append(record)
            if len(cells) > 1:
                record["terms"] = _described(cell.term_specs)
    images.write_png(out / "grid.png", _grid(sheet, drawn.pictures, metadata))
    record = {
        **({"terms": _described(cells[0].term_specs)} if len(cells) == 1 else {}),
        "negative": options.negative,
        "unconditional": options.unconditional,
        "settings": dict(metadata),
        "samples": records,
    }
    write_json(out / "samples.json", record)
    for name, hint in sheet.setup.hints.items():
        images.write_png(out / f"hint_{name}.png", hint.picture)
    if drawn.attention_maps is not None:
        write_attention(out, drawn.pictures[0], drawn.attention_maps, sheet.words)


def _described(term_specs: Sequence[TermSpec]) -> list[dict[str, Any]]:
    return [
        {**term_spec._asdict(), "weight": to_json(term_spec.weight)}
        for term_spec in term_specs
    ]


def _grid(
    sheet: Sheet,
    drawn: Sequence[Sequence[Pixels]],
    metadata: Mapping[str, Any],
) -> Pixels:
    """Rows are prompts, columns seeds or weights; a single prompt is about a square."""
    cells = sheet.cells
    names = ("Sampler", "Steps", "Seed", "Model")
    line = ", ".join(f"{name}: {metadata[name]}" for name in names)
    if len(cells) == 1:
        title = " + ".join(map(str, cells[0].term_specs))
        captions = [f"image {index}" for index in range(len(drawn[0]))]
        return images.grid(drawn[0], captions=captions, title=f"{title}\n{line}")
    columns = list(dict.fromkeys(cell.column for cell in cells))
    count = len(drawn[0])
    title = "\n".join(filter(None, [" + ".join(map(str, sheet.terms)), line]))
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
