"""Classifier of pictures of the emoji world.

It was trained on renders only, so that it is independent of the base and its CLIP. Its
accuracy is documented with its weights in assets/emoji/classifier.
"""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, UInt8

from personax.core.files import read_json
from personax.core.images import Pixels, to_float
from personax.core.tree import nest
from personax.core.typing import Images, Params
from personax.loading.files import embedded
from personax.loading.stored import open_safetensors
from personax.networks.layers import conv, dense, group_norm

NONE = "none"  # no accessory, no tint
WIDTHS = (48, 96, 192)  # at 1/2, 1/4 and 1/8 of the picture's side
_GROUPS, _EPS = 8, 1e-5
_BATCH = 256


@struct.dataclass
class Classifier:
    """The network's parameters, and each head's words."""

    params: Params
    heads: Mapping[str, tuple[str, ...]] = struct.field(pytree_node=False)


def load_classifier(folder: pathlib.Path | None = None) -> Classifier:
    """The classifier in a folder, or the embedded one.

    Raises FileNotFoundError if the folder has none, and ValueError for files of another
    form.
    """
    folder = folder or embedded("classifier")
    weights, config = folder / "model.safetensors", folder / "config.json"
    for path in (weights, config):
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no classifier in {folder}: {path.name} is missing."
            )
    values = read_json(config)
    heads = values.get("heads") if isinstance(values, dict) else None
    if not isinstance(heads, dict) or not all(map(_is_words, heads.values())):
        raise ValueError(f"{config} has no heads of words.")
    leaves = {
        path: jnp.asarray(x, jnp.float32)
        for path, x in open_safetensors(weights).items()
    }
    return Classifier(
        nest(leaves), {head: tuple(words) for head, words in heads.items()}
    )


def _is_words(words: object) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def probabilities(
    classifier: Classifier, pixels: Sequence[Pixels] | UInt8[np.ndarray, "b 32 32 3"]
) -> dict[str, Float[np.ndarray, "b _"]]:
    """{head: the probability of each of its words} for 32x32 uint8 pictures."""
    batches = [
        jax.device_get(
            _probabilities(classifier.params, np.stack(list(pixels[i : i + _BATCH])))
        )
        for i in range(0, len(pixels), _BATCH)
    ]
    return {
        head: np.concatenate([batch[head] for batch in batches]) for head in batches[0]
    }


def classify(
    classifier: Classifier, pixels: Sequence[Pixels] | UInt8[np.ndarray, "b 32 32 3"]
) -> dict[str, list[str]]:
    """{head: the most likely word of each picture}.

    Heads are class, place, accessory, style and tint. In a picture of two sprites,
    class and style are those of the left one.
    """
    by_head = probabilities(classifier, pixels)
    return {
        head: [words[i] for i in by_head[head].argmax(axis=1)]
        for head, words in classifier.heads.items()
    }


def logits(params: Params, images: Images) -> dict[str, Float[Array, "b _"]]:
    """Each head's logits for 32x32 pictures in [-1, 1].

    Blocks of 2x2 pixels, a residual block at each of three resolutions, and mean and
    maximum pooling.
    """
    x = _blocks(images)
    for level in range(len(WIDTHS)):
        own = params[f"level_{level}"]
        x = conv(own["conv"], x, stride=1 if level == 0 else 2)
        y = conv(own["first"], _normed(own["norm_1"], x))
        x = x + conv(own["second"], _normed(own["norm_2"], y))
    x = _normed(params["norm"], x)
    pooled = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], axis=-1)
    return {head: dense(own, pooled) for head, own in params["heads"].items()}


def _normed(params: Params, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return jax.nn.relu(group_norm(params, x, groups=_GROUPS, eps=_EPS))


def _blocks(x: Float[Array, "b y x c"]) -> Float[Array, "b h w d"]:
    b, height, width, c = x.shape
    x = x.reshape(b, height // 2, 2, width // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height // 2, width // 2, 4 * c)


@jax.jit
def _probabilities(params: Params, pixels: UInt8[Array, "b 32 32 3"]):
    by_head = logits(params, to_float(pixels))
    return jax.tree.map(lambda x: jax.nn.softmax(x, axis=-1), by_head)
