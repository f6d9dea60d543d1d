"""Train the classifier of the embedded world on renders, and report its accuracy.

    python -m benchmarks.train_classifier --out personax/assets/emoji/classifier

Half of the pictures are scenes of the base's classes in all seven styles, a third are
portraits of people and animals that the base was not trained on, half of them with an
accessory, and the rest are scenes of all 147 classes. The sprites of the twelve
subjects are excluded. A fifth of the pictures is encoded and decoded by the
autoencoder and half are blurred to some degree, because generated pictures are softer
than renders. The base's UNet and CLIP are not used. Runs are reproducible.
"""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jaxtyping import UInt8
from PIL import Image

from personax.cli import command
from personax.core.files import write_text
from personax.core.images import to_float
from personax.core.progress import Progress
from personax.core.tensor_file import write_tensors
from personax.core.tree import count, flat
from personax.core.typing import Key, Params
from personax.data import emoji
from personax.loading import Base, load_base
from personax.metrics import classifier
from personax.metrics.classifier import NONE, WIDTHS, Classifier, logits
from personax.networks import vae
from personax.networks.layers import init_conv, init_dense, init_norm, keys_for

FLAGS = flags.FLAGS
STRANGERS = (*emoji.PORTRAITS["people"], *emoji.PORTRAITS["animals"])
_RENDERS, _SOFT, _BATCH = 40_000, 8_000, 128
_TESTS = 1000  # of each kind
_TRAINED, _TESTED = 0, 1  # seeds of the pictures
Pictures = tuple[UInt8[np.ndarray, "b 32 32 3"], dict[str, np.ndarray]]


def define_flags() -> None:
    flags.DEFINE_string("out", "runs/classifier", "Folder for weights and README.")
    flags.DEFINE_integer("steps", 1500, f"Of {_BATCH} pictures.")


def main(_):
    command.start()
    start, sprites, base = time.perf_counter(), emoji.load_sprites(), load_base("emoji")
    heads = words(sprites)
    pictures = renders(sprites, heads, "trained", _RENDERS, _TRAINED)
    soft = soften(base, pictures[0][:_SOFT])
    params = fit(heads, pictures, soft, FLAGS.steps)
    # Measure the float16 weights that are written.
    params = jax.tree.map(lambda x: np.asarray(x, np.float16), params)
    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", flat(params))
    write_text(out / "config.json", json.dumps({"heads": heads}, indent=1) + "\n")
    table = accuracy_table(classifier.load_classifier(out), base, sprites)
    seconds = time.perf_counter() - start
    write_text(out / "README.md", _readme(table, count(params), seconds))
    print(table)


def words(sprites: emoji.Sprites) -> dict[str, list[str]]:
    """{head: its classes}."""
    return {
        "class": sorted({name for name, _ in sprites}),
        "place": [*emoji.COLOURS, *emoji.SCENES],
        "accessory": [NONE, *emoji.ACCESSORIES],
        "style": list(emoji.STYLES),
        "tint": [NONE, *emoji.TINTS],
    }


def renders(sprites, heads, kind: str, number: int, seed: int) -> Pictures:
    """(pictures, {head: class indices}) of a kind in `_DRAW`."""
    pixels, labels = [], {head: [] for head in heads}
    for i in Progress(range(number), kind, unit="picture", leave=False):
        picture, scene = _DRAW[kind](np.random.default_rng((seed, i)), sprites)
        pixels.append(picture)
        classes = (
            scene.subject[0],
            scene.place,
            scene.accessory[0] if scene.accessory else NONE,
            scene.subject[1],
            scene.colour or NONE,
        )
        for (head, names), word in zip(heads.items(), classes, strict=True):
            labels[head].append(names.index(word))
    return np.stack(pixels), {head: np.array(own) for head, own in labels.items()}


def _trained(rng, sprites):
    """A training picture; half are cropped a little closer."""
    chance, styles = rng.random(), tuple(emoji.STYLES)
    if chance < 0.35:
        picture, scene = _portrait(rng, sprites)
    else:
        every = sorted({name for name, _ in sprites})
        known = emoji.CLASSES if chance < 0.85 else every
        scene = emoji.choose(rng, sprites, classes=known, styles=styles)
        picture = emoji.render(rng, sprites, scene)
    if scene.distance is None and scene.other is None and rng.random() < 0.5:
        # Subjects with an accessory are small in scenes, but not always in samples.
        picture = _closer(rng, picture, rng.uniform(1.0, 1.5))
    return picture, scene


def _portrait(rng, sprites):
    """A stranger to the base; half have an accessory, some a tint."""
    worn = (*[None] * len(emoji.ACCESSORIES), *emoji.ACCESSORIES)
    tints = (*[None] * 6 * len(emoji.TINTS), *emoji.TINTS)
    options = {"classes": STRANGERS, "accessories": worn, "colours": tints}
    scene = emoji.portrait_scene(rng, sprites, **options)
    return emoji.portrait(rng, sprites, scene), scene


def _world(rng, sprites):
    scene = emoji.choose(rng, sprites)
    return emoji.render(rng, sprites, scene), scene


def _subject(rng, sprites):
    """A scene of a held-out sprite, which no network was trained on."""
    held = sorted(emoji.HELD_OUT)
    name, style = held[rng.integers(len(held))]
    options = {"classes": (name,), "styles": (style,), "held_out": True}
    scene = emoji.choose(rng, sprites, **options)
    return emoji.render(rng, sprites, scene), scene


_DRAW = {
    "trained": _trained,
    "world": _world,
    "portraits": _portrait,
    "subjects": _subject,
}


def _closer(rng, pixels, zoom: float):
    """A crop of the picture, resized to its size."""
    side = 32 / zoom
    left, top = rng.uniform(0, 32 - side, 2)
    box = (left, top, left + side, top + side)
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC, box=box))


