"""ClassDiffusion (Huang et al. 2024): Custom Diffusion that keeps its class's sense."""

from personax.methods import losses
from personax.methods.custom_diffusion import custom_diffusion
from personax.methods.parts.base import Method


def class_diffusion(
    *,
    semantic_weight: float = 1.0,
    pool: str = "eos",
    keep_position: bool = True,
    reduce: str = "mean",
    prompt: str = "fixed",
    **custom,
) -> Method:
    """Custom Diffusion's parts, and its loss plus the semantic preservation loss.

    Eq. 1: L = L_recon + lambda L_sp, lambda 1. The arguments are those of
    `losses.semantic_preservation`, of which the released code's are pool="modifier",
    keep_position=False; `custom` are those of `custom_diffusion`. The released code
    drops L_sp where there is a regularisation set; here it stays.
    """
    parts, recon = custom_diffusion(**custom)
    semantic = losses.semantic_preservation(
        pool=pool, keep_position=keep_position, reduce=reduce, prompt=prompt
    )
    loss = losses.total(denoising=(1.0, recon), semantic=(semantic_weight, semantic))
    return Method(parts, loss)
