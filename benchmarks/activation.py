"""Does the class word lose its attention while a concept is taught?

    python -m benchmarks.activation --out runs/activation

Huang et al. 2024 (fig. 3) see the cross-attention activation of the class word fall
under Custom Diffusion, and not under ClassDiffusion. Here: the class word's mean
probability inside the region where the pretrained model's own map, at the same prompt
and seed, has more than half of its maximum (diffusion/heat.py), over training steps and
learning rates, on the embedded base. ClassDiffusion has the paper's weight of 1. What
is done is kept, and the same command goes on. One JSON line for each point, and
OUT/activation.png.
"""

import json
import pathlib

import matplotlib
from absl import app, flags

from benchmarks.claims.activation import make_see, strength
from benchmarks.lesson import lesson
from personax import command
from personax.data import emoji
from personax.diffusion import heat
from personax.loading import load_base
from personax.model import from_base, with_concepts
from personax.teaching import prepare
from personax.train import train
from personax.training.workdir import write

FLAGS = flags.FLAGS
METHODS = {"custom_diffusion": {}, "class_diffusion": {"semantic_weight": 1.0}}
PROMPTS = (
    "a photo of a {}",
    "a photo of a {} at night",
    "a photo of a {} wearing a top hat",
    "a photo of a {} on the beach",
)
IMAGES, STEPS, GUIDANCE, SEED = 8, 25, 3.0, 1


def define_flags() -> None:
    flags.DEFINE_string("subject", "dog", "A bundled subject.")
    flags.DEFINE_list("steps", "50,100,200,400", "Training steps, ascending.")
    flags.DEFINE_list("rates", "2e-4,4e-4,1e-3", "Learning rates.")
    flags.DEFINE_string("out", "runs/activation", "Folder for the runs and the plot.")


def main(_):
    command.start()
    base, out = load_base("emoji"), pathlib.Path(FLAGS.out)
    plain, word = from_base(base), emoji.subjects()[FLAGS.subject].class_word
    see = make_see(base, images=IMAGES, steps=STEPS, guidance=GUIDANCE, seed=SEED)
    before = [see(plain, template.replace("{}", word), word) for template in PROMPTS]
    regions = [heat.object_region(maps) for maps in before]
    print(json.dumps({"method": "the base", "strength": strength(before, regions)}))
    lines = []
    for method, arguments in METHODS.items():
        # V* takes attention before it is taught anything: that is the start.
        run = prepare(_config(method, arguments, "1e-4", 1))
        phrase = run.concepts[0].phrase
        untaught = run.bind(run.theta)
        maps = [see(untaught, x.replace("{}", phrase), word) for x in PROMPTS]
        start = strength(maps, regions)
        for rate in FLAGS.rates:
            lines.append(
                {"method": method, "rate": rate, "steps": 0, "strength": start}
            )
            print(json.dumps(lines[-1]), flush=True)
            for steps in map(int, FLAGS.steps):
                folder = out / method / rate
                path = folder / f"strength_{steps}.json"
                if not path.is_file():
                    train(_config(method, arguments, rate, steps), folder)
                    model = with_concepts(plain, base, [str(folder / "concept")])
                    phrase = model.concepts[0].phrase
                    maps = [see(model, x.replace("{}", phrase), word) for x in PROMPTS]
                    line = {"method": method, "rate": rate, "steps": steps}
                    line["strength"] = strength(maps, regions)
                    write(path, json.dumps(line))
                lines.append(json.loads(path.read_text()))
                print(json.dumps(lines[-1]), flush=True)
    _plot(out / "activation.png", lines)


def _config(method, arguments, rate, steps):
    config = lesson(method, FLAGS.subject)
    config.method_args.update(arguments)
    config.optimizer.learning_rate, config.steps = float(rate), steps
    return config


def _plot(path, lines):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(METHODS), sharey=True, figsize=(9, 3.5))
    for axis, method in zip(axes, METHODS, strict=True):
        for rate in FLAGS.rates:
            own = [x for x in lines if (x["method"], x["rate"]) == (method, rate)]
            axis.plot(
                [x["steps"] for x in own],
                [x["strength"] for x in own],
                marker="o",
                label=f"learning rate {rate}",
            )
        axis.set(title=method, xlabel="training steps", ylim=(0, None))
    axes[0].set_ylabel("activation of the class word")
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    define_flags()
    app.run(main)
