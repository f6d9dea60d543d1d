"""The two implementations in benchmarks.train_step: personax and torch diffusers."""

import json
import pathlib
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

import personax

# jax and torch are imported by their own side alone, or the other library would count
# in its memory and its time to the first step.

LEARNING_RATE, WEIGHT_DECAY, CLIP = 1e-5, 1e-2, 1.0

# Per image at 512x512: the forward and backward pass of Stable Diffusion 1.5.
SD15_FLOPS = {
    "custom_diffusion": 1.669e12,
    "dreambooth": 2.407e12,
    "concept_centric": 2.313e12,
}
SD15_UNET = 859_520_964
# bfloat16, dense, per second.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}

Step = Callable[[], dict[str, float]]
About = Callable[[list[float]], dict[str, float]]
# `batch size -> (step, function of the seconds that returns its statistics)`
Side = Callable[[int], tuple[Step, About]]


class StepSettings(NamedTuple):
    """The command's flags that a side reads."""

    model: str
    method: str
    batches: tuple[int, ...]  # of images; both sides share the draws of the first
    size: int
    remat: str
    optimizer: str
    cache_text: bool
    param_dtype: str
    compile: bool
    exchange: str

    @property
    def folder(self) -> pathlib.Path:
        if self.model == "emoji":
            return pathlib.Path(personax.__file__).parent / "assets/emoji/pipeline"
        return pathlib.Path(self.model)

    @property
    def draws(self) -> pathlib.Path:
        return pathlib.Path(self.exchange) / "draws.npz"

    @property
    def frozen_text(self) -> bool:
        return self.method != "custom_diffusion" and self.cache_text


