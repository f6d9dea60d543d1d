"""LyCORIS and PEFT beyond LoRA: LoHa, LoKr, (IA)^3, OFT, plain differences, DoRA.

The formulas are those that ComfyUI applies, with three exceptions where it departs from
the programs that train: DoRA's norm is that of the changed weight, OFT's constraint is
alpha times the outputs, and OFT's `rescale` is applied. LyCORIS's own merge of a LoHa
applies alpha / r twice.
"""

import numpy as np

from personax.concepts.formats.adapter import Change, Weight
from personax.concepts.formats.lora import (
    Context,
    Leaves,
    added,
    as_float,
    constant,
    scalar,
    take_scale,
)


def loha(leaves: Leaves, context: Context) -> Change | None:
    """W + (alpha / r) (w1_a w1_b) * (w2_a w2_b), Hyeon-Woo et al. 2021.

    With t1 and t2 "r r h w" each product is Tucker's, of a convolution.
    """
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    if not any(name in leaves for name in names):
        return None
    w1_a, w1_b, w2_a, w2_b = _take(leaves, *names)
    t1, t2 = (leaves.pop(name, None) for name in ("hada_t1", "hada_t2"))
    factor = take_scale(leaves, context, w1_b.shape[0])

    def delta() -> Weight:
        return factor * (_product(w1_a, w1_b, t1) * _product(w2_a, w2_b, t2))

    return added(delta)


def lokr(leaves: Leaves, context: Context) -> Change | None:
    """W + kron(w1, w2), times alpha / r if one of the two is a product of rank r.

    Each is stored whole or as w_a w_b, w2 of a convolution also as Tucker's product.
    PEFT scales in all cases.
    """
    if not any(name.startswith("lokr_") for name in leaves):
        return None
    w1, rank_1 = _whole_or_product(leaves, "lokr_w1")
    w2, rank_2 = _whole_or_product(leaves, "lokr_w2", leaves.pop("lokr_t2", None))
    rank = rank_2 or rank_1
    factor = take_scale(leaves, context, rank or 1)
    if context.scale is None and not rank:
        factor = 1.0

    def delta() -> Weight:
        left = w1.reshape(*w1.shape, *[1] * (w2.ndim - 2))
        return factor * np.kron(left, w2)

    return added(delta)


def difference(leaves: Leaves, context: Context) -> Change | None:
    """W plus a `diff` of its shape, or a norm's `w_norm`."""
    for name in ("diff", "w_norm"):
        if name in leaves:
            leaves.pop("alpha", None)  # of no effect
            return constant(leaves.pop(name))
    return None


def bias_difference(leaves: Leaves, context: Context) -> Change | None:
    """A bias plus `diff_b`, or a norm's `b_norm`; times PEFT's (IA)^3 on outputs."""
    for name in ("diff_b", "b_norm"):
        if name in leaves:
            return constant(leaves.pop(name))
    if "ia3_l" in leaves and not _on_input(leaves["ia3_l"], context):
        factors = as_float(leaves["ia3_l"]).reshape(-1)  # the kernel's is taken later
        return lambda b: b * factors.reshape(b.shape)
    return None


def ia3(leaves: Leaves, context: Context) -> Change | None:
    """W (1 + w) of LyCORIS or W l of PEFT, by output or by input; Liu et al. 2022.

    LyCORIS says which in `on_input`, PEFT by the shape, or for a convolution by the
    config's feedforward_modules.
    """
    if "ia3_l" in leaves:
        on_input = _on_input(leaves["ia3_l"], context)
        factors = as_float(leaves.pop("ia3_l")).reshape(-1)
    elif {"weight", "on_input"} <= leaves.keys():
        on_input = bool(scalar(leaves.pop("on_input")))
        factors = 1 + as_float(leaves.pop("weight")).reshape(-1)
    else:
        return None

    def change(W: Weight) -> Weight:
        shape = [1] * W.ndim
        shape[1 if on_input else 0] = -1
        return W * factors.reshape(shape)

    return change


def diag_oft(leaves: Leaves, context: Context) -> Change | None:
    """R' W of kohya's and LyCORIS's OFT: R is block-diagonal, on the outputs.

    R = (I + Q) (I - Q)^-1 with Q = X - X', whose norm is limited to alpha times the
    number of outputs where alpha is above 0. LyCORIS may add a factor for each output,
    `rescale`.
    """
    if "oft_blocks" not in leaves:
        return None
    X = as_float(leaves.pop("oft_blocks"))
    if X.ndim != 3 or X.shape[1] != X.shape[2]:
        raise ValueError(f"its oft_blocks have shape {X.shape}; BOFT is not read.")
    rescale = leaves.pop("rescale", None)
    alpha = leaves.pop("alpha", None)
    limit = 0.0 if alpha is None else scalar(alpha) * X.shape[0] * X.shape[1]
    Q = X - X.swapaxes(1, 2)
    norm = np.linalg.norm(Q) + 1e-8
    if 0 < limit < norm:
        Q = Q * (limit / norm)
    R = _cayley(Q)

    def change(W: Weight) -> Weight:
        blocks = W.reshape(len(R), R.shape[1], -1)
        turned = np.einsum("knm,knx->kmx", R, blocks).reshape(W.shape)
        if rescale is None:
            return turned
        return turned * as_float(rescale).reshape(-1, *[1] * (W.ndim - 1))

    return change


