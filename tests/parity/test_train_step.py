"""One optimisation step against torch, written as diffusers' training scripts write it.

Same weights, latents, noise, times and captions, AdamW with weight decay 0.01, float32.
Compared are the loss, the gradients and the updated parameters, tensor by tensor and in
their 2-norm: |ours - torch's| over |torch's|. AdamW's first step is near lr sign(g), so
it blows up the rounding of gradients near 0: gradients are compared on their own, and
the update itself, after - before, to a tolerance of its own.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from personax import methods
from personax.core.tree import flat
from personax.diffusion.denoiser import Denoiser
from personax.methods import Concept
from personax.methods.losses import Batch, draws, with_masks
from personax.networks.clip_text import init_clip_text
from personax.networks.unet import init_unet
from personax.networks.vae import Posterior
from personax.training.config import OptimizerConfig
from personax.training.optimizer import make_optimizer
from personax.training.state import create
from personax.training.step import make_step
from tests.parity.from_torch import from_torch
from tests.small_configs import BETAS

TOLERANCE = 1e-4  # of the loss, of each parameter, and of each gradient
UPDATE_TOLERANCE = 1e-2  # of each parameter's change
FLOOR = 1e-4  # of the whole gradient's norm: below it a tensor's gradient is rounding
RATE, DECAY, LAMBDA, STEP = 1e-3, 1e-2, 0.5, 5
CLIP = 0.02  # not the scripts' 1: gradients of so small a model are below it

NEW, BOS, EOS, SHARE = 64, 62, 63, 2.0
TWO_WORDS = [
    Concept("<v1>", "dog", (NEW,), (7,), "<v1> dog"),
    Concept("<v2>", "hat", (NEW + 1,), (9,), "<v2> hat"),
]
TWO_VECTORS = [Concept("<v1>", "dog", (NEW, NEW + 1), (7, 9), "<v1> dog")]


class Torch(NamedTuple):
    """Both networks, and the parameters that the script hands to its optimiser."""

    unet: torch.nn.Module
    encoder: torch.nn.Module
    trained: list[torch.nn.Parameter]


class Case(NamedTuple):
    """A method and its arguments, and the script that computes the same."""

    method: str
    arguments: dict[str, Any]
    prepare: Callable[[torch.nn.Module, torch.nn.Module], Torch]
    loss: Callable[[Torch, "Examples"], torch.Tensor]
    concepts: Sequence[Concept] = ()
    prior: bool = False
    masked: bool = False
    clip: float = CLIP
    inpaints: bool = False


class Examples(NamedTuple):
    """A batch in torch, with what chance decided about it."""

    x0: torch.Tensor
    eps: torch.Tensor
    t: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor | None
    pairs: torch.Tensor
    extra: torch.Tensor | None  # the mask and the masked pictures' latents


def custom_diffusion(unet, encoder) -> Torch:
    """train_custom_diffusion.py, `--freeze_model crossattn_kv`."""
    _, encoder, (table,) = textual_inversion(unet, encoder)
    kernels = []
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            # Without layers of its own: it detaches the first token's key and value.
            module.set_processor(CustomDiffusionAttnProcessor(False, False))
            kernels += [module.to_k.weight, module.to_v.weight]
    for kernel in kernels:
        kernel.requires_grad_(True)
    return Torch(unet, encoder, [table, *kernels])


def textual_inversion(unet, encoder) -> Torch:
    """textual_inversion.py: the whole table, of which the new rows count."""
    unet.requires_grad_(False)
    encoder.requires_grad_(False)
    encoder.resize_token_embeddings(NEW + 2, mean_resizing=False)
    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        table[NEW:] = table[[7, 9]]
    return Torch(unet, encoder, [table.requires_grad_(True)])


def dreambooth(unet, encoder) -> Torch:
    """train_dreambooth.py `--train_text_encoder`."""
    return Torch(unet, encoder, [*unet.parameters(), *encoder.parameters()])


class LowRank(torch.nn.Module):
    """W + share A B in place of W, without peft; Hu et al. 2021, eq. 3."""

    def __init__(self, outputs: int, inputs: int, rank: int):
        super().__init__()
        self.lora_A = torch.nn.Parameter(torch.zeros(inputs, rank))
        self.lora_B = torch.nn.Parameter(torch.zeros(rank, outputs))

    def forward(self, weight):
        return weight + SHARE * (self.lora_A @ self.lora_B).T


def lora(unet, encoder) -> Torch:
    """train_dreambooth_lora.py; the test fills in A and B."""
    unet.requires_grad_(False)
    encoder.requires_grad_(False)
    trained = []
    for name, module in list(unet.named_modules()):
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
            update = LowRank(*module.weight.shape, rank=2)
            parametrize.register_parametrization(module, "weight", update)
            trained += update.parameters()
    return Torch(unet, encoder, trained)


def predict(side: Torch, data: Examples) -> torch.Tensor:
    scheduler = DDPMScheduler(**BETAS)
    noisy = scheduler.add_noise(data.x0, data.eps, data.t)
    if data.extra is not None:  # as train_dreambooth_inpaint.py concatenates
        noisy = torch.cat([noisy, data.extra], dim=1)
    text = side.encoder(data.ids).last_hidden_state
    return side.unet(noisy, data.t, text).sample


def plain(side: Torch, data: Examples) -> torch.Tensor:
    return F.mse_loss(predict(side, data), data.eps)


def with_prior(side: Torch, data: Examples) -> torch.Tensor:
    predicted, prior = predict(side, data).chunk(2)
    target, prior_target = data.eps.chunk(2)
    return F.mse_loss(predicted, target) + LAMBDA * F.mse_loss(prior, prior_target)


def masked_with_prior(side: Torch, data: Examples) -> torch.Tensor:
    """The script's, over the latents' 4 channels: our mask_norm="mean"."""
    predicted, prior = predict(side, data).chunk(2)
    target, prior_target = data.eps.chunk(2)
    loss = _masked(predicted, target, data.mask[:2]) / 4
    return loss + LAMBDA * F.mse_loss(prior, prior_target)


def class_diffusion(side: Torch, data: Examples) -> torch.Tensor:
    """The release's masked loss; eq. 10 at the end of the text, as the paper has it."""

    def feature(ids):
        states = side.encoder(ids).last_hidden_state
        return states[torch.arange(len(ids)), (ids == EOS).int().argmax(1)]

    words = feature(data.pairs[:, 0]), feature(data.pairs[:, 1]).detach()
    semantic = (1 - F.cosine_similarity(*words)).mean()
    return _masked(predict(side, data), data.eps, data.mask) + semantic