def examples(
    settings: StepSettings,
    b: int,
    side: int,
    channels: int,
    tokens: int,
    vocabulary: int,
) -> dict[str, Any]:
    """Cached latents (channels last), captions and masks, equal on both sides."""
    rng = np.random.default_rng(0)
    words = settings.method == "custom_diffusion"
    ids = rng.integers(3, 1000, (b, tokens)).astype(np.int32)
    ids[:, 4] = vocabulary if words else 7
    mask = np.ones((b, side, side), np.float32)
    mask[:, : side // 4] = 0
    return {
        "mean": 5 * rng.standard_normal((b, side, side, channels), np.float32),
        "logvar": np.full((b, side, side, channels), -10, np.float32),
        "ids": ids,
        "mask": mask if words else None,
    }


def personax_side(settings: StepSettings) -> Side:
    """personax's steps; all batch sizes compile concurrently and train one state."""
    import jax
    import jax.numpy as jnp
    import optax

    from personax import methods
    from personax.concepts.bind import from_base
    from personax.core.tree import count
    from personax.diffusion.denoiser import encode
    from personax.loading import load_base
    from personax.methods.losses import Batch, draws
    from personax.networks.compute import Compute
    from personax.networks.vae import Posterior
    from personax.training.config import OptimizerConfig
    from personax.training.optimizer import make_optimizer
    from personax.training.state import create
    from personax.training.step import make_step

    gpu = jax.default_backend() == "gpu"
    compute = Compute("bfloat16" if gpu else "float32", settings.remat)
    base = load_base(settings.folder, param_dtype=settings.param_dtype)
    denoiser = from_base(base, compute).denoiser
    del base  # frees the autoencoder
    spec = denoiser.spec
    height, width = (settings.size, settings.size) if settings.size else spec.size
    side, _, channels = spec.latent_shape(height, width)
    text = spec.text_encoder

    def batch_of(b: int) -> Batch:
        x = examples(
            settings, b, side, channels, text.max_position_embeddings, text.vocab_size
        )
        batch = Batch(
            Posterior(jnp.asarray(x["mean"]), jnp.asarray(x["logvar"])),
            jnp.asarray(x["ids"]),
            mask=None if x["mask"] is None else jnp.asarray(x["mask"]),
        )
        if settings.frozen_text:
            batch = batch._replace(text=jax.jit(encode)(denoiser, batch.ids).text)
        return batch

    null = {"null_norm": "token_mean"} if settings.method == "concept_centric" else {}
    method = methods.make(settings.method, **null)
    batches = {b: batch_of(b) for b in settings.batches}
    shared = batches[settings.batches[0]]
    denoiser = methods.prepare(method, denoiser, shared.ids)
    concept = methods.Concept("<v1>", "dog", (text.vocab_size,), (7,), "<v1> dog")
    key = jax.random.key(0)
    theta = methods.init(method, key, denoiser.params, [concept])
    options = {"weight_decay": WEIGHT_DECAY} if settings.optimizer == "adamw" else {}
    tx = make_optimizer(
        optax.constant_schedule(LEARNING_RATE),
        theta,
        OptimizerConfig(settings.optimizer, clip=CLIP, **options),
    )
    state = create(theta, tx.init(theta), key)
    del theta  # the step donates it
    if not settings.draws.exists():
        keys = jax.random.split(jax.random.fold_in(key, 0), settings.batches[0])
        drawn = draws(spec, shared.posterior, keys)._asdict()
        unfinished = settings.draws.with_suffix(".tmp.npz")
        np.savez(unfinished, **drawn)
        unfinished.rename(settings.draws)  # torch's side may be waiting for it
    train = make_step(method, tx)
    compiling = futures.ThreadPoolExecutor(len(settings.batches))
    programs = {
        b: compiling.submit(train.lower(state, denoiser, batch).compile)
        for b, batch in batches.items()
    }

    def of(b: int) -> tuple[Step, About]:
        batch, compiled = batches[b], programs[b].result()

        def step():
            nonlocal state
            state, metrics = jax.block_until_ready(compiled(state, denoiser, batch))
            return {name: float(metrics[name]) for name in ("loss", "gradient_norm")}

        def about(seconds):
            memory = compiled.memory_analysis().temp_size_in_bytes / 2**30
            flops = compiled.cost_analysis()["flops"]
            stats = {"temp_gib": round(memory, 2), "flops": flops}
            if gpu:
                device = jax.local_devices()[0]
                peak = device.memory_stats()["peak_bytes_in_use"] / 2**30
                stats["device_gib"] = round(peak, 2)
                if count(denoiser.params["unet"]) == SD15_UNET and side == 64:
                    stats |= utilisation(settings, b, device.device_kind, seconds)
            return stats

        return step, about

    return of


def utilisation(
    settings: StepSettings, b: int, device: str, seconds: list[float]
) -> dict[str, float]:
    """Model-FLOP utilisation of SD 1.5 at 512x512, and images per second.

    FLOPs added by recomputation are not counted.
    """
    if not seconds:
        return {}
    rate = b / np.median(seconds)
    stats = {"images_per_s": round(float(rate), 2)}
    for name, peak in PEAK_FLOPS.items():
        if name in device:
            stats["mfu"] = round(float(rate * SD15_FLOPS[settings.method] / peak), 3)
    return stats


def torch_side(settings: StepSettings) -> Side:
    """The step of diffusers' train_custom_diffusion.py or train_dreambooth.py.

    For a concept-centric model it is DreamBooth's with constant cross-attentions.
    """
    import torch
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from diffusers.models.attention_processor import CustomDiffusionAttnProcessor2_0
    from torch.nn import functional as F
    from transformers import CLIPTextModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    float32 = {"torch_dtype": torch.float32}
    unet = UNet2DConditionModel.from_pretrained(settings.folder / "unet", **float32)
    encoder = CLIPTextModel.from_pretrained(settings.folder / "text_encoder").float()
    scheduler = DDPMScheduler.from_pretrained(settings.folder / "scheduler")
    words = settings.method == "custom_diffusion"
    size = sum(weight.numel() for weight in unet.parameters())
    unet.requires_grad_(not words).to(device).train()
    encoder.requires_grad_(False).to(device).train()
    if settings.method == "concept_centric":
        _fold(unet, encoder, settings, torch)
    trained = list(unet.parameters())
    vocabulary = encoder.config.vocab_size
    if words:
        encoder.resize_token_embeddings(vocabulary + 1, mean_resizing=False)
        table = encoder.get_input_embeddings().weight
        table.data[vocabulary] = table.data[7]
        cross = [m for name, m in unet.named_modules() if name.endswith("attn2")]
        for module in cross:
            # Without its layers for saving it only detaches the BOS token.
            module.set_processor(
                CustomDiffusionAttnProcessor2_0(train_kv=False, train_q_out=False)
            )
        trained = [w for m in cross for w in (m.to_k.weight, m.to_v.weight)] + [table]
        for parameter in trained:
            parameter.requires_grad_(True)
    if settings.remat != "none":
        unet.enable_gradient_checkpointing()
        if words:
            encoder.gradient_checkpointing_enable()
    if settings.optimizer == "adamw":
        options = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
        optimizer = torch.optim.AdamW(trained, **options)
    else:
        optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE)

    # One program per batch size, as with XLA.
    network = torch.compile(unet, dynamic=False) if settings.compile else unet
    while not settings.draws.exists():
        time.sleep(0.2)
    with np.load(settings.draws) as file:
        first = {name: _to_torch(torch, file[name], device) for name in file}
    _, channels, side, _ = first["x0"].shape
    tokens = encoder.config.max_position_embeddings
    vae = json.loads((settings.folder / "vae/config.json").read_text())
    scaling = vae["scaling_factor"]

    def of(b: int) -> tuple[Step, About]:
        x = examples(settings, b, side, channels, tokens, vocabulary)
        x = {
            name: None if value is None else _to_torch(torch, value, device)
            for name, value in x.items()
        }
        deviation, ids, mask = torch.exp(0.5 * x["logvar"]), x["ids"].long(), x["mask"]
        text = None
        if settings.frozen_text:
            with torch.no_grad():
                text = encoder(ids)[0]
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

        def draw():
            x0 = scaling * (x["mean"] + deviation * torch.randn_like(deviation))
            t = torch.randint(0, 1000, (b,), device=device)
            return {"x0": x0, "eps": torch.randn_like(x0), "t": t}

        def loss_of(x0, eps, t):
            t = t.long()  # one type, or a compiled UNet would be compiled again
            noisy = scheduler.add_noise(x0, eps, t)
            hidden = encoder(ids)[0] if text is None else text
            predicted = network(noisy, t, hidden).sample
            if mask is None:
                return F.mse_loss(predicted.float(), eps)
            squares = F.mse_loss(predicted.float(), eps, reduction="none")
            over = (squares * mask[:, None]).sum([1, 2, 3])
            return (over / (channels * mask.sum([1, 2]))).mean()

        def step():
            nonlocal first
            drawn, first = first or draw(), None
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = loss_of(**drawn)
            loss.backward()
            if words:
                table.grad[:vocabulary] = 0  # only the new word's row trains
            norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
            optimizer.step()
            optimizer.zero_grad()
            return {"loss": loss.item(), "gradient_norm": norm.item()}

        def about(seconds):
            if device == "cpu":
                return {"threads": torch.get_num_threads()}
            stats = {"device_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)}
            if size == SD15_UNET and side == 64:
                stats |= utilisation(settings, b, torch.cuda.get_device_name(), seconds)
            return stats

        return step, about

    return of


def _to_torch(torch: Any, array: np.ndarray, device: str) -> Any:
    """A tensor; arrays with channels are transposed to channels first."""
    if array.ndim == 4:
        array = array.transpose(0, 3, 1, 2)
    return torch.tensor(np.ascontiguousarray(array), device=device)


def _fold(unet: Any, encoder: Any, settings: StepSettings, torch: Any) -> None:
    """Replace each cross-attention by its mean over the first caption's tokens."""

    class Constant(torch.nn.Module):
        def __init__(self, vector):
            super().__init__()
            self.register_buffer("vector", vector)

        def forward(self, hidden_states, **_):
            return self.vector.to(hidden_states.dtype).expand_as(hidden_states)

    config = encoder.config
    tokens = config.max_position_embeddings
    ids = examples(settings, 1, 8, 4, tokens, config.vocab_size)["ids"]
    device = next(encoder.parameters()).device
    with torch.no_grad():
        text = encoder(torch.tensor(ids, device=device).long())[0]
        for module in list(unet.modules()):
            if getattr(module, "attn2", None) is not None:
                read = module.attn2.to_v(text).mean(1)
                module.attn2 = Constant(module.attn2.to_out[0](read))
                module.norm2 = torch.nn.Identity()
