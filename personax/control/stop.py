"""StopFirst: no gradient through the first token's keys and values."""

from flax import struct
from jax import lax

from personax.core.typing import Keys, Text
from personax.networks.attention import Context, Edit, Site


@struct.dataclass
class DetachBOS:
    """Holds key and value of sequence position 0 constant at every cross-attention.

    Custom Diffusion, Kumari et al. 2023, appendix E. The paper says that the start
    token's *embedding* is detached; the frozen causal encoder makes that stop nothing,
    so the released code detaches its keys and values, as is done here. Forward values
    do not change.
    """

    def __call__(self, site: Site, context: Context) -> Edit:
        return Edit(kv=_stop_first) if site.kind == "cross" else Edit()


def _stop_first(k: Keys, v: Keys, text: Text) -> tuple[Keys, Keys]:
    def stop(x: Keys) -> Keys:
        return x.at[:, :1].set(lax.stop_gradient(x[:, :1]))

    return stop(k), stop(v)
