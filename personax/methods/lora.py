"""DreamBooth with low-rank updates (Hu et al. 2021)."""

from collections.abc import Sequence

from personax.methods import losses
from personax.methods.arguments import Positive, Size
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import lora as low_rank
from personax.methods.parts.weights import weights

# Patterns of the kernels of each kind; counts are SD 1.5's.
TARGETS = {
    "attention": r"unet/.*/attn[12]/to_(q|k|v|out/0)/kernel",  # 128
    "feed_forward": r"unet/.*/ff/net/(0/proj|2)/kernel",  # 32
    "convolutions": r"unet/.*(conv\w*|proj_in|proj_out)/kernel",
    "text_encoder": r"text_encoder/.*/self_attn/(q|k|v|out)_proj/kernel",  # 48
}


@forwards(losses.denoising)
def lora(
    *,
    rank: Size = 4,
    alpha: Positive | None = None,
    targets: Sequence[str] = ("attention",),
    words: bool = False,
    **denoising,
) -> Method:
    """W + (alpha / rank) A B on the kernels of the `targets`; alpha = rank by default.

    `targets` are keys of `TARGETS`. Rank 4 on every attention layer of SD 1.5 has
    797,184 parameters, as diffusers' example. `words` adds a trained token; `denoising`
    are the options of `losses.denoising`.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise ValueError(
            f"Unknown targets {tuple(targets)!r}; expected some of "
            f"{', '.join(TARGETS)}."
        )
    pattern = "|".join(TARGETS[target] for target in targets)
    parts = {"lora": weights(pattern, low_rank(rank, alpha))}
    if words:
        parts["tokens"] = tokens()
    return Method(parts, losses.denoising(**denoising))
