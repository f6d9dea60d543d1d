"""DetachBOS: no gradient through the first token's keys and values."""

from flax import struct
from jax import lax

from personax.core.typing import Keys, Text
from personax.networks.attention import Context, Edit, Site


@struct.dataclass
class DetachBOS:
    """Detaches key and value of the start token at every cross-attention.

    Custom Diffusion, Kumari et al. 2023, appendix E. The paper detaches the start
    token's *embedding*, which has no effect under the frozen causal encoder; as in the
    released code, its keys and values are detached instead. Forward values do not
    change.
    """

    def __call__(self, site: Site, context: Context) -> Edit:
        return Edit(kv=_detach_first) if site.kind == "cross" else Edit()


def _detach_first(k: Keys, v: Keys, text: Text) -> tuple[Keys, Keys]:
    def detach(x: Keys) -> Keys:
        return x.at[:, :1].set(lax.stop_gradient(x[:, :1]))

    return detach(k), detach(v)