def _masked(predicted, target, mask):
    squares = F.mse_loss(predicted, target, reduction="none")
    return ((squares * mask).sum([1, 2, 3]) / mask.sum([1, 2, 3])).mean()


CASES = {
    "custom diffusion": Case(
        "custom_diffusion",
        {},
        custom_diffusion,
        masked_with_prior,
        TWO_WORDS,
        prior=True,
        masked=True,
    ),
    "class diffusion": Case(
        "class_diffusion",
        {"mask_norm": "sum_over_mask"},
        custom_diffusion,
        class_diffusion,
        TWO_WORDS,
        masked=True,
    ),
    "dreambooth": Case(
        "dreambooth", {"text_encoder": True}, dreambooth, with_prior, prior=True
    ),
    "textual inversion": Case(
        "textual_inversion", {}, textual_inversion, plain, TWO_VECTORS, clip=0.0
    ),
    "lora": Case("lora", {"rank": 2, "alpha": 2 * SHARE}, lora, plain),
}


INPAINTING = Case(
    "dreambooth",
    {"text_encoder": True},
    dreambooth,
    with_prior,
    prior=True,
    inpaints=True,
)


@pytest.fixture(scope="module")
def pair(tiny_spec):
    """See `make_pair`."""
    return make_pair(tiny_spec)


@pytest.fixture(scope="module")
def inpainting_pair(tiny_spec):
    """The same with a UNet of nine input channels."""
    unet = dataclasses.replace(tiny_spec.unet, in_channels=9)
    return make_pair(dataclasses.replace(tiny_spec, unet=unet))


def make_pair(tiny_spec):
    """(torch's UNet, its text encoder, the denoiser of their weights)."""
    torch.manual_seed(0)
    text = dataclasses.replace(tiny_spec.text_encoder, num_hidden_layers=1)
    spec = dataclasses.replace(tiny_spec, text_encoder=text)
    networks = (
        UNet2DConditionModel(**dataclasses.asdict(spec.unet)),
        transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**dataclasses.asdict(text))
        ),
    )
    for parameter in (p for network in networks for p in network.parameters()):
        # Biases start as 0 and norms as the identity.
        parameter.data += 0.05 * torch.randn_like(parameter)
    return *networks, Denoiser(_params(spec, *networks), spec=spec)


