"""How well does each method teach a subject, and what does that cost?

    python -m benchmarks.teach --out runs/teach

Trains every method's config on every subject with the same number of pictures seen and
draws ten prompts, four pictures each. Image alignment is the mean cosine of the
pictures with the subject's five, text alignment with the prompt, the class word in the
concept's place, both by the embedded CLIP. "before" is the base asked for the class.
Hours of work: what is done is kept, and the same command goes on. One JSON line for
each run; OUT/table.md and OUT/grid.png hold what all of them say.
"""

import ast
import json
import pathlib
import statistics
import time

import numpy as np
from absl import app, flags
from safetensors.numpy import load_file

from benchmarks.judge import IMAGES, PROMPTS, Judge, make_painter
from benchmarks.lesson import lesson
from personax import command, images
from personax.data import concepts, emoji
from personax.loading import load_base
from personax.model import from_base, with_concepts
from personax.train import train
from personax.training.workdir import write

FLAGS = flags.FLAGS
CONFIGS = (
    "emoji_custom_diffusion",
    "emoji_class_diffusion",
    "emoji_dreambooth",
    "emoji_textual_inversion",
    "emoji_textual_inversion_multi",
    "emoji_extended_textual_inversion",
    "emoji_neti",
    "emoji_prospect",
    "emoji_lora",
    "emoji_oft",
    "emoji_svdiff",
    "emoji_perfusion",
    "emoji_infusion",
)
SUBJECTS = ("dog", "cat", "fox", "penguin", "backpack", "teddy_bear")
_SHOWN = (0, 1, 5)  # the prompts in the grid


def define_flags() -> None:
    flags.DEFINE_list("configs", ",".join(CONFIGS), "Names of configs/emoji_*.py.")
    flags.DEFINE_list("subjects", ",".join(SUBJECTS), "Bundled subjects.")
    flags.DEFINE_string("out", "runs/teach", "Folder for the runs and their sheets.")
    flags.DEFINE_multi_string("set", [], "key=value (Python) of every config.")


def main(_):
    command.start()
    base, judge = load_base("emoji"), Judge()
    plain, paint = from_base(base), make_painter(base)
    out, lines = pathlib.Path(FLAGS.out), []
    for name in ("before", *FLAGS.configs):
        for subject in FLAGS.subjects:
            folder = out / name / subject
            if not (folder / "score.json").is_file():
                _run(name, subject, folder, base, plain, paint, judge)
            line = json.loads((folder / "score.json").read_text())
            lines.append(line | _size(folder / "concept" / "theta.safetensors"))
            print(json.dumps(lines[-1]), flush=True)
        _report(out, lines)


def _run(name, subject, folder, base, plain, paint, judge):
    known = emoji.subjects()[subject]
    line, model, phrase = {"config": name, "subject": subject}, plain, known.class_word
    if name != "before":
        line["seconds"] = _train(name, subject, folder)
        model = with_concepts(plain, base, [str(folder / "concept")])
        phrase = model.concepts[0].phrase
    templates = PROMPTS[known.kind]
    drawn = paint(model, [each.replace("{}", phrase) for each in templates])
    asked = [each.replace("{}", known.class_word) for each in templates]
    score = judge.score(drawn, asked, [subject])
    sheet = images.grid(
        [picture for row in drawn for picture in row],
        columns=IMAGES,
        row_labels=[each.replace("{}", phrase) for each in templates],
    )
    images.write_png(folder / "scored.png", sheet)
    np.save(folder / "first.npy", np.stack([row[0] for row in drawn]))
    write(folder / "score.json", json.dumps(line | score._asdict()))


def _train(name, subject, folder):
    """Seconds of the training, or None where it was finished before."""
    if (folder / "concept").is_dir():
        return None
    config = lesson(name.removeprefix("emoji_"), subject)
    for setting in FLAGS.set:
        key, _, value = setting.partition("=")
        config.update_from_flattened_dict({key: ast.literal_eval(value)})
    start = time.perf_counter()
    train(config, folder)
    return round(time.perf_counter() - start, 1)


def _size(path):
    """How many numbers a concept holds, and in how many bytes; {} without one."""
    if not path.is_file():
        return {}
    numbers = sum(leaf.size for leaf in load_file(path).values())
    return {"numbers": numbers, "bytes": path.stat().st_size}


def _report(out, lines):
    """The table of means and the grid of first pictures, of all that is there."""
    names = list(dict.fromkeys(line["config"] for line in lines))
    columns = ("method", "image", "text", "numbers", "bytes", "seconds")
    table = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name in names:
        own = [line for line in lines if line["config"] == name]
        image, text = (
            statistics.mean(x[key] for x in own) for key in ("image", "text")
        )
        seconds = [x["seconds"] for x in own if x.get("seconds")]
        taken = f"{statistics.median(seconds):.0f}" if seconds else ""
        sizes = [f"{own[0][key]:,}" if key in own[0] else "" for key in columns[3:5]]
        cells = (name, f"{image:.3f}", f"{text:.3f}", *sizes, taken)
        table.append(f"| {' | '.join(cells)} |")
    write(out / "table.md", "\n".join(table) + "\n")
    subjects = list(dict.fromkeys(line["subject"] for line in lines))
    tiles = [_own(subject) for subject in subjects for _ in _SHOWN]
    for name in names:
        for subject in subjects:
            path = out / name / subject / "first.npy"
            found = np.load(path) if path.is_file() else None
            tiles += [None if found is None else found[i] for i in _SHOWN]
    columns = len(subjects) * len(_SHOWN)
    sheet = images.grid(tiles, columns=columns, row_labels=["subject", *names], scale=3)
    images.write_png(out / "grid.png", sheet)


def _own(subject):
    """One of the subject's own pictures, at the base's size."""
    pixels = concepts.pictures(subject)[0]
    return images.to_uint8(images.fit(pixels, 32))


if __name__ == "__main__":
    define_flags()
    app.run(main)
