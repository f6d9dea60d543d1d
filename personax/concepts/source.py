"""What a user writes to name a concept: "[<NAME>=]PATH[@STRENGTH]"."""

import math
import pathlib
import re
from typing import NamedTuple

from personax.core.files import expand

_STRENGTH = re.compile(r"(.+)@([+-]?(?:\d+\.?\d*|\.\d+))", re.DOTALL)


class Source(NamedTuple):
    """A concept's folder or an adapter's file, another placeholder, a strength."""

    path: pathlib.Path
    placeholder: str = ""  # replaces the concept's own
    strength: float = 1.0

    def __str__(self) -> str:
        name = f"{self.placeholder}=" if self.placeholder else ""
        at = "" if self.strength == 1 else f"@{self.strength:g}"
        return f"{name}{self.path}{at}"


def parse_source(text: str) -> Source:
    """The source that "<v2>=PATH@0.7" names; the name and the strength are optional.

    A path that exists is taken as it is, with any "=" and "@" in it; a leading "~" is
    the home directory. Raises ValueError for a strength that is not a finite number.
    """
    if not text:
        raise ValueError("The path of a concept is empty.")
    if expand(text).exists():
        return Source(expand(text))
    match = _STRENGTH.fullmatch(text)
    rest, strength = (match[1], float(match[2])) if match else (text, 1.0)
    if not math.isfinite(strength):
        raise ValueError(f"{text!r}: the strength must be finite.")
    if expand(rest).exists():
        return Source(expand(rest), "", strength)
    name, equals, path = text.partition("=")
    if equals and expand(path).exists():
        return Source(expand(path), name)
    name, equals, path = rest.partition("=")
    found = expand(path if equals else rest)
    unread = None if found.exists() else re.fullmatch(r"(.+)@([^/@]*)", str(found))
    if unread and pathlib.Path(unread[1]).exists():
        raise ValueError(
            f"{text!r}: the strength {unread[2]!r} is not a number such as 0.7."
        )
    return Source(found, name if equals else "", strength)


def beside(path: pathlib.Path) -> list[pathlib.Path]:
    """The files next to an adapter's file that belong to it."""
    folder = path.parent
    if path.name.startswith("pytorch_custom_diffusion_weights."):
        names = sorted(folder.glob("<*>.*"))  # words
        return [each for each in names if each.suffix in (".safetensors", ".bin")]
    config = folder / "adapter_config.json"  # PEFT's
    is_peft = path.name == "adapter_model.safetensors" and config.is_file()
    return [config] if is_peft else []
