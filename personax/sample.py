"""Sampling command: `python -m personax.sample --prompt "a dog"`."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from personax.cli import command, sampling_flags, sheet_flags
from personax.core.outputs import make_folder
from personax.sampling.metadata import picture_metadata
from personax.sampling.outputs import check_pictures, updated
from personax.sampling.setup import SamplingSetup, not_finite, set_up
from personax.sampling.sheets import (
    SheetOptions,
    draw_sheet,
    make_sheet,
    not_drawn,
    write_sheet,
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags."""
    sampling_flags.define_flags()
    sheet_flags.define_flags()
    command.define_path(
        "out", "out/sample", "Folder for the pictures; they replace an earlier run's."
    )


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        command.refuse_arguments(argv)
        read = [*sampling_flags.inputs(FLAGS), *sheet_flags.inputs(FLAGS)]
        out = check_pictures(FLAGS.out, read)
        options = sheet_flags.sheet_options(FLAGS)
        setup = set_up(
            sampling_flags.model_options(FLAGS),
            sampling_flags.sampling_options(FLAGS),
            sampling_flags.hint_options(FLAGS),
        )
        sheet = make_sheet(setup, options)
        make_folder(out)
    pictures, maps = draw_sheet(sheet, watch)
    with watch("write"), updated(out) as folder:
        write_sheet(folder, sheet, pictures, maps, _metadata(setup, options))
    failed = not_drawn(pictures)
    count = sum(map(len, pictures)) - len(failed)
    print(f"{count} pictures in {out}: {watch}.")
    if failed:
        raise not_finite(failed)


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
