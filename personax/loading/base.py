"""Load a pretrained text-to-image model from a directory, the Hub or one file."""

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

# The configs and tokenizer that a single-file checkpoint of SD 1.x lacks.
_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@struct.dataclass
class Base:
    """A pretrained model: parameters, architecture, tokenizer and fingerprints."""

    params: Params  # {"unet", "vae", "text_encoder"}
    spec: Spec = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False)  # `source` as the caller passed it
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
    config: str | Path | None = None,
    known: Sequence["Base"] = (),
) -> Base:
    """The model at `source`, its parameters in `param_dtype` and `sharding` on device.

    `source` is a directory in diffusers' layout, a Hugging Face id, a single-file LDM
    checkpoint of SD 1.x, or None or "emoji" for the model that comes with the package.
    `variant` picks files such as "fp16"; `allow_pickle` opens .bin and .ckpt with the
    restricted reader. A single file holds weights only: `config` is the directory or id
    that the configs and the tokenizer come from, by default SD 1.5. `sharding` may be a
    function of the path ("unet/conv_in/kernel") and the shape. Parameters are shared
    with one of the `known` bases, on device in that dtype and sharding, that has the
    same weights.

    Raises FileNotFoundError for missing files, and ValueError for a file that cannot be
    read, an unsupported option, or tensors that are missing, extra or misshapen.
    """
    name = str(source or EMBEDDED)
    path = embedded("pipeline") if name == EMBEDDED else None
    path = path or files.find(name, variant=variant, allow_pickle=allow_pickle)
    directory = path if path.is_dir() else files.find_configs(config or _SD15)
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
    tensors = flat({part: match.tensors for part, match in matches.items()})
    template = flat(templates)
    digests = fingerprints(tensors, template)
    same = [base.params for base in known if base.fingerprint == digests.whole]
    if same:
        params = same[0]
    else:
        params = nest(place(tensors, template, dtype=param_dtype, sharding=sharding))
    return Base(
        params=params,
        spec=Spec(**configs._asdict(), schedule=ScheduleConfig.from_json(schedule)),
        tokenizer=load_tokenizer(
            directory / "tokenizer",
            size=configs.text_encoder.vocab_size,
            length=configs.text_encoder.max_position_embeddings,
        ),
        name=name,
        fingerprint=digests.whole,
        vae_fingerprint=digests.parts["vae"],
        text_fingerprint=digests.parts["text_encoder"],
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
        stored_names = names.diffusers_names(part, template, stored)
        matches[part] = names.match(template, stored_names, stored, label=f"{part}/")
    return matches


def _match_single_file(
    path: Path, stored: Stored, templates: Mapping[str, Any], configs: _Configs
) -> dict[str, names.Match]:
    matches = {}
    parts = ldm.split(path, stored)
    for part, template in templates.items():
        own = parts[part]
        if part == "text_encoder":
            prefix = ldm.PREFIXES[part]
            own = names.without_ignored(part, own, prefix)
            stored_names = names.diffusers_names(part, template, own, prefix)
        else:
            stored_names = ldm.ldm_names(
                part, template, configs.unet if part == "unet" else configs.vae
            )
        matches[part] = names.match(template, stored_names, own)
    return matches
