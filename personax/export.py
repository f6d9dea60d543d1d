"""Command to export a concept to diffusers: `python -m personax.export DIR --out DIR2`.

Writes a pipeline with the concept's UNet, or a ControlNet.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.export import export
from personax.loading import find_pipeline, load_base
from personax.loading.write import DTYPES

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing this module defines none."""
    command.define_base_flags()
    flags.DEFINE_string("out", None, "Folder for the pipeline, in diffusers' layout.")
    flags.DEFINE_enum("dtype", "float32", DTYPES, "Of the UNet's parameters.")
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    watch, out = command.Stopwatch(), pathlib.Path(FLAGS.out)
    with watch("load"), command.exit_on_user_error():
        if len(argv) != 2:
            raise ValueError("One concept at a time: personax.export DIR --out DIR2.")
        if out.exists():
            raise ValueError(f"--out {out} exists; choose another folder.")
        pipeline = find_pipeline(FLAGS.base)
        base = load_base(FLAGS.base, **command.base_options(FLAGS))
        model = with_concepts(from_base(base), base, [argv[1]])
    with watch("write"), command.exit_on_user_error():
        kind, size = export(model, base, pipeline, out, dtype=FLAGS.dtype)
    where = out if kind == "ControlNet" else f"the pipeline {out}"
    print(f"{kind} of {size:,} parameters in {where}: {watch}")


if __name__ == "__main__":
    command.run(main, define_flags)
