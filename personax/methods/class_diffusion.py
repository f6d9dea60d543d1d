"""ClassDiffusion (Huang et al. 2024): Custom Diffusion with semantic preservation."""

from personax.methods import losses
from personax.methods.arguments import Weight
from personax.methods.custom_diffusion import custom_diffusion
from personax.methods.parts.base import Method, forwards


@forwards(custom_diffusion)
def class_diffusion(
    *,
    semantic_weight: Weight = 1.0,
    pool: str = "eos",
    keep_position: bool = True,
    reduce: str = "mean",
    prompt: str = "fixed",
    **custom,
) -> Method:
    """Custom Diffusion's parts, and its loss plus the semantic preservation loss.

    Eq. 1: L = L_recon + lambda L_sp, lambda = 1. The arguments are those of
    `losses.semantic_preservation`; the released code uses pool="modifier" and
    keep_position=False. `custom` are the arguments of `custom_diffusion`. The released
    code drops L_sp when a regularisation set is used; here it is kept.
    """
    parts, recon = custom_diffusion(**custom)
    semantic = losses.semantic_preservation(
        pool=pool, keep_position=keep_position, reduce=reduce, prompt=prompt
    )
    loss = losses.total(denoising=(1.0, recon), semantic=(semantic_weight, semantic))
    return Method(parts, loss)
