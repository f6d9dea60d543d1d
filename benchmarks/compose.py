"""Several concepts in one picture: which way of joining them keeps both?

    python -m benchmarks.compose --teach runs/teach --out runs/compose

Two subjects by ten prompts with both in them: Custom Diffusion jointly, one after the
other and merged, ClassDiffusion and DreamBooth jointly, and Textual Inversion and
Infusion put together from concepts that `benchmarks.teach` has trained apart; then
three subjects in one prompt. Image alignment is the mean cosine with each subject's
pictures, text alignment that with the prompt in class words. What is done is kept, and
the same command goes on. One JSON line for each way; OUT/table.md, OUT/grid.png.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import app, flags

from benchmarks.claims import joining
from benchmarks.judge import IMAGES, Judge, make_painter
from personax import command, images
from personax.data import emoji
from personax.loading import Base, load_base
from personax.model import from_base, with_concepts
from personax.training.workdir import write

FLAGS = flags.FLAGS
_PLACES = (
    "",
    " at night",
    " in the desert",
    " under the sea",
    " on the beach",
    " with a mountain in the background",
    " on a purple background",
    " on a red background",
    " on a green background",
    " on a pink background",
)
THREE = ("dog", "penguin", "backpack")


def define_flags() -> None:
    flags.DEFINE_list("subjects", "dog,penguin", "Two bundled subjects.")
    flags.DEFINE_string("teach", "runs/teach", "Where benchmarks.teach has written.")
    flags.DEFINE_string("out", "runs/compose", "Folder for the runs and their sheets.")
    flags.DEFINE_integer("steps", 250, "Training steps for each concept.")


def main(_):
    command.start()
    base, judge = load_base("emoji"), Judge()
    paint, out = make_painter(base), pathlib.Path(FLAGS.out)
    lines = []
    for name, way in WAYS.items():
        folder, subjects = out / name, THREE if way.three else FLAGS.subjects
        if not (folder / "score.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            model = with_concepts(
                from_base(base), base, way.make(base, folder, subjects)
            )
            phrases = [way.spoken(i, subject) for i, subject in enumerate(subjects)]
            line = _score(name, folder, model, phrases, subjects, paint, judge)
            write(folder / "score.json", json.dumps(line))
        lines.append(json.loads((folder / "score.json").read_text()))
        print(json.dumps(lines[-1]), flush=True)
        table = ["| way | image | text |", "|---|---|---|"]
        table += [f"| {x['way']} | {x['image']:.3f} | {x['text']:.3f} |" for x in lines]
        write(out / "table.md", "\n".join(table) + "\n")


def _score(name, folder, model, phrases, subjects, paint, judge):
    known = emoji.subjects()
    words = [known[subject].class_word for subject in subjects]
    prompts = ["a photo of a " + " next to a ".join(phrases) + x for x in _PLACES]
    asked = ["a photo of a " + " next to a ".join(words) + x for x in _PLACES]
    drawn = paint(model, prompts)
    tiles = [picture for row in drawn for picture in row]
    sheet = images.grid(tiles, columns=IMAGES, row_labels=prompts)
    images.write_png(folder / "scored.png", sheet)
    each = [judge.score(drawn, asked, [subject]) for subject in subjects]
    own = {subject: score.image for subject, score in zip(subjects, each, strict=True)}
    mean = round(sum(own.values()) / len(own), 3)
    return {"way": name, "image": mean, "text": each[0].text, "subjects": own}


def _joint(method):
    def make(base, folder, subjects):
        return joining.joint(method, subjects, folder, steps=FLAGS.steps)

    return make


def _sequential(base, folder, subjects):
    first = _taught("custom_diffusion", subjects[0])
    return joining.sequential(subjects, first, folder, steps=FLAGS.steps)


def _merged(base, folder, subjects):
    apart = [_taught("custom_diffusion", subject) for subject in subjects]
    return joining.merged(base, apart, folder)


def _apart(method, *, renamed):
    def make(base, folder, subjects):
        found = [_taught(method, subject) for subject in subjects]
        return joining.renamed(found) if renamed else found

    return make


def _taught(method, subject):
    return f"{FLAGS.teach}/emoji_{method}/{subject}/concept"


def _placeholder_and_class(i, subject):
    return f"<v{i + 1}> {emoji.subjects()[subject].class_word}"


def _placeholder(i, subject):
    return f"<v{i + 1}>"


def _class(i, subject):
    return emoji.subjects()[subject].class_word


class Way(NamedTuple):
    """How concept folders are made of subjects, and how a prompt speaks of the i-th."""

    make: Callable[[Base, pathlib.Path, Sequence[str]], list[str]]
    spoken: Callable[[int, str], str] = _placeholder_and_class
    three: bool = False


WAYS = {
    "the base": Way(lambda base, folder, subjects: [], _class),
    "Custom Diffusion, joint": Way(_joint("custom_diffusion")),
    "Custom Diffusion, sequential": Way(_sequential),
    "Custom Diffusion, merged": Way(_merged),
    "ClassDiffusion, joint": Way(_joint("class_diffusion")),
    "DreamBooth, joint": Way(_joint("dreambooth")),
    "Textual Inversion, two tokens": Way(
        _apart("textual_inversion", renamed=True), _placeholder
    ),
    "Infusion, added": Way(_apart("infusion", renamed=False), _class),
    "Infusion, three added": Way(_apart("infusion", renamed=False), _class, three=True),
}


if __name__ == "__main__":
    define_flags()
    app.run(main)
