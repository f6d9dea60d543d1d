"""Prompt-to-Prompt command: `python -m personax.edit --prompt … --edit …`."""

from collections.abc import Sequence

from absl import flags

from personax.cli import command, edit_flags
from personax.core.outputs import make_folder
from personax.sampling.editing import draw_edit, make_edit, not_drawn, write_edit
from personax.sampling.outputs import check_pictures, updated
from personax.sampling.setup import not_finite

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags."""
    edit_flags.define_flags()
    command.define_path(
        "out", "out/edit", "Folder for the pictures; they replace an earlier run's."
    )


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        command.refuse_arguments(argv)
        out = check_pictures(FLAGS.out, edit_flags.inputs(FLAGS))
        options = edit_flags.edit_options(FLAGS)
        edit = make_edit(edit_flags.model_options(FLAGS), options)
        make_folder(out)
    rows, inverted = draw_edit(edit, watch)
    with watch("write"), updated(out) as folder:
        psnr = write_edit(folder, edit, rows, inverted, FLAGS.concept)
    for method, value in psnr.items():
        print(f"{method}: {value:.2f} dB")
    print(f"{len(rows)} x {len(options.edits)} edits in {out}: {watch}.")
    failed = not_drawn(rows)
    if failed:
        raise not_finite(failed)


if __name__ == "__main__":
    command.run(main, define_flags)