def _params(spec, unet, encoder):
    def template(init, config):
        return jax.eval_shape(lambda: init(jax.random.key(0), config))

    return {
        "unet": from_torch(unet, template(init_unet, spec.unet)),
        "text_encoder": from_torch(
            encoder, template(init_clip_text, spec.text_encoder)
        ),
    }


def make_batch(case: Case) -> Batch:
    """Two examples of the concept and, with a prior, two of its class."""
    rng = np.random.default_rng(0)
    words = [i for concept in case.concepts for i in concept.ids] or [5, 6]
    ids = np.full((4, 12), EOS, np.int32)
    ids[:, 0] = BOS
    ids[:, 1:7] = rng.integers(10, 60, (4, 6))
    ids[:2, 2:4] = words
    pairs = np.stack([ids[:2], ids[:2]], axis=1)
    pairs[0, 0, 3], pairs[1, 0, 2] = 20, 21  # one placeholder in each
    pairs[:, 1, 2:4] = 20, 21
    mask = np.ones((4, 8, 8), np.float32)
    mask[0, :3], mask[1, :, 5:] = 0, 0
    mean = rng.standard_normal((4, 8, 8, 4), np.float32)
    logvar = rng.standard_normal((4, 8, 8, 4), np.float32) - 2
    rows = 4 if case.prior else 2
    inpaints = {}
    if case.inpaints:
        repaint = rng.integers(0, 2, (rows, 8, 8)).astype(np.float32)
        masked = rng.standard_normal((2, rows, 8, 8, 4), np.float32)
        masked = Posterior(jnp.asarray(5 * masked[0]), jnp.asarray(masked[1] + 1))
        inpaints = {"repaint": jnp.asarray(repaint), "masked": masked}
    return Batch(
        Posterior(jnp.asarray(mean[:rows]), jnp.asarray(logvar[:rows])),
        jnp.asarray(ids[:rows]),
        # Each half's mean is taken on its own, of a mean over both.
        weight=jnp.asarray([2, 2, 2 * LAMBDA, 2 * LAMBDA]) if case.prior else None,
        mask=jnp.asarray(mask[:rows]) if case.masked else None,
        pairs=jnp.asarray(pairs) if case.method == "class_diffusion" else None,
        **inpaints,
    )


def to_torch(batch: Batch, base: Denoiser, keys) -> Examples:
    """What the step of these keys draws for the batch, channels first."""
    drawn = draws(base.spec, batch.posterior, keys)
    x0, eps = (np.moveaxis(np.array(x), -1, 1) for x in (drawn.x0, drawn.eps))
    mask = None if batch.mask is None else np.array(batch.mask)[:, None]
    extra = with_masks(base, batch, keys).extra
    if extra is not None:  # the mask first, then latents of their own noise
        extra = np.moveaxis(np.array(extra), -1, 1)
        np.testing.assert_array_equal(extra[:, 0], batch.repaint)
        scale = base.spec.vae.scaling_factor
        masked = (np.moveaxis(x, -1, 1) for x in map(np.array, batch.masked))
        mean, logvar = masked
        noise = (extra[:, 1:] / scale - mean) / np.exp(logvar / 2)
        assert abs(noise.mean()) < 0.1
        assert abs(noise.std() - 1) < 0.1
    arrays = x0, eps, np.array(drawn.t), np.array(batch.ids), mask, batch.pairs, extra
    return Examples(
        *(None if x is None else torch.tensor(np.array(x)).contiguous() for x in arrays)
    )


def torch_name(path: str) -> tuple[str, str]:
    """(network, name in it) of the parameter at `path` of theta."""
    network, _, name = path.partition("/")[2].partition("/")
    name = name.replace("kernel/lora_", "parametrizations/weight/0/lora_")
    *module, leaf = name.removeprefix("text_model/").split("/")
    leaf = "weight" if leaf in ("kernel", "scale", "embedding") else leaf
    return network, ".".join([*module, leaf])


