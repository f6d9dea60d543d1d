"""Concepts on the small pipeline, and their export, for the tests of its formats."""

import functools
import json
import pathlib

import jax
import numpy as np

from personax.concepts.bind import from_base, with_concepts
from personax.concepts.export import check_request, export
from personax.concepts.exports.request import Request
from personax.core.tensor_file import write_tensors
from personax.core.tree import nest
from personax.loading import load_base
from personax.loading.write import VARIANTS, torch_state
from personax.methods import Concept
from tests.loading.make import FILES, template, write_configs
from tests.random_params import random_params
from tests.untrained import save_untrained

# As in SD 1.5's repository: it names what is not read here.
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
EVERYWHERE = ("attention", "feed_forward", "convolutions", "text_encoder")


def write_base(folder: pathlib.Path, variant: str | None = None) -> None:
    """A pipeline as on the Hub, with the files and folders that exports leave behind.

    Its weights have the size that networks start with, so that predictions are of
    order 1.
    """
    write_configs(folder)
    for part, name in FILES.items():
        params = random_params(nest(template(part)))
        state = torch_state(params, VARIANTS.get(variant or "", "float32"))
        if variant:
            name = name.replace(".safetensors", f".{variant}.safetensors")
        write_tensors(folder / part / name, state, {"format": "pt"})
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    (folder / "v1-5-pruned.ckpt").write_bytes(b"\0" * 100)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\0" * 100)
    for name in ("safety_checker", "feature_extractor", ".git"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")


def trained(theta):
    """Theta as if it had been trained: every number changed, by about a tenth."""
    leaves, structure = jax.tree.flatten(theta)
    rng = np.random.default_rng(1)
    moved = [
        np.asarray(x) + 0.1 * rng.standard_normal(x.shape, np.float32) for x in leaves
    ]
    return jax.tree.unflatten(structure, moved)


def write_concept(folder: pathlib.Path, base) -> None:
    """The concept called as the folder, as if it had been trained."""
    n = base.tokenizer.size
    two = Concept("<v1>", "dog", (n, n + 1), (5, 6), "<v1> dog")
    one = Concept("<v1>", "dog", (n,), (5,), "<v1> dog")
    rare = Concept("<v1>", "dog", (700,), (5,), "<v1> dog")
    plain = Concept("", "dog", (), (), "dog")
    lora = {"rank": 2, "alpha": 6.0, "targets": EVERYWHERE}
    concept, method, arguments = {
        "custom": (two, "custom_diffusion", {}),
        "faces": (one, "custom_diffusion", {"train": "cross_attention"}),
        "lora": (rare, "lora", lora),
        "lora_next": (plain, "lora", {"rank": 3}),
        "dreambooth": (rare, "dreambooth", {"text_encoder": True}),
        "word": (one, "textual_inversion", {}),
        "infusion": (plain, "infusion", {}),
        "prospect": (rare, "prospect", {}),
    }[folder.name]
    save_untrained(folder, base, concept, method, trained, **arguments)


class World:
    """The base and its concepts, written when they are first used, in a folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.source = folder, folder / "base"
        write_base(self.source)
        self.base = load_base(self.source)

    @functools.cache  # noqa: B019
    def bound(self, *names):
        """The base with concepts; a name may have a strength, "lora@0.5"."""
        return with_concepts(from_base(self.base), self.base, self.sources(*names))

    def sources(self, *names):
        """What the command is given for "custom", "custom@0.5" or "<v2>=custom"."""
        sources = []
        for name in names:
            word, equals, path = name.rpartition("=")
            folder = self.folder / path.partition("@")[0]
            if not folder.exists():
                write_concept(folder, self.base)
            sources.append(f"{word}{equals}{self.folder / path}")
        return sources

    def export(self, out, *names, **options):
        request = Request(self.folder / out, sources=self.sources(*names), **options)
        check_request(request)
        return export(self.bound(*names), self.base, request)
