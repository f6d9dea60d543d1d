"""Sampling command: `python -m personax.sample --prompt "a dog"`."""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from personax.cli import command, sampling_flags, sheet_flags
from personax.sampling.metadata import picture_metadata
from personax.sampling.setup import SamplingSetup, set_up
from personax.sampling.sheets import SheetOptions, draw_sheet, make_sheet, write_sheet

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags."""
    sampling_flags.define_flags()
    sheet_flags.define_flags()
    flags.DEFINE_string("out", "out/sample", "Folder for the pictures.")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        command.refuse_arguments(argv)
        options = sheet_flags.sheet_options(FLAGS)
        setup = set_up(
            sampling_flags.model_options(FLAGS),
            sampling_flags.sampling_options(FLAGS),
            sampling_flags.hint_options(FLAGS),
        )
        sheet = make_sheet(setup, options)
    pictures, maps = draw_sheet(sheet, watch)
    out = pathlib.Path(FLAGS.out)
    with watch("write"):
        write_sheet(out, sheet, pictures, maps, _metadata(setup, options))
    print(f"{sum(map(len, pictures))} pictures in {out}: {watch}.")


def _metadata(setup: SamplingSetup, options: SheetOptions) -> dict[str, Any]:
    picture = {} if options.picture is None else options.picture.metadata
    more = {
        "Spacing": FLAGS.spacing,
        "Eta": FLAGS.eta,
        "VAE": FLAGS.vae,
        "Models": " ".join(FLAGS.model),
        "ControlNets": " ".join(FLAGS.control),
        "Hints": " ".join(FLAGS.hint),
        "Control strengths": " ".join(FLAGS.control_strength),
        "Preprocess": FLAGS.preprocess if FLAGS.hint else None,
    }
    return picture_metadata(
        setup.loaded.base,
        setup.options,
        solver=setup.solver,
        karras=setup.sampler.spec.schedule.use_karras_sigmas,
        guidance=FLAGS.guidance,
        size=setup.size,
        concepts=FLAGS.concept,
        **{name: value for name, value in more.items() if value},
        **picture,
    )


if __name__ == "__main__":
    command.run(main, define_flags)
