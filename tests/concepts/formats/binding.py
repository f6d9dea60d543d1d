"""Bind adapters' files, and save a concept on top of one."""

import pytest

from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts


def bind(base, *sources):
    return with_concepts(from_base(base), base, [str(source) for source in sources])


def refusal(base, *sources):
    """The one line that refuses the sources."""
    with pytest.raises(ValueError, match=r"\S") as error:
        bind(base, *sources)
    (line,) = str(error.value).splitlines()
    return line


def save_on_top(folder, base, path):
    """A concept without words or weights of its own, trained on top of an adapter."""
    artifact.save(
        folder,
        {},
        [],
        method="textual_inversion",
        method_args={},
        base=base.name,
        fingerprint=base.fingerprint,
        before=[path],
    )