def peft_oft(leaves: Leaves, context: Context) -> Change | None:
    """W R' of PEFT's OFT: R is block-diagonal, on the inputs; one block may be shared.

    Q is skew with the stored entries above its diagonal. R is (I - Q) (I + Q)^-1, or by
    default the first terms of a Neumann series of (I + Q) (I - Q)^-1, as PEFT has it.
    This is PEFT's merged weight; of a 3x3 convolution it predicts otherwise unmerged,
    where the turned patches of the input overlap.
    """
    if "oft_R" not in leaves:
        return None
    config = context.config or {}
    if config.get("coft"):
        raise ValueError("its config has coft, which is not read.")
    upper = as_float(leaves.pop("oft_R"))
    side = round((1 + (1 + 8 * upper.shape[-1]) ** 0.5) / 2)
    if upper.ndim != 2 or side * (side - 1) // 2 != upper.shape[1]:
        raise ValueError(f"its oft_R has shape {upper.shape}, no triangle's.")
    Q = np.zeros((len(upper), side, side), np.float32)
    Q[:, *np.triu_indices(side, 1)] = upper
    Q = Q - Q.swapaxes(1, 2)
    if config.get("use_cayley_neumann", True):
        R = _neumann(Q, config.get("num_cayley_neumann_terms", 5))
    else:
        R = _cayley(-Q)

    def change(W: Weight) -> Weight:
        flat = W.reshape(len(W), -1)
        count = flat.shape[1] // side
        if len(R) not in (1, count) or count * side != flat.shape[1]:
            raise ValueError(f"{len(R)} blocks of {side} for {flat.shape[1]} inputs.")
        blocks = np.broadcast_to(R, (count, side, side))
        inputs = flat.reshape(len(W), count, side)
        return np.einsum("kij,okj->oki", blocks, inputs).reshape(W.shape)

    return change


def dora(change: Change, leaves: Leaves) -> Change:
    """`change` with the lengths of the weight's rows (or columns) replaced.

    m W' / |W'|, Liu et al. 2024, where `dora_scale` "o 1" or "1 i", or PEFT's
    magnitudes "o", is m and |W'| the length of each output's or input's vector.
    Returns `change` itself for a module without m.
    """
    if "magnitude" in leaves:
        m, on_output = as_float(leaves.pop("magnitude")).reshape(-1), True
    elif "dora_scale" in leaves:
        m = as_float(leaves.pop("dora_scale"))
        on_output = m.ndim < 2 or m.shape[0] > 1 or m.size == 1
        m = m.reshape(-1)
    else:
        return change

    def decomposed(W: Weight) -> Weight:
        new = change(W)
        axis = 0 if on_output else 1
        others = tuple(i for i in range(new.ndim) if i != axis)
        norm = np.sqrt(np.square(new).sum(axis=others, keepdims=True))
        norm = norm + np.finfo(np.float32).eps
        return new * (m.reshape(norm.shape) / norm)

    return decomposed


def _take(leaves: Leaves, *names: str) -> list[Weight]:
    absent = [name for name in names if name not in leaves]
    if absent:
        raise ValueError(f"it lacks {', '.join(absent)}.")
    return [as_float(leaves.pop(name)) for name in names]


def _product(a: Weight, b: Weight, core: Weight | None) -> Weight:
    """a b, or Tucker's product of a convolution; a "r o" and b "r i" then."""
    if core is None:
        return a @ b.reshape(len(b), -1)
    return np.einsum("ijhw,jr,ip->prhw", as_float(core), b, a, optimize=True)


def _whole_or_product(
    leaves: Leaves, name: str, core: Weight | None = None
) -> tuple[Weight, int]:
    """(a factor of a Kronecker product, its rank or 0 where it is stored whole)."""
    if name in leaves:
        return as_float(leaves.pop(name)), 0
    a, b = _take(leaves, f"{name}_a", f"{name}_b")
    return _product(a, b, core), b.shape[0]


def _on_input(factors: Weight, context: Context) -> bool:
    """Whether PEFT's (IA)^3 scales a module's inputs."""
    if factors.ndim == 2:
        return factors.shape[0] == 1
    named = (context.config or {}).get("feedforward_modules") or []
    if isinstance(named, str):
        raise ValueError("its feedforward_modules is a pattern; a list is read.")
    return any(context.name.endswith(module) for module in named)


def _cayley(Q: Weight) -> Weight:
    I = np.eye(Q.shape[-1], dtype=np.float64)  # noqa: E741
    R = np.linalg.solve((I - Q).swapaxes(1, 2), (I + Q).swapaxes(1, 2))
    return R.swapaxes(1, 2).astype(np.float32)


def _neumann(Q: Weight, terms: int) -> Weight:
    """I + 2 Q + 2 Q^2 + … + Q^(n-1), the last power once, as PEFT truncates."""
    R = np.broadcast_to(np.eye(Q.shape[-1], dtype=np.float32), Q.shape).copy()
    if terms > 1:
        R += 2 * Q
    if terms > 2:
        power = Q @ Q
        R += 2 * power
        for _ in range(3, terms - 1):
            power = power @ Q
            R += 2 * power
        R += power @ Q
    return R