def soften(base: Base, pixels: UInt8[np.ndarray, "b 32 32 3"]) -> np.ndarray:
    """The pictures, encoded and decoded by the autoencoder."""
    spec = base.spec

    @jax.jit
    def through(params, x):
        x = to_float(x)
        z = vae.encode(params, spec.vae, x).mean
        x = vae.decode(params, spec.vae, vae.scale(spec.vae, z))
        return jnp.round(jnp.clip(x / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)

    parts = range(0, len(pixels), 100)
    batches = [
        np.asarray(through(base.params["vae"], pixels[i : i + 100]))
        for i in Progress(parts, "autoencoder", leave=False)
    ]
    return np.concatenate(batches)


def init_classifier(key: Key, heads: Mapping[str, Sequence[str]]) -> Params:
    """Random parameters for heads with these words."""
    params, inputs = {}, 12
    for level, width in enumerate(WIDTHS):
        key, own = jax.random.split(key)
        keys = keys_for(own, "conv", "first", "second")
        params[f"level_{level}"] = {
            "conv": init_conv(keys["conv"], 3, inputs, width),
            "norm_1": init_norm(width),
            "first": init_conv(keys["first"], 3, width, width),
            "norm_2": init_norm(width),
            "second": init_conv(keys["second"], 3, width, width),
        }
        inputs = width
    keys = keys_for(key, *heads)
    own = {head: init_dense(keys[head], 2 * inputs, len(heads[head])) for head in heads}
    return {**params, "norm": init_norm(inputs), "heads": own}


def fit(heads, pictures: Pictures, soft: np.ndarray, steps: int):
    """The parameters trained with AdamW on the sum of the heads' cross-entropies."""
    pixels, labels = pictures
    params = init_classifier(jax.random.key(0), heads)
    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, 50, steps)
    tx = optax.adamw(schedule, weight_decay=0.02)
    opt = tx.init(params)

    def loss(params, key, x, y):
        outputs = logits(params, _varied(key, to_float(x)))
        each = optax.softmax_cross_entropy_with_integer_labels
        values = {head: each(outputs[head], y[head]).mean() for head in outputs}
        return sum(values.values()), values

    @jax.jit
    def step(params, opt, key, x, y):
        slope = jax.value_and_grad(loss, has_aux=True)
        (_, values), gradient = slope(params, key, x, y)
        update, opt = tx.update(gradient, opt, params)
        return optax.apply_updates(params, update), opt, values

    rng, key = np.random.default_rng(0), jax.random.key(1)
    bar = Progress(range(steps), "training")
    for i in bar:
        rows = rng.integers(len(pixels), size=_BATCH)
        x = pixels[rows]
        own = rows < len(soft)
        x[own] = soft[rows[own]]
        y = {head: own[rows] for head, own in labels.items()}
        params, opt, values = step(params, opt, jax.random.fold_in(key, i), x, y)
        if i % 20 == 0:
            bar.set_postfix({head: f"{float(v):.2f}" for head, v in values.items()})
    return params


def _varied(key, x):
    """Random blur of half the pictures, and a small colour shift and noise of all."""
    kernel = np.array([1, 2, 1], np.float32) / 4
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(kernel[i] * padded[:, i : i + 32] for i in range(3))
    blurred = sum(kernel[i] * rows[:, :, i : i + 32] for i in range(3))
    one, two, three = jax.random.split(key, 3)
    amount = jax.random.uniform(one, (len(x), 1, 1, 1), minval=-1.0)
    x = x + jnp.maximum(amount, 0) * (blurred - x)
    shift = 0.05 * jax.random.normal(two, (len(x), 1, 1, 3))
    return x + shift + 0.02 * jax.random.normal(three, x.shape)


def accuracy_table(model: Classifier, base: Base, sprites: emoji.Sprites) -> str:
    """A table of accuracies by head, on renders that are not in the training set."""
    lines = [f"| pictures | {' | '.join(model.heads)} |"]
    lines.append("|---|" + "---|" * len(model.heads))
    for kind, title in _TITLES.items():
        pixels, labels = renders(sprites, model.heads, kind, _TESTS, _TESTED)
        for name, each in (
            (title, pixels),
            (f"{title}, encoded and decoded", soften(base, pixels)),
        ):
            chances = classifier.probabilities(model, each)
            right = [
                f"{(chances[head].argmax(1) == labels[head]).mean():.3f}"
                for head in model.heads
            ]
            lines.append(f"| {name} | {' | '.join(right)} |")
    return "\n".join(lines)


_TITLES = {
    "world": "scenes of the base's training data",
    "portraits": "people and animals, half of them with an accessory",
    "subjects": "the twelve held-out sprites",
}


def _readme(table: str, numbers: int, seconds: float) -> str:
    return f"""# Classifier of the embedded world, trained on renders

{numbers:,} parameters, float16: a convolutional network
(`personax/metrics/classifier.py`) that predicts one of 147 classes, 19 places, 7
accessories (or none), 7 styles and 7 tints (or none) of a 32x32 picture. It was trained
on {_RENDERS:,} renders, {_SOFT:,} of them encoded and decoded by the autoencoder, for
{FLAGS.steps:,} steps of {_BATCH}. The UNet and the CLIP model of the base were not
used, so the classifier can score both.

Accuracy on {_TESTS:,} renders each, with seeds that were not used in training:

{table}

The style of the held-out sprites is a guess: the training renders show their classes in
other styles only.
Trained in {seconds / 60:.0f} minutes on one shared CPU core by

    python -m benchmarks.train_classifier --out personax/assets/emoji/classifier

Apache-2.0, part of personax.
"""


if __name__ == "__main__":
    define_flags()
    app.run(main)
