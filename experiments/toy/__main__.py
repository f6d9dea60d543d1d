"""The command: `python -m experiments.toy --config configs/toy/FILE --out DIR`."""

import importlib.util
import json
import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments.toy import figures, overfitting
from experiments.toy.overfitting import Outcome, best
from personax.cli import command
from personax.core.progress import Progress
from personax.core.tree import nearest

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    config_flags.DEFINE_config_file("config", None, "Such as configs/toy/four_peaks.py")
    flags.mark_flag_as_required("config")
    flags.DEFINE_string("out", None, "Folder for figures, tables and summary.json.")
    flags.mark_flag_as_required("out")


def main(argv: Sequence[str]) -> None:
    config, out = FLAGS.config, pathlib.Path(FLAGS.out)
    watch = command.Stopwatch()
    with command.exit_on_user_error():
        check(config)
        out.mkdir(parents=True, exist_ok=True)
    with (
        watch("run"),
        Progress(total=overfitting.num_steps(config), unit="step") as bar,
    ):
        outcome = overfitting.run(config, bar.update)
    with watch("draw"):
        write(config, outcome, out)
    print(f"{_table(outcome)}\nfigures and tables in {out}; {watch}")


def check(config: ConfigDict) -> None:
    """ValueError for an invalid config, before any computation."""
    overfitting.check(config)
    if config.plots.condition not in config.conditions:
        near = nearest(config.plots.condition, config.conditions)
        raise ValueError(
            f"plots.condition: unknown condition {config.plots.condition!r}. "
            f"Nearest: {near}."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "The figures need matplotlib, which is not installed: "
            "pip install 'personax[plot]'."
        )


def write(config: ConfigDict, outcome: Outcome, out: pathlib.Path) -> None:
    """Write three figures, a CSV for each, and summary.json."""
    teaching, task = config.teaching, outcome.task
    reference, last = teaching.reference_step, teaching.steps[-1]
    named = {
        "curves": figures.curves(outcome),
        "samples": figures.samples(outcome, (reference, last)),
        "field": figures.field(outcome, config.plots, last),
    }
    for name, rows in named.items():
        figures.write_csv(out / f"{name}.csv", rows)
    ideal, at = outcome.baselines["ideal"], config.plots
    figures.draw_curves(
        out / "curves.png", named["curves"], ideal=ideal, reference_step=reference
    )
    figures.draw_samples(out / "samples.png", named["samples"], task)
    title = f"-eps under {at.condition!r} at t = {at.time:g}, step {last}"
    figures.draw_field(out / "field.png", named["field"], task, title=title)
    (out / "summary.json").write_text(json.dumps(_summary(config, outcome), indent=1))


def _summary(config: ConfigDict, outcome: Outcome) -> dict:
    reference, last = config.teaching.reference_step, config.teaching.steps[-1]
    return {
        "learning_rates": {
            name: best(losses) for name, losses in outcome.losses.items()
        },
        "fresh_loss_by_rate": {
            method: {f"{rate:g}": loss for rate, loss in losses.items()}
            for method, losses in outcome.losses.items()
        },
        "references": outcome.baselines,
        **{
            f"step_{step}": {
                each.method: each.evaluation.metrics
                for each in outcome.snapshots
                if each.step == step
            }
            for step in (reference, last)
        },
        "examples": outcome.task.examples.tolist(),
        "config": config.to_dict(),
    }


def _table(outcome: Outcome) -> str:
    """The main metrics after the last step, a line for each method."""
    names = ("fisher_others", "pull_others", "own_share", "w2_class", "w2_wanted")
    lines = [f"{'':24}" + "".join(f"{name:>15}" for name in names)]
    last = {each.method: each.evaluation.metrics for each in outcome.snapshots}
    for method, numbers in {"the base": outcome.baselines["base"], **last}.items():
        cells = "".join(f"{numbers[name]:15.4f}" for name in names)
        lines.append(f"{method:24}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, define_flags)
