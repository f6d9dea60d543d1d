"""The command that writes a base: `python -m personax.export CONCEPT --out DIR`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core.tree import count, flat
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET
from personax.loading import Base, find_pipeline, load_base
from personax.loading.write import DTYPES, write_controlnet, write_pipeline
from personax.methods.parts.folded_null_text import reads_text, unfold

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    command.define_base_flags()
    flags.DEFINE_string("out", None, "Folder for the pipeline, in diffusers' layout.")
    flags.DEFINE_enum("dtype", "float32", DTYPES, "Of the UNet's numbers.")
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    command.start()
    out = pathlib.Path(FLAGS.out)
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        if len(argv) != 2:
            raise ValueError("One concept at a time: personax.export DIR --out DIR2.")
        if out.exists():
            raise ValueError(f"--out {out} exists; choose another folder.")
        pipeline = find_pipeline(FLAGS.base)
        base = load_base(FLAGS.base, **command.base_options(FLAGS))
        model = with_concepts(from_base(base), base, [argv[1]])
        added = model.denoiser.params.get(CONTROLNET)
        unet = None if added else ordinary(argv[1], model, base)
    with watch("write"), command.exit_on_user_error():
        if added:
            config = model.denoiser.spec.controlnet
            write_controlnet(out, added, config, dtype=FLAGS.dtype)
            print(f"ControlNet of {count(added):,} numbers in {out}: {watch}")
            return
        write_pipeline(out, pipeline, unet, dtype=FLAGS.dtype)
    print(f"UNet of {count(unet):,} numbers in the pipeline {out}: {watch}")


def ordinary(source: str, model: Model, base: Base) -> Params:
    """The concept's UNet as every program knows it, all that it is being in there.

    A UNet without text becomes one that ignores it. ValueError for a concept that also
    changes words or attention.
    """
    denoiser = model.denoiser
    text, own = (flat(each.params["text_encoder"]) for each in (denoiser, base))
    said = any(leaf is not own.get(path) for path, leaf in text.items())
    if said or denoiser.words or denoiser.controls or denoiser.reference:
        raise ValueError(
            f"{source} is more than a UNet: it has words or acts on attention, which "
            "a pipeline's UNet cannot hold."
        )
    if reads_text(denoiser.params):
        return denoiser.params["unet"]
    return unfold(denoiser.params, base.params)["unet"]


if __name__ == "__main__":
    define_flags()
    command.run(main)
