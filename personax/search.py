"""Guidance search command: `python -m personax.search --axis "0..5:a dog"`."""

import contextlib
import math
import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command, sampling_flags
from personax.core.errors import notice
from personax.core.locks import locked
from personax.core.outputs import (
    check_folder,
    make_folder,
    refuse_among,
    refuse_foreign,
)
from personax.data import concepts
from personax.loading import EMBEDDED, load_clip
from personax.metrics.clip import Score, make_scores
from personax.networks.tokenizer import unknown_placeholders
from personax.sampling import guidance_search
from personax.sampling.grammar import parse_axis, parse_term
from personax.sampling.img2img import require_text_to_image
from personax.sampling.prompt_terms import Axis, TermSpec
from personax.sampling.score_plot import check_matplotlib
from personax.sampling.setup import set_up

FLAGS = flags.FLAGS

_MOST = 100_000  # combinations of weights


def define_flags() -> None:
    """Define the command's flags."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    sampling_flags.define_flags()
    many(
        "axis",
        [],
        "[MODEL@]FROM..TO[/STEP]:PROMPT, a --term with each weight from FROM to TO; "
        "STEP is 0.25. All combinations are drawn; every --term is the same in all.",
    )
    text(
        "score_text",
        None,
        "Text for CLIP's text score. Default: the prompts of axes and terms.",
    )
    path = command.define_path
    path("reference", None, "Folder or bundled subject for the image score.")
    path("clip", EMBEDDED, "Directory of the CLIP that scores.")
    path("out", "out/search", "Folder; results that it holds are not drawn again.")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with contextlib.ExitStack() as held:
        with watch("load"), command.exit_on_user_error():
            command.refuse_arguments(argv)
            check_matplotlib()
            axes = [*map(parse_axis, FLAGS.axis)]
            others = [*map(parse_term, FLAGS.term)]
            _check_size(axes)
            out = _check_out()
            models = sampling_flags.model_options(FLAGS)
            hints = sampling_flags.hint_options(FLAGS)
            setup = set_up(models, sampling_flags.sampling_options(FLAGS), hints)
            require_text_to_image(setup.loaded.base, "the search")
            term_specs = [*(axis.term_spec(axis.values[0]) for axis in axes), *others]
            setup.check(term_specs)
            scores, described = _scores(term_specs)
            record = guidance_search.search_record(
                setup, models, hints, axes, others, described
            )
            terms = setup.terms(term_specs)
            held.enter_context(locked(make_folder(out)))
            known = guidance_search.resume(out, record)
        with watch("compile"):
            draw = guidance_search.make_draw(setup, terms, len(axes))
        with watch("search"):
            results = list(guidance_search.search(out, axes, draw, scores, known))
        with watch("write"):
            best = guidance_search.find_best(results)
            guidance_search.write_search(
                out, axes, others, results, best, FLAGS.num_images
            )
    for name, result in best.items():
        values = ", ".join(f"{key} {value:.3f}" for key, value in result.scores.items())
        texts = guidance_search.term_texts(axes, result.weights)
        flags_text = " ".join(f'--term "{text}"' for text in texts)
        print(f"best by {name}: {flags_text} ({values})")
    print(f"{len(results)} cells in {out}: {watch}.")


def _check_size(axes: Sequence[Axis]) -> None:
    if not axes:
        raise ValueError('Nothing to search; add an --axis, such as "0..5:a dog".')
    count = math.prod(len(axis.values) for axis in axes)
    if count > _MOST:
        raise ValueError(
            f"The axes have {count:,} combinations, more than {_MOST:,}; give them a "
            'larger STEP, as in "0..5/0.5:a dog".'
        )


def _check_out() -> pathlib.Path:
    """The folder of the search, which holds nothing else and no input."""
    out = check_folder(FLAGS.out)
    refuse_foreign(out, guidance_search.WRITTEN, "search.json")
    read = [path for _, path in sampling_flags.inputs(FLAGS)]
    written = [out / name for name in (*guidance_search.WRITTEN, "search.json")]
    refuse_among(written, [*read, *([FLAGS.reference] if FLAGS.reference else [])])
    return out


def _scores(term_specs: Sequence[TermSpec]) -> tuple[dict[str, Score], dict[str, str]]:
    """The scores, and their entry in search.json."""
    prompts = [term_spec.prompt for term_spec in term_specs if term_spec.prompt]
    text = FLAGS.score_text
    if text is None:
        text = ", ".join(dict.fromkeys(prompts))
    reference = concepts.pictures(FLAGS.reference) if FLAGS.reference else []
    if not text and not reference:
        raise ValueError("Nothing to score by; add --score_text or --reference.")
    clip = load_clip(None if FLAGS.clip == EMBEDDED else FLAGS.clip)
    if unknown := unknown_placeholders(clip.tokenizer, [text]):
        about = (
            f"has {unknown[0]}, which the CLIP that scores reads as letters; say in "
            "--score_text what the pictures show in other words."
        )
        if FLAGS.score_text is not None:
            raise ValueError(f"--score_text {text!r} {about}")
        notice(f"The score's text {text!r} {about}")
    record = {"text": text, "reference": FLAGS.reference or "", "clip": FLAGS.clip}
    return make_scores(clip, text=text, reference=reference), record


if __name__ == "__main__":
    command.run(main, define_flags)
