"""Command to merge concepts in closed form: `python -m personax.merge A B --out AB`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.concepts.load_models import load_named_base
from personax.concepts.merge import (
    RIDGE,
    MergeResult,
    check_folders,
    merge,
    read_captions,
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing this module defines none."""
    text = flags.DEFINE_string
    command.define_base_flags(base=None)
    text("out", None, "Folder for the merged concept.")
    text("captions", None, "File of captions, one a line. Default: the emoji world's.")
    flags.DEFINE_float(
        "ridge",
        RIDGE,
        "Weight of the penalty on changes of the kernels, relative to the captions' "
        "mean eigenvalue. The paper's 0 can lose accuracy in bfloat16.",
        0.0,
    )
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    watch, out = command.Stopwatch(), pathlib.Path(FLAGS.out)
    folders = [pathlib.Path(name) for name in argv[1:]]
    with watch("load"), command.exit_on_user_error():
        check_folders(folders, out)
        base = load_named_base(FLAGS.base, argv[1:], command.base_options(FLAGS))
        captions = read_captions(base, FLAGS.captions)
    with watch("merge"), command.exit_on_user_error():
        result = merge(
            base,
            folders,
            out,
            captions,
            ridge=FLAGS.ridge,
            allow_pickle=FLAGS.allow_pickle,
        )
    print(_summary(result))
    size = (out / "theta.safetensors").stat().st_size
    print(f"{len(result.concepts)} concepts in {out}, {size / 1e6:.1f} MB: {watch}")


def _summary(result: MergeResult) -> str:
    lines = []
    for source, concept in zip(result.sources, result.concepts, strict=True):
        old, new = source.concept.placeholder, concept.placeholder
        renamed = "" if old == new else f", named {old} there"
        phrase = f"{new} {concept.class_word}".strip()
        lines.append(f"{phrase} from {source.folder}{renamed}")
    kernels = result.kernels
    lines.append(
        f"constraint residual {kernels.residual_targets:.1e}, regularisation residual "
        f"{kernels.residual_regularisation:.2e} over {result.num_tokens:,} tokens; "
        f"kernels changed {kernels.growth:.1f} times as much as in training"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, define_flags)
