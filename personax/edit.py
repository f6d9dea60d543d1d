"""Prompt-to-Prompt command: `python -m personax.edit --prompt … --edit …`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command, edit_flags
from personax.sampling.editing import draw_edit, make_edit, write_edit

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags."""
    edit_flags.define_flags()
    flags.DEFINE_string("out", "out/edit", "Folder for the pictures.")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        command.refuse_arguments(argv)
        options = edit_flags.edit_options(FLAGS)
        edit = make_edit(edit_flags.model_options(FLAGS), options)
    rows, inverted = draw_edit(edit, watch)
    out = pathlib.Path(FLAGS.out)
    with watch("write"):
        psnr = write_edit(out, edit, rows, inverted, FLAGS.concept)
    for method, value in psnr.items():
        print(f"{method}: {value:.2f} dB")
    print(f"{len(rows)} x {len(options.edits)} edits in {out}: {watch}.")


if __name__ == "__main__":
    command.run(main, define_flags)
