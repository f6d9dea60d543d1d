"""Personalised text-to-image diffusion in JAX.

    import personax
    model = personax.load("emoji").with_concepts("runs/cat/concept")
    pictures = model.sample("a photo of a <v1> cat", seed=0)

`personax.train(config, workdir)` trains a concept.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personax.sampling.model import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing personax imports neither JAX nor any module of the library.
    if name == "load":
        return importlib.import_module("personax.sampling.model").load
    if name == "train":
        return importlib.import_module("personax.train")
    raise AttributeError(f"module 'personax' has no attribute {name!r}")
