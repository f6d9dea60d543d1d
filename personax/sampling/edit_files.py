"""The files of an edit: pictures with metadata, a labelled sheet, and edit.json."""

import pathlib

from personax.core import images
from personax.core.files import write_json
from personax.sampling.editing import Edit, Edited, describe_streams
from personax.sampling.inversion import reconstruction_psnr
from personax.sampling.metadata import picture_metadata
from personax.sampling.options import EditOptions


def write_edit(
    out: pathlib.Path, edit: Edit, edited: Edited, concepts: tuple[str, ...] = ()
) -> dict[str, float]:
    """Write all pictures, grid.png and edit.json; {method: PSNR} of an inversion."""
    options, rows, inverted = edit.options, edited.rows, edited.inverted
    psnr = reconstruction_psnr(inverted, rows[0][0]) if inverted else {}
    settings = picture_metadata(
        edit.base,
        steps=options.steps,
        sampler="ddim",
        guidance=options.guidance,
        seed=options.seed,
        concepts=concepts,
    )
    streams, records = describe_streams(edit), []
    for index, row in enumerate(rows):
        names = [f"{index:04d}.png"]
        names += [f"{index:04d}_edit{k}.png" for k in range(1, len(row))]
        for name, picture, stream in zip(names, row, streams, strict=True):
            text = images.parameters(stream["prompt"], **settings)
            images.write_png(out / name, picture, {"parameters": text})
        records.append({"source": names[0], "edits": names[1:], "index": index})
    before = {}
    if inverted:
        before = {"the picture": inverted.pixels, **inverted.reconstructions}
    for name, picture in before.items():
        images.write_png(out / f"{name.replace(' ', '_')}.png", picture)
    labels = [*before, *(stream["prompt"] for stream in streams)]
    tiles = [tile for row in rows for tile in (*before.values(), *row)]
    details = ", ".join(
        f"{name}: {settings[name]}" for name in ("Steps", "Seed", "Model")
    )
    title = f"{options.prompt}\n{details}"
    sheet = images.grid(tiles, column_labels=labels, title=title)
    images.write_png(out / "grid.png", sheet)
    record = {
        "streams": streams,
        "words": _words(options),
        "self_limit": options.self_limit,
        "compat": options.compat,
        "image": options.image,
        "inversion": options.inversion if inverted else None,
        "psnr": psnr,
        "settings": settings,
        "pictures": records,
    }
    write_json(out / "edit.json", record)
    return psnr


def _words(options: EditOptions) -> dict[str, object]:
    names = ("prompt", "edits", "factors", "cross", "within")
    names += ("blend", "subtract", "threshold")
    return {name: getattr(options, name) for name in names}
