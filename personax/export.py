"""Command to export concepts: `python -m personax.export CONCEPT --to lora --out FILE`.

Writes one or several concepts, at strengths ("CONCEPT@0.5"), to the files that
diffusers, ComfyUI, A1111 and Forge read. Without a concept it writes the base.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.export import FORMATS, check_request, export
from personax.concepts.exports.request import Request
from personax.concepts.load_models import load_named_base
from personax.loading.write import DTYPES

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing this module defines none."""
    command.define_base_flags(base=None)
    flags.DEFINE_enum("to", "diffusers", tuple(FORMATS), "Format of what is written.")
    command.define_path(
        "out", None, "File (.safetensors) or folder to write; it must not exist."
    )
    flags.DEFINE_enum("dtype", "float32", DTYPES, "Of all that is written.")
    flags.DEFINE_integer(
        "rank",
        None,
        "For --to lora and lora-peft: rank of the changes that no LoRA trained, 32 by "
        "default. LoRAs of a higher rank are reduced to it.",
    )
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        sources = tuple(map(command.expanded, argv[1:]))
        request = Request(
            pathlib.Path(FLAGS.out),
            FLAGS.to,
            sources,
            FLAGS.dtype,
            FLAGS.rank,
            FLAGS.variant,
        )
        check_request(request)
        base = load_named_base(FLAGS.base, sources, command.base_options(FLAGS))
        plain, pickles = from_base(base), FLAGS.allow_pickle
        model = with_concepts(plain, base, sources, allow_pickle=pickles)
    with watch("write"), command.exit_on_user_error():
        exported = export(model, base, request)
    print(f"{exported.what} in {request.out}: {watch}")
    for note in exported.notes:
        print(f"  {note}")


if __name__ == "__main__":
    command.run(main, define_flags)
