"""Prompt-to-Prompt against torch: the paper's edit on diffusers' attention processors.

The torch side is written here from the paper's formulas, with the controller's counters
and in-place stores that the authors' design has. Same weights, noise and texts; max abs
error of the edited probabilities and of the final latents 1e-4.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from personax.control.maps import Capture
from personax.diffusion import p2p, paired
from personax.diffusion.denoiser import Denoiser, Prompt
from personax.diffusion.guidance import Term, complete
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Stream
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import ddim
from personax.diffusion.spec import Spec
from personax.loading import embedded
from personax.networks.tokenizer import add_placeholder, ids_of, positions
from personax.networks.unet import init_unet
from tests.parity.from_torch import from_torch
from tests.small_configs import BETAS, FOUR_BLOCKS

TOLERANCE = 1e-4
STEPS, GUIDANCE, N = 5, 3.0, 32
SOURCE = "a <two> on the beach"
CROSS, WITHIN = {"default": 0.7, "beach": (0.2, 0.9)}, (0.0, 0.5)


class Case(NamedTuple):
    """One edit of the source."""

    prompt: str
    kind: str
    factors: dict[str, float]


CASES = (
    Case("a <three> on white beach", "replace", {}),
    Case("a red <two> on the white beach", "refine", {}),
    Case("a dog on the beach", "replace", {"dog": -2.0, "beach": 3.0}),
    Case("a red <two> on the beach", "refine", {"red": 4.0}),
)
BLEND, SUBTRACT = ["<two>", "<three>", "dog"], ["beach"]
# High ones, as the maps of random weights are flat.
THRESHOLD, SUBTRACT_THRESHOLD = 0.8, 0.95
SMALL = dataclasses.replace(FOUR_BLOCKS, layers_per_block=1, sample_size=16)
SCHEDULE = {
    **BETAS,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


# The formulas, on torch tensors.


def replacement(tokenizer, old, new):
    """The mapper of two prompts with equally many words."""
    mapper, i, j = torch.zeros(N, N), 1, 1
    mapper[0, 0] = 1
    for a, b in zip(old.split(), new.split(), strict=True):
        m, n = len(ids_of(tokenizer, a)), len(ids_of(tokenizer, b))
        for k in range(m):
            for l in range(n):  # noqa: E741
                mapper[i + k, j + l] = float(k == l) if m == n else 1 / n
        i, j = i + m, j + n
    while i < N and j < N:
        mapper[i, j] = 1
        i, j = i + 1, j + 1
    if j < N:  # the edit is shorter: its last tokens share the source's last
        mapper[N - 1, j - 1 :] = 1 / (N - j + 1)
    mapper[i:, N - 1] = 1  # it is longer: its last takes what is left
    return mapper


def refinement(tokenizer, old, new):
    """(index in the source of every token, whether it has one)."""
    a, b = ([-1, *ids_of(tokenizer, text), -2] for text in (old, new))

    @functools.cache
    def score(i, j):
        if not i or not j:
            return 0
        matched = score(i - 1, j - 1) + (1 if a[i - 1] == b[j - 1] else -1)
        return max(matched, score(i - 1, j), score(i, j - 1))

    taken, i, j = list(range(N)), len(a), len(b)
    taken[: len(b)] = [-1] * len(b)
    while i and j:
        if score(i, j) == score(i, j - 1):
            j -= 1
        elif score(i, j) == score(i - 1, j):
            i -= 1
        else:
            i, j = i - 1, j - 1
            taken[j] = i
    return torch.tensor(taken), (torch.tensor(taken) >= 0).float()


class Controller:
    """Counts layers and steps, edits the conditional rows, and stores them."""

    def __init__(self, tokenizer, limit, layers, blended):
        prompts = [SOURCE, *(case.prompt for case in CASES)]
        self.maps = []  # of every step, {name: [prompt, head, pixel, token]}
        self.limit, self.layers, self.seen, self.step = limit, layers, 0, 0
        self.edits = [self.edit_of(tokenizer, case) for case in CASES]
        self.blended, self.total, self.shares = blended, None, []

        def marks(words):
            out = torch.zeros(len(prompts), N)
            for row, prompt in zip(out, prompts, strict=True):
                for word in words:
                    row[list(positions(tokenizer, prompt, word))] = 1
            return out

        self.words, self.subtracted = marks(BLEND), marks(SUBTRACT)

    def edit_of(self, tokenizer, case):
        scale, alpha = torch.ones(N), torch.zeros(STEPS + 1, N)
        alpha[: int(0.7 * (STEPS + 1))] = 1
        for word, factor in case.factors.items():
            scale[list(positions(tokenizer, case.prompt, word))] = factor
        at = list(positions(tokenizer, case.prompt, "beach"))
        alpha[:, at] = 0
        alpha[int(0.2 * (STEPS + 1)) : int(0.9 * (STEPS + 1)), at] = 1
        texts = tokenizer, SOURCE, case.prompt
        how = replacement(*texts) if case.kind == "replace" else refinement(*texts)
        return how, scale, alpha

    def __call__(self, probs, name, cross):
        """`probs` are [null of every prompt and then the prompts, m, q, n]."""
        probs = probs.clone()
        rows = probs[len(probs) // 2 :]
        source = rows[0].clone()
        for row, (how, scale, alpha) in zip(rows[1:], self.edits, strict=True):
            if cross:
                if isinstance(how, tuple):
                    index, known = how
                    aligned = source[..., index] * known + row * (1 - known)
                else:
                    aligned = source @ how
                a = alpha[self.step]
                row[:] = a * (aligned * scale) + (1 - a) * row
            elif self.step < int(0.5 * STEPS) and probs.shape[2] <= self.limit:
                row[:] = source
        if not self.seen:
            self.maps.append({})
        self.maps[-1][name] = rows
        self.seen += 1
        if self.seen == self.layers:
            self.seen, self.step = 0, self.step + 1
        return probs

    def blend(self, x):
        """The local blend of the prompts' latents after a step."""
        if not self.blended:
            return x
        side = x.shape[-1] // (2 if x.shape[-1] == 8 else 4)
        layers = [
            maps.mean(1)
            for name, maps in self.maps[-1].items()
            if "attn2" in name and "mid" not in name and maps.shape[2] == side**2
        ]
        now = torch.stack(layers).mean(0)
        self.total = now if self.total is None else self.total + now

        def mask(words, threshold, pool):
            maps = (self.total * words[:, None]).sum(-1).reshape(-1, 1, side, side)
            if pool:
                maps = torch.nn.functional.max_pool2d(maps, 3, 1, 1)
            maps = torch.nn.functional.interpolate(maps, size=x.shape[2:])
            mask = maps / maps.amax((2, 3), keepdim=True) > threshold
            return mask | mask[:1]

        if self.step <= int(0.2 * STEPS):
            return x
        captured = mask(self.words, THRESHOLD, True)
        captured &= ~mask(self.subtracted, SUBTRACT_THRESHOLD, False)
        self.shares.append(captured[1:].float().mean().item())
        return x[:1] + captured.float() * (x - x[:1])


