"""z0 and eps of the network's output, at the rates of a row.

The row's rates are x's own. Those at the row's time are others where Karras sigmas lie
between training times.
"""

import jax.numpy as jnp

from personax.core.typing import Latents
from personax.diffusion.solvers.grid import Grid


def predict_z0(x: Latents, output: Latents, row: Grid) -> Latents:
    """The predicted z0, clipped to the row's range."""
    if row.prediction == "v_prediction":  # Appendix D, Salimans and Ho 2022
        z0 = row.signal * x - row.noise * output
    elif row.prediction == "sample":
        z0 = output
    else:
        z0 = (x - row.noise * output) / row.signal
    return jnp.clip(z0, -row.clip, row.clip)


def predict_eps(x: Latents, output: Latents, row: Grid) -> Latents:
    """The predicted eps, which is not clipped."""
    if row.prediction == "v_prediction":
        return row.signal * output + row.noise * x
    if row.prediction == "sample":
        return (x - row.signal * output) / row.noise
    return output
