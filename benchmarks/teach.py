"""How well does each method teach a subject, judged by the embedded CLIP?

    python -m benchmarks.teach --configs emoji_custom_diffusion,emoji_lora

Trains every config on every subject and draws ten prompts, four pictures each. Image
alignment is the mean cosine of the pictures with the subject's five, text alignment
with the prompt, the class word in the concept's place. "before" is the base asked for
the class. One JSON line for each run, and a last one with each config's means.
"""

import ast
import importlib
import json
import pathlib
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from personax import artifact, command, images, methods, preview
from personax.data import concepts, emoji
from personax.loading import load_base, load_clip
from personax.model import from_base, with_words
from personax.networks.clip import image_features, text_features
from personax.networks.tokenizer import tokenize
from personax.train import train

FLAGS = flags.FLAGS
flags.DEFINE_list("configs", None, "Names of files in configs/.", required=True)
flags.DEFINE_list(
    "subjects", "dog,cat,fox,penguin,backpack,teddy_bear", "Bundled subjects."
)
flags.DEFINE_string("out", "runs/teach", "Folder for the runs and their sheets.")
flags.DEFINE_multi_string("set", [], "key=value (Python) of every config.")

# Places that no subject was photographed in.
_EVERYONE = (
    "a photo of a {}",
    "a photo of a {} at night",
    "a photo of a {} in the desert",
    "a photo of a {} under the sea",
    "a photo of a {} with a mountain in the background",
    "a photo of a {} on a purple background",
    "a photo of a {} on a red background",
    "a photo of a {} on a green background",
)
PROMPTS = {
    "live": (
        *_EVERYONE,
        "a photo of a {} wearing a top hat",
        "a photo of a {} wearing sunglasses at night",
    ),
    "object": (
        *_EVERYONE,
        "a photo of a {} on a pink background",
        "a far away photo of a {} at night",
    ),
}
IMAGES, STEPS, GUIDANCE, SEED = 4, 25, 3.0, 1


class Judge:
    """The embedded CLIP, compiled once."""

    def __init__(self):
        self.clip = load_clip()
        self._image = jax.jit(
            lambda x: image_features(self.clip.params, self.clip.config, x)
        )
        self._text = jax.jit(
            lambda ids: text_features(self.clip.params, self.clip.config, ids)
        )

    def images(self, pixels):
        x = np.stack(pixels).astype(np.float32) / 255
        x = (x - np.array(self.clip.mean)) / np.array(self.clip.std)
        return _unit(self._image(jnp.asarray(x, jnp.float32)))

    def text(self, prompt):
        ids = tokenize(self.clip.tokenizer, [prompt])
        return _unit(self._text(jnp.asarray(ids)))


def main(_):
    command.start()
    base, judge = load_base("emoji"), Judge()
    spec = from_base(base).denoiser.spec
    subjects = emoji.subjects()
    means = {}
    for name in FLAGS.configs:
        lines = []
        for subject in FLAGS.subjects:
            config = _config(name, subject, subjects[subject].class_word)
            folder = pathlib.Path(FLAGS.out) / name / subject
            train(config, folder)
            line = _score(base, spec, judge, folder, subjects[subject])
            line = {"config": name, "subject": subject, **line}
            lines.append(line)
            print(json.dumps(line), flush=True)
        scores = [key for key in lines[0] if key not in ("config", "subject")]
        means[name] = {
            key: round(statistics.mean(line[key] for line in lines), 3)
            for key in scores
        }
        print(json.dumps({"config": name, "mean of": len(lines), **means[name]}))


def _config(name, subject, class_word):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.concept.images, config.concept.class_word = subject, class_word
    config.preview.prompts, config.validation.every = (), 0
    for setting in FLAGS.set:
        key, _, value = setting.partition("=")
        config.update_from_flattened_dict({key: ast.literal_eval(value)})
    return config


def _score(base, spec, judge, folder, subject):
    plain = from_base(base)
    loaded = artifact.load(folder / "concept", plain.denoiser.params, base.fingerprint)
    tokenizer = with_words(plain.tokenizer, loaded.concepts)
    denoiser = methods.prepare(loaded.method, plain.denoiser)
    bound = methods.bind(loaded.method, denoiser, loaded.theta)
    phrase = loaded.concepts[0].phrase
    templates = PROMPTS[subject.kind]
    paint = preview.make_paint(
        base,
        tokenizer,
        loaded.concepts,
        spec,
        spec.size,
        count=IMAGES,
        steps=STEPS,
        guidance=GUIDANCE,
        seed=SEED,
    )
    references = judge.images(concepts.pictures(subject.name))
    rows, scores = [], {}
    for when, denoiser, words in (
        ("before", plain.denoiser, subject.class_word),
        ("after", bound, phrase),
    ):
        prompts = [template.replace("{}", words) for template in templates]
        drawn = paint(denoiser, prompts)
        asked = [template.replace("{}", subject.class_word) for template in templates]
        image, text = [], []
        for prompt, pictures in zip(asked, drawn, strict=True):
            features = judge.images(pictures)
            image.append(float((features @ references.T).mean()))
            text.append(float((features @ judge.text(prompt).T).mean()))
        scores[f"image_{when}"] = round(statistics.mean(image), 3)
        scores[f"text_{when}"] = round(statistics.mean(text), 3)
        rows += zip(prompts, drawn, strict=True)
    tiles = [picture for _, row in rows for picture in row]
    sheet = images.grid(tiles, columns=IMAGES, row_labels=[label for label, _ in rows])
    images.write_png(folder / "scored.png", sheet)
    return scores


def _unit(x):
    x = np.asarray(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    app.run(main)
