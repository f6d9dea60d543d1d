"""Random parameters of any shapes, without compiling what would initialise them."""

import math

import jax.numpy as jnp
import numpy as np

from personax.core import tree


def random_params(shapes):
    """Arrays for a nested dict of shapes, of the size that networks start with.

    numpy and not init itself, whose compilation takes longer than most tests.
    """
    rng = np.random.default_rng(0)

    def draw(path, shape):
        values = rng.standard_normal(shape, np.float32)
        if path.endswith("scale"):
            return jnp.asarray(1 + 0.1 * values)
        width = math.prod(shape[:-1]) if path.endswith("kernel") else 100
        return jnp.asarray(values / math.sqrt(width))

    leaves = tree.flat(shapes).items()
    return tree.nest({path: draw(path, leaf.shape) for path, leaf in leaves})