class Processor:
    """diffusers' plain attention with the probabilities in sight."""

    def __init__(self, name, controller):
        self.name, self.controller = name, controller

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        cross = encoder_hidden_states is not None
        text = encoder_hidden_states if cross else hidden_states
        q, k, v = (
            attn.head_to_batch_dim(to(x))
            for to, x in (
                (attn.to_q, hidden_states),
                (attn.to_k, text),
                (attn.to_v, text),
            )
        )
        probs = attn.get_attention_scores(q, k)
        split = probs.reshape(len(hidden_states), attn.heads, *probs.shape[1:])
        probs = self.controller(split, self.name, cross).reshape(probs.shape)
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probs, v)))


@torch.no_grad()
def torch_edit(unet, schedule, tokenizer, texts, null, noise, limit, blended):
    """(every stream's latents, the conditional probabilities of each step)."""
    names = list(unet.attn_processors)
    controller = Controller(tokenizer, limit, len(names), blended)
    unet.set_attn_processor({name: Processor(name, controller) for name in names})
    scheduler = DDIMScheduler.from_config(schedule)
    scheduler.set_timesteps(STEPS)
    count = len(texts)
    x = torch.tensor(noise.transpose(0, 3, 1, 2)).repeat(count, 1, 1, 1)
    context = torch.cat([torch.tensor(null).repeat(count, 1, 1), torch.tensor(texts)])
    for t in scheduler.timesteps:
        empty, full = unet(torch.cat([x, x]), t, context).sample.chunk(2)
        eps = empty + GUIDANCE * (full - empty)
        x = controller.blend(scheduler.step(eps, t, x).prev_sample)
    return x.numpy().transpose(0, 2, 3, 1), controller.maps


# Ours.


def streams_of(tokenizer, texts, null, limit):
    def terms(text):
        term = Term(Prompt(jnp.asarray(text)[None]), jnp.float32(GUIDANCE))
        return tuple(complete([term], Prompt(jnp.asarray(null))))

    streams = [Stream(terms(texts[0]))]
    for case, text in zip(CASES, texts[1:], strict=True):
        follow = p2p.follow(
            tokenizer,
            SOURCE,
            case.prompt,
            steps=STEPS,
            kind=case.kind,
            cross=CROSS,
            within=WITHIN,
            max_pixels=limit,
            factors=case.factors,
        )
        streams.append(Stream(terms(text), (None, follow)))
    return streams


