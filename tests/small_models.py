"""Small bases on disk whose numbers are as large as trained ones, and a concept."""

import json

import jax
from safetensors.numpy import save_file

from personax.loading import load_base
from personax.methods import Concept
from tests.loading.make import FILES, state, write_pipeline
from tests.untrained import save_untrained


def write_small(folder, seed=0):
    """A small base of four latent channels; a network of these numbers stays finite."""
    write_pipeline(folder, seed)
    for part in ("unet", "vae"):
        # Cross-attention stays as large as it is, so that the prompt is heard.
        small = {
            path: leaf if "attn2" in path else 0.2 * leaf
            for path, leaf in state(part, seed).items()
        }
        save_file(small, folder / part / FILES[part])
    return folder


def write_smaller(folder, seed=0):
    """The same for pictures of 16 x 16, which a step of training sees in no time."""
    config = write_small(folder, seed) / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 8}))
    return folder


def write_concept(folder, base):
    """A concept on the base in the folder `base`, as if it had been trained."""
    face = Concept("", "face", (), (), "face")

    def moved(theta):
        return jax.tree.map(lambda leaf: leaf + 0.1, theta)

    save_untrained(folder, load_base(base), face, "custom_diffusion", moved)
    return folder
