"""Small bases on disk whose numbers are as large as trained ones, and a concept."""

import json

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from personax.loading import load_base
from personax.methods import Concept
from tests.loading.make import FILES, state, write_pipeline
from tests.untrained import save_untrained


def write_small(folder, seed=0, *, smallest=False):
    """A small base of four latent channels; a network of these numbers stays finite."""
    write_pipeline(folder, seed, smallest=smallest)
    for part in ("unet", "vae"):
        # Cross-attention stays as large as it is, so that the prompt is heard.
        small = {
            path: leaf if "attn2" in path else 0.2 * leaf
            for path, leaf in state(part, seed, smallest=smallest).items()
        }
        save_file(small, folder / part / FILES[part])
    return folder


def write_smaller(folder, seed=0, *, smallest=False):
    """The same for pictures of 16 x 16, which a step of training sees in no time."""
    config = write_small(folder, seed, smallest=smallest) / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 8}))
    return folder


def write_inpainting(folder, seed=0, *, smallest=False):
    """The same as an inpainting base, whose UNet has 9 input channels."""
    unet = write_smaller(folder, seed, smallest=smallest) / "unet"
    weights = load_file(unet / FILES["unet"])
    conv_in = weights["conv_in.weight"]
    extra = np.random.default_rng(seed).normal(size=(len(conv_in), 5, 3, 3))
    extra[:, 1:] *= 50  # the latents of this autoencoder are a twentieth of the noise
    weights["conv_in.weight"] = np.concatenate(
        [conv_in, 0.2 * extra.astype(np.float32)], axis=1
    )
    save_file(weights, unet / FILES["unet"])
    config = json.loads((unet / "config.json").read_text())
    (unet / "config.json").write_text(json.dumps(config | {"in_channels": 9}))
    return folder


def write_concept(folder, base):
    """A concept on the base in the folder `base`, as if it had been trained."""
    face = Concept("", "face", (), (), "face")

    def moved(theta):
        return jax.tree.map(lambda leaf: leaf + 0.1, theta)

    save_untrained(folder, load_base(base), face, "custom_diffusion", moved)
    return folder