def blend_of(tokenizer):
    def marks(words):
        out = np.zeros((1 + len(CASES), 2, N), np.float32)
        for row, prompt in zip(
            out, [SOURCE, *(case.prompt for case in CASES)], strict=True
        ):
            for word in words:
                row[1, list(positions(tokenizer, prompt, word))] = 1
        return jnp.asarray(out)

    return Blend(
        marks(BLEND),
        jnp.full(2, THRESHOLD),
        marks(SUBTRACT),
        jnp.float32(SUBTRACT_THRESHOLD),
        jnp.int32(int(0.2 * STEPS)),
    )


class World(NamedTuple):
    """One base on both sides."""

    denoiser: Denoiser
    unet: UNet2DConditionModel
    schedule: dict
    tokenizer: object
    texts: np.ndarray
    null: np.ndarray
    noise: np.ndarray
    limit: int


@pytest.fixture(scope="module", params=["embedded", "sd1-like"])
def world(request, emoji):
    tokenizer = emoji.tokenizer
    for word, vectors in (("<two>", 2), ("<three>", 3)):
        tokenizer = add_placeholder(tokenizer, word, vectors=vectors)
    rng = np.random.default_rng(0)
    if request.param == "embedded":
        folder = embedded("pipeline")
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
        schedule = DDIMScheduler.from_pretrained(folder, subfolder="scheduler").config
        denoiser, side, channels = Denoiser(emoji.params, spec=emoji.spec), 8, 8
        width = emoji.spec.unet.cross_attention_dim
    else:
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**vars(SMALL)).eval()
        schedule = DDIMScheduler(**SCHEDULE).config
        template = jax.eval_shape(lambda: init_unet(jax.random.key(0), SMALL))
        spec = Spec(unet=SMALL, schedule=ScheduleConfig(**SCHEDULE))
        denoiser = Denoiser({"unet": from_torch(unet, template)}, spec=spec)
        side, channels, width = 16, 4, SMALL.cross_attention_dim
    # Texts of the size that encoders give, and related, as those of edits are.
    common = rng.standard_normal((N, width), np.float32)
    own = rng.standard_normal((1 + len(CASES), N, width), np.float32)
    texts = (common + 0.7 * own).astype(np.float32)
    null = rng.standard_normal((1, N, width), np.float32)
    noise = rng.standard_normal((1, side, side, channels), np.float32)
    limit = p2p.pixel_limit(denoiser.spec.unet, side, side, 0.5)
    return World(denoiser, unet, schedule, tokenizer, texts, null, noise, limit)


@pytest.mark.parametrize("blended", [False, True])
def test_the_edited_latents_are_torchs(world, blended):
    args = world.tokenizer, world.texts, world.null
    theirs, _ = torch_edit(
        world.unet, world.schedule, *args, world.noise, world.limit, blended
    )
    streams = streams_of(*args, world.limit)
    grid = ddim().grid(world.denoiser.spec.schedule, STEPS)
    blend = blend_of(world.tokenizer) if blended else None

    @jax.jit
    def run(denoiser, streams, x, blend):
        return p2p.draw({"base": denoiser}, streams, ddim(), grid, x, blend=blend)

    ours = run(world.denoiser, streams, jnp.asarray(world.noise), blend)[:, 0]
    difference = np.abs(ours - theirs).max()
    print(f"latents: {difference:.2g}")
    assert difference <= TOLERANCE
    apart = np.abs(theirs[1:] - theirs[:1]).max((1, 2, 3))
    assert (apart > 0.05).all()  # edits that edit


def test_the_edited_probabilities_are_torchs(world):
    """At a step of the self-attention window, and at one behind it."""
    args = world.tokenizer, world.texts, world.null
    count = len(world.texts)
    controller_args = (world.unet, world.schedule, *args, world.noise, world.limit)
    streams = streams_of(*args, world.limit)
    _, maps = torch_edit(*controller_args, False)
    grid = ddim().grid(world.denoiser.spec.schedule, STEPS)
    keep = (Capture(), Capture(kind="self"))

    @jax.jit
    def run(denoiser, streams, x, i):
        eps_fn = paired.pair({"base": denoiser}, streams, keep=keep)
        row = jax.tree.map(lambda column: column[i], grid)
        eps, captured = eps_fn(x, row.t, i)
        return ddim().step(x, (), eps, row, None)[0], captured

    x = jnp.tile(world.noise, (count, 1, 1, 1))
    for step in range(3):
        x, captured = run(world.denoiser, streams, x, jnp.array(step))
        worst = 0.0
        for name, theirs in maps[step].items():
            site = name.removesuffix(".processor").replace(".", "/")
            for p in range(count):
                ours = captured[p][1][site][0]
                worst = max(worst, float(np.abs(ours - theirs[p].numpy()).max()))
        print(f"probabilities at step {step}: {worst:.2g}")
        assert worst <= TOLERANCE