def as_theta(side: Torch, paths, read: Callable) -> dict[str, np.ndarray]:
    """{path: what `read` takes from the torch parameter there, laid out as ours}."""
    found = {}
    for path in paths:
        if path == "tokens/embedding":
            table = side.encoder.get_input_embeddings().weight
            found[path] = read(table)[NEW:].numpy()
            continue
        network, name = torch_name(path)
        module = {"unet": side.unet, "text_encoder": side.encoder}[network]
        module = getattr(module, "text_model", module)
        array = read(module.get_parameter(name)).numpy()
        if path.endswith("kernel"):
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        found[path] = array
    return found


def torch_step(side: Torch, loss: torch.Tensor, words: bool, clip: float):
    """One step as in the scripts; the gradients, as the optimiser saw them, remain."""
    optimizer = torch.optim.AdamW(side.trained, lr=RATE, weight_decay=DECAY)
    loss.backward()
    if words:  # the table's other rows do not train
        side.encoder.get_input_embeddings().weight.grad[:NEW] = 0
    if clip:
        norm = torch.nn.utils.clip_grad_norm_(side.trained, clip)
        assert norm > 2 * clip, "a clip that clips nothing tests nothing"
    optimizer.step()


def relative(ours, theirs, scale: float = 0.0) -> float:
    """|ours - theirs| over |theirs|, or over `scale` where that is larger."""
    distance = np.linalg.norm(np.ravel(ours - theirs))
    return distance / max(np.linalg.norm(np.ravel(theirs)), scale)


def norm(leaves: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(leaf).sum() for leaf in leaves.values())))


@pytest.mark.parametrize("name", CASES)
def test_one_step_equals_diffusers_script(name, pair):
    check_one_step(CASES[name], pair)


def test_one_step_of_an_inpainting_base_equals_diffusers_script(inpainting_pair):
    check_one_step(INPAINTING, inpainting_pair)


def check_one_step(case: Case, pair) -> None:
    *networks, base = pair
    side = case.prepare(*copy.deepcopy(networks))
    method = methods.make(case.method, **case.arguments)
    theta = methods.init(method, jax.random.key(1), base.params, case.concepts)
    if "lora" in theta:  # B starts at 0, where A has no gradient
        rng = np.random.default_rng(1)
        theta = jax.tree.map(
            lambda x: jnp.asarray(0.1 * rng.standard_normal(x.shape, np.float32)), theta
        )
        for path, leaf in flat(theta).items():
            _, parameter = torch_name(path)
            side.unet.get_parameter(parameter).data = torch.tensor(np.array(leaf))
    start = {path: np.array(leaf) for path, leaf in flat(theta).items()}
    for path, leaf in as_theta(side, start, torch.Tensor.detach).items():
        np.testing.assert_array_equal(start[path], leaf, err_msg=path)

    batch = make_batch(case)
    tx = make_optimizer(
        optax.constant_schedule(RATE),
        theta,
        OptimizerConfig(clip=case.clip, weight_decay=DECAY),
    )
    state = create(theta, tx.init(theta), jax.random.key(2))
    state = state.replace(step=jnp.asarray(STEP, jnp.int32))
    keys = jax.random.split(jax.random.fold_in(state.key, STEP), len(batch.ids))
    data = to_torch(batch, base, keys)
    loss = case.loss(side, data)
    torch_step(side, loss, bool(case.concepts), case.clip)

    state, metrics = make_step(method, tx)(state, base, batch)
    assert relative(metrics["loss"], loss.item()) <= TOLERANCE
    # The first moment after one step is a tenth of the gradient, clipped.
    gradients = flat(optax.tree.get(state.opt, "mu"))
    expected = as_theta(side, start, lambda parameter: parameter.grad)
    least = FLOOR * norm(expected)
    after = as_theta(side, start, torch.Tensor.detach)
    for path, leaf in flat(state.theta).items():
        error = relative(10 * gradients[path], expected[path], least)
        assert error <= TOLERANCE, path
        # A gradient that is 0 but for rounding, as a key bias's is, has no sign.
        if np.linalg.norm(expected[path]) > least:
            assert relative(leaf, after[path]) <= TOLERANCE, path
            moved = after[path] - start[path]
            assert relative(leaf - start[path], moved) <= UPDATE_TOLERANCE, path
