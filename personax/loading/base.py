"""A pretrained text-to-image model, from wherever it lies to a `Base`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import struct

from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.spec import Spec
from personax.loading import files, ldm, names
from personax.loading.files import EMBEDDED, embedded
from personax.loading.place import Shardings, fingerprints, place
from personax.loading.stored import Stored
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.tokenizer import Tokenizer, load_tokenizer
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import VAEConfig, init_vae

# What a single-file checkpoint of SD 1.x leaves out stands here.
_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@struct.dataclass
class Base:
    """A pretrained model: parameters, and what is needed to compute with them."""

    params: Params  # {"unet", "vae", "text_encoder"}
    spec: Spec = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False)  # the source, as it was asked for
    fingerprint: str = struct.field(pytree_node=False)  # see loading.place
    # What a cache of latents and texts depends on.
    vae_fingerprint: str = struct.field(pytree_node=False, default="")
    text_fingerprint: str = struct.field(pytree_node=False, default="")


class _Configs(NamedTuple):
    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig


def load_base(
    source: str | Path | None = None,
    *,
    param_dtype: str = "float32",
    sharding: Shardings = None,
    variant: str | None = None,
    allow_pickle: bool = False,
    config: str | Path = _SD15,
    known: Sequence["Base"] = (),
) -> Base:
    """The model at `source`, its parameters in `param_dtype` and `sharding` on device.

    `source` is a directory in diffusers' layout, a Hugging Face id, a single-file LDM
    checkpoint of SD 1.x, or None or "emoji" for the model that comes with the package.
    `variant` picks files such as "fp16"; `allow_pickle` opens .bin and .ckpt with the
    restricted reader. A single file holds weights only: `config` is the directory or id
    that the configs and the tokenizer come from. `sharding` may be a function of the
    path ("unet/conv_in/kernel") and the shape. Of the `known` bases, which are on
    device in that dtype and sharding, one with the same weights gives its own.

    Raises FileNotFoundError or ValueError in one sentence; tensors that are missing,
    extra or misshapen are named together.
    """
    name = str(source or EMBEDDED)
    path = embedded("pipeline") if name == EMBEDDED else None
    path = path or files.find(name, variant=variant, allow_pickle=allow_pickle)
    directory = path if path.is_dir() else files.find_configs(config)
    configs = _read_configs(directory)
    schedule = files.read_json(directory / "scheduler" / "scheduler_config.json")
    templates = {
        "unet": names.template(init_unet, configs.unet),
        "vae": names.template(init_vae, configs.vae),
        "text_encoder": names.template(init_clip_text, configs.text_encoder),
    }
    if path.is_dir():
        matches = _match_directory(path, templates, variant, allow_pickle)
    else:
        stored = files.open_file(path, allow_pickle=allow_pickle)
        matches = _match_single_file(path, stored, templates, configs)
    names.report(name, matches.values())
    stored = flat({part: match.found for part, match in matches.items()})
    template = flat(templates)
    found = fingerprints(stored, template)
    same = [base.params for base in known if base.fingerprint == found.whole]
    if same:
        params = same[0]
    else:
        params = nest(place(stored, template, dtype=param_dtype, sharding=sharding))
    return Base(
        params=params,
        spec=Spec(**configs._asdict(), schedule=ScheduleConfig.from_json(schedule)),
        tokenizer=load_tokenizer(
            directory / "tokenizer",
            size=configs.text_encoder.vocab_size,
            length=configs.text_encoder.max_position_embeddings,
        ),
        name=name,
        fingerprint=found.whole,
        vae_fingerprint=found.parts["vae"],
        text_fingerprint=found.parts["text_encoder"],
    )


def _read_configs(directory: Path) -> _Configs:
    classes = {"unet": UNetConfig, "vae": VAEConfig, "text_encoder": CLIPTextConfig}
    return _Configs(
        **{
            part: cls.from_json(files.read_json(directory / part / "config.json"))
            for part, cls in classes.items()
        }
    )


def _match_directory(
    path: Path, templates: Mapping[str, Any], variant: str | None, allow_pickle: bool
) -> dict[str, names.Match]:
    matches = {}
    for part, template in templates.items():
        stored = names.without_ignored(
            part,
            files.open_weights(
                path / part,
                files.STEMS[part],
                variant=variant,
                allow_pickle=allow_pickle,
            ),
        )
        found_as = names.diffusers_names(part, template, stored)
        matches[part] = names.match(template, found_as, stored, label=f"{part}/")
    return matches


def _match_single_file(
    path: Path, stored: Stored, templates: Mapping[str, Any], configs: _Configs
) -> dict[str, names.Match]:
    matches = {}
    parts = ldm.split(path, stored)
    for (part, template), config in zip(templates.items(), configs, strict=True):
        own = parts[part]
        if part == "text_encoder":
            prefix = ldm.PREFIXES[part]
            own = names.without_ignored(part, own, prefix)
            found_as = names.diffusers_names(part, template, own, prefix)
        else:
            found_as = ldm.ldm_names(part, template, config)
        matches[part] = names.match(template, found_as, own)
    return matches
