"""Command to compress a concept: `python -m personax.compress DIR --out DIR2`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.concepts.bind import from_base
from personax.concepts.compress import SHARE, Compression, compress
from personax.concepts.load_models import load_named_base
from personax.concepts.outputs import check_result
from personax.concepts.quantize import DTYPES
from personax.core.files import expand

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing this module defines none."""
    command.define_base_flags(base=None)
    command.define_path(
        "out",
        None,
        "Folder for the compressed concept; replaces an earlier compression.",
    )
    flags.DEFINE_float(
        "share",
        None,
        f"Share of the singular values' sum to keep. Default: {SHARE}, or no low-rank "
        "compression with --dtype.",
        1e-6,
        1.0,
    )
    flags.DEFINE_enum(
        "dtype", None, DTYPES, "Storage of all parameters. Default: float32."
    )
    flags.DEFINE_bool(
        "keep_crossing", True, "Keep the singular value that crosses the share."
    )
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        if len(argv) != 2:
            raise ValueError("One concept at a time: personax.compress DIR --out DIR2.")
        folder = expand(argv[1])
        read = [*command.base_inputs(FLAGS), ("the concept", folder)]
        out = check_result(FLAGS.out, read, "compression")
        options = command.base_options(FLAGS)
        base = load_named_base(FLAGS.base, [str(folder)], options)
    share = SHARE if FLAGS.share is None and not FLAGS.dtype else FLAGS.share
    with watch("compress"), command.exit_on_user_error():
        result = compress(
            folder,
            out,
            from_base(base).denoiser.params,
            base.fingerprint,
            share=share,
            keep_crossing=FLAGS.keep_crossing,
            dtype=FLAGS.dtype,
        )
    print(_table(result, share, FLAGS.dtype, folder, out))
    print(f"concept in {out}: {watch}")


def _table(
    result: Compression,
    share: float | None,
    dtype: str | None,
    *folders: pathlib.Path,
) -> str:
    """Two lines, the columns' names and values; `folders` are before and after."""
    cells = {}
    if result.low_rank:
        ranks = result.low_rank.ranks.values()
        cells |= {
            "share": f"{share:g}",
            "kept": f"{result.low_rank.kept:.3f}",
            "ranks": f"{min(ranks)} to {max(ranks)}",
            "relative error": f"{result.low_rank.error:.3f}",
        }
    if dtype:
        cells |= {"dtype": dtype, "rounding": f"{result.rounding:.1e}"}
    old, new = ((path / "theta.safetensors").stat().st_size for path in folders)
    cells["parameters"] = f"{result.num_params:,} of {result.num_params_before:,}"
    cells["size"] = f"{new:,} of {old:,} bytes"
    widths = [max(map(len, pair)) for pair in cells.items()]
    rows = (map(str.ljust, row, widths) for row in (cells.keys(), cells.values()))
    return "\n".join("  ".join(row).rstrip() for row in rows)


if __name__ == "__main__":
    command.run(main, define_flags)
