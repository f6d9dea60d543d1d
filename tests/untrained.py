"""Concepts on the embedded base without any training."""

import jax

from personax import methods
from personax.concepts import artifact


def save_untrained(
    folder,
    emoji,
    concept,
    name,
    change=lambda theta: theta,
    *,
    prepared=None,
    **arguments,
):
    """Theta as the method starts it, or as `change` makes it, saved in `folder`."""
    method = methods.make(name, **arguments)
    theta = change(methods.init(method, jax.random.key(0), emoji.params, [concept]))
    artifact.save(
        folder,
        theta,
        [concept],
        method=name,
        method_args=arguments,
        base=emoji.name,
        fingerprint=emoji.fingerprint,
        prepared=prepared or {},
        step=0,
    )
    return theta
