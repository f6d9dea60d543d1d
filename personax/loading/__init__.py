"""Load published weights, from disk or the Hub, as parameters on device."""

from personax.loading.base import Base, load_base
from personax.loading.clip import Clip, load_clip
from personax.loading.controlnet import ControlNet, load_controlnet
from personax.loading.files import EMBEDDED, embedded

__all__ = [
    "EMBEDDED",
    "Base",
    "Clip",
    "ControlNet",
    "embedded",
    "load_base",
    "load_clip",
    "load_controlnet",
]
