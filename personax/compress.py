"""The command that shrinks a concept: `python -m personax.compress DIR --out DIR2`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from personax.cli import command
from personax.concepts import artifact
from personax.concepts.artifact import Artifact
from personax.concepts.bind import from_base
from personax.concepts.low_rank import Compressed, compress, factored
from personax.concepts.quantize import DTYPES, error, quantise, restore
from personax.core.tree import count, flat, nest
from personax.core.typing import Params
from personax.loading import load_base

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    command.define_base_flags()
    flags.DEFINE_string("out", None, "Folder for the compressed concept.")
    flags.DEFINE_float(
        "share",
        None,
        "Of the singular values' sum. Default: 0.6, or no SVD with --dtype.",
        1e-6,
        1.0,
    )
    flags.DEFINE_enum(
        "dtype", None, DTYPES, "What all numbers are kept in; float32 as they are."
    )
    flags.DEFINE_bool("keep_crossing", True, "Keep the value that crosses the share.")
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch, out = command.Stopwatch(), pathlib.Path(FLAGS.out)
    with watch("load"), command.exit_on_user_error():
        folder = _folder(argv, out)
        base = load_base(FLAGS.base, **command.base_options(FLAGS))
        params = from_base(base).denoiser.params
        found = artifact.load(folder, params, base.fingerprint)
        share = 0.6 if FLAGS.share is None and not FLAGS.dtype else FLAGS.share
        dense, deltas = _split(folder, found, params) if share else ({}, {})
    theta, compression, cells = found.theta, {}, {}
    if share:
        with watch("compress"):
            done = compress(deltas, share=share, keep_crossing=FLAGS.keep_crossing)
            theta = {**theta, "weights": {**dense, **factored(done.factors)}}
        compression |= {
            "share": share,
            "keep_crossing": FLAGS.keep_crossing,
            "error": done.error,
            "ranks": done.ranks,
        }
        cells |= _cells(done, share)
    if FLAGS.dtype:
        before = flat(theta)
        with command.exit_on_user_error():
            leaves = quantise(before, FLAGS.dtype)
        theta = nest(leaves)
        wrong = error(before, restore(leaves))
        compression |= {"dtype": FLAGS.dtype, "rounding": wrong}
        cells |= {"dtype": FLAGS.dtype, "rounding": f"{wrong:.1e}"}
    about = {
        name: value
        for name, value in found.about.items()
        if name not in ("format", "personax", "concepts", "compression")
    }
    artifact.save(
        out,
        theta,
        found.concepts,
        before=artifact.earlier(folder),
        prepared=found.prepared,
        compression=compression,
        **about,
    )
    print(_table(found.theta, theta, cells, folder, out))
    print(f"concept in {out}: {watch}")


def _folder(argv: Sequence[str], out: pathlib.Path) -> pathlib.Path:
    if len(argv) != 2:
        raise ValueError("One concept at a time: personax.compress DIR --out DIR2.")
    if out.resolve() == pathlib.Path(argv[1]).resolve():
        raise ValueError(f"--out {out} is the concept itself; choose another folder.")
    artifact.check_replaceable(out)
    return pathlib.Path(argv[1])


def _split(
    folder: pathlib.Path, found: Artifact, params: Params
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(leaves that stay as they are, what training added to each matrix).

    Unlike the release, which factors keys and values only, every trained matrix counts.
    """
    leaves, base = flat(found.theta.get("weights", {})), flat(params)
    matrices = [path for path, leaf in leaves.items() if _is_matrix(path, leaf)]
    if not matrices or not leaves.keys() <= base.keys():
        raise ValueError(
            f"{folder} is a concept of {found.about['method']} without kernels that "
            f"were trained whole; there is nothing to compress."
        )
    dense = {path: leaf for path, leaf in leaves.items() if path not in matrices}
    deltas = {
        path: np.asarray(leaves[path], np.float64) - np.asarray(base[path], np.float64)
        for path in matrices
    }
    return dense, deltas


def _is_matrix(path: str, leaf: Any) -> bool:
    return path.endswith("/kernel") and leaf.ndim == 2


def _cells(done: Compressed, share: float) -> dict[str, str]:
    ranks = list(done.ranks.values())
    return {
        "share": f"{share:g}",
        "kept": f"{done.kept:.3f}",
        "ranks": f"{min(ranks)} to {max(ranks)}",
        "relative error": f"{done.error:.3f}",
    }


def _table(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    cells: Mapping[str, str],
    *folders: pathlib.Path,
) -> str:
    """Two lines: what the columns are, and their values."""
    old, new = ((path / "theta.safetensors").stat().st_size for path in folders)
    cells = {
        **cells,
        "numbers": f"{count(after):,} of {count(before):,}",
        "size": f"{new:,} of {old:,} bytes",
    }
    widths = [max(len(name), len(cell)) for name, cell in cells.items()]
    rows = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in (cells.keys(), cells.values())
    ]
    return "\n".join(row.rstrip() for row in rows)


if __name__ == "__main__":
    define_flags()
    command.run(main)
