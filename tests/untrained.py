"""Concepts on the embedded base without any training."""

import jax

from personax import methods
from personax.concepts import artifact
from personax.methods import Concept


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


def save_dog(folder, emoji):
    """LoRA's "<v1> dog", another name for a rare word; `folder`."""
    dog = Concept("<v1>", "dog", (5,), (5,), "<v1> dog")
    save_untrained(folder, emoji, dog, "lora")
    return folder
