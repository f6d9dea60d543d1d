"""Sampling command: `python -m personax.sample --prompt "a dog"`."""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from personax.cli import command, controlnet_flags, sampling_flags, sheet_flags
from personax.sampling.metadata import picture_metadata
from personax.sampling.setup import SamplingSetup, set_up
from personax.sampling.sheet_files import write_sheet
from personax.sampling.sheets import SheetOptions, draw_sheet, make_sheet

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags."""
    sampling_flags.define_flags()
    sheet_flags.define_flags()
    flags.DEFINE_string("out", "out/sample", "Folder for the pictures.")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        command.refuse_arguments(argv)
        options = sheet_flags.sheet_options(FLAGS)
        setup = set_up(
            sampling_flags.model_options(FLAGS),
            sampling_flags.sampling_options(FLAGS),
            controlnet_flags.hint_options(FLAGS),
        )
        sheet = make_sheet(setup, options)
    drawn = draw_sheet(sheet, watch)
    out = pathlib.Path(FLAGS.out)
    with watch("write"):
        write_sheet(out, sheet, drawn, _metadata(setup, options))
    total = sum(map(len, drawn.pictures))
    print(f"{total} pictures in {out}: {watch}.")


def _metadata(setup: SamplingSetup, options: SheetOptions) -> dict[str, Any]:
    named = {
        "Schedule type": FLAGS.spacing,
        "Eta": FLAGS.eta,
        "Models": " ".join(FLAGS.model),
        "ControlNets": " ".join(FLAGS.control),
        "Hints": " ".join(FLAGS.hint),
        "Control strengths": " ".join(FLAGS.control_strength),
        "Preprocess": FLAGS.preprocess if FLAGS.hint else None,
    }
    more: dict[str, Any] = {name: value for name, value in named.items() if value}
    if options.picture is not None:
        more |= options.picture.metadata
    return picture_metadata(
        setup.loaded.base,
        steps=FLAGS.steps,
        sampler=setup.solver,
        guidance=FLAGS.guidance,
        seed=FLAGS.seed,
        size=setup.size,
        concepts=FLAGS.concept,
        **more,
    )


if __name__ == "__main__":
    define_flags()
    command.run(main)
