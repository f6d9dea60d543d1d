"""A concept at a strength: its linear changes, scaled."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.control.residual import Residual
from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.diffusion.denoiser import CONTROLNET, Denoiser
from personax.methods.parts.tokens import TABLE


def at_strength(
    plain: Denoiser, bound: Denoiser, strength: float, source: str
) -> Denoiser:
    """`bound` with its changes of `plain` at a strength; 1 is `bound` itself.

    A parameter becomes W + s (W' - W), and residual values are multiplied by s. The
    rows of new words are kept: an embedding has no weaker form. Raises ValueError where
    s has no meaning: gates, token conditioners, ControlNets, parameters that are
    missing, and words alone.
    """
    if strength == 1:
        return bound
    if CONTROLNET in bound.params and CONTROLNET not in plain.params:
        raise ValueError(
            f"{source}: a ControlNet's strength is set with --control-strength."
        )
    before, after = flat(plain.params), flat(bound.params)
    shared, own = bound.shared_controls, plain.shared_controls
    unscalable = (
        any(control is not own.get(name) for name, control in shared.items())
        or len(bound.token_conditioners) != len(plain.token_conditioners)
        or before.keys() != after.keys()
    )
    if unscalable:
        raise ValueError(
            f"{source}: a strength scales changes of weights and residual values; this "
            "concept's method has changes that cannot be scaled."
        )
    count = len(plain.controls)
    added = [_scaled(control, strength) for control in bound.controls[count:]]
    changed = any(
        after[path] is not leaf for path, leaf in before.items() if path != TABLE
    )
    if not changed and not any(isinstance(each, Residual) for each in added):
        raise ValueError(
            f"{source}: a strength scales changes of weights; this concept is a word "
            "alone. Weight its prompt instead, with --term."
        )
    params = _params(plain.params, bound.params, strength)
    reference = bound.reference
    if reference is not None and all(
        reference is not other for other in (plain, plain.reference)
    ):
        shared = _params(plain.params, reference.params, strength)
        reference = dataclasses.replace(reference, params=shared)
    return dataclasses.replace(
        bound,
        params=params,
        controls=(*bound.controls[:count], *added),
        reference=reference,
    )


def _scaled(control, strength: float):
    if not isinstance(control, Residual):
        return control  # which tokens or maps are used, not how much
    values, keys = (
        {site: strength * leaf for site, leaf in leaves.items()}
        for leaves in (control.values, control.keys)
    )
    return dataclasses.replace(control, values=values, keys=keys)


def _params(plain: Params, bound: Params, strength: float) -> Params:
    before, after, s = flat(plain), flat(bound), jnp.float32(strength)
    out = {}
    for path, leaf in after.items():
        old = before[path]
        if leaf is old:
            out[path] = leaf
        elif path == TABLE:
            n = old.shape[0]
            rows = _between(old, leaf[:n], s)
            out[path] = jnp.concatenate([rows, leaf[n:]])
        else:
            out[path] = _between(old, leaf, s)
    return nest(out)


@jax.jit
def _between(
    old: Float[Array, "..."], new: Float[Array, "..."], s: Float[Array, ""]
) -> Float[Array, "..."]:
    wide = old.astype(jnp.float32)
    return (wide + s * (new.astype(jnp.float32) - wide)).astype(old.dtype)
