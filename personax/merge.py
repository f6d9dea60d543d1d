"""Command to merge concepts in closed form: `python -m personax.merge A B --out AB`."""

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
from personax.concepts.outputs import check_result
from personax.core.files import expand

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing this module defines none."""
    path = command.define_path
    command.define_base_flags(base=None)
    path("out", None, "Folder for the merged concept; replaces an earlier merge.")
    path("captions", None, "File of captions, one a line. Default: the emoji world's.")
    flags.DEFINE_float(
        "ridge",
        RIDGE,
        "Weight of the penalty on changes of the kernels, relative to the captions' "
        "mean eigenvalue. The paper's 0 can lose accuracy in bfloat16.",
        0.0,
    )
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        folders = [expand(name) for name in argv[1:]]
        check_folders(folders)
        read = [*command.base_inputs(FLAGS), *(("the concept", x) for x in folders)]
        if FLAGS.captions:
            read.append(("captions", FLAGS.captions))
        out = check_result(FLAGS.out, read, "merged_from")
        sources = [str(folder) for folder in folders]
        base = load_named_base(FLAGS.base, sources, command.base_options(FLAGS))
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
