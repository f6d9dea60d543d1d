"""How much attention a word gets where its object is, while pictures are drawn."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from experiments.claims.watching import make_watch
from personax.concepts.bind import Model
from personax.diffusion import attention_maps
from personax.loading import Base

See = Callable[[Model, str, str], Float[Array, "b y x"]]


def make_see(base: Base, *, images: int, steps: int, guidance: float, seed: int) -> See:
    """`(model, prompt, word) -> the word's maps`, of the same seeds each time."""
    settings = {"solver": "ddim", "steps": steps, "guidance": guidance}
    watch = make_watch(base, ConfigDict(settings), images)

    def see(model: Model, prompt: str, word: str) -> Float[Array, "b y x"]:
        return jnp.asarray(watch(model, prompt, [word], seed).maps[0])

    return see


def strength(
    maps: Sequence[Float[Array, "b y x"]], regions: Sequence[Bool[Array, "b y x"]]
) -> float:
    """The word's mean probability inside its regions, over prompts and pictures."""
    each = [attention_maps.strength(x, y) for x, y in zip(maps, regions, strict=True)]
    return round(float(np.mean(each)), 4)
