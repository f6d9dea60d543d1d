"""Load a pretrained text-to-image model from a directory, the Hub or one file."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import struct

from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.spec import Spec
from personax.loading import files, ldm, names, open_clip, published
from personax.loading.files import EMBEDDED, embedded
from personax.loading.part_file import check_vae, is_unet, open_part
from personax.loading.parts import check_parts
from personax.loading.place import Shardings, fingerprints, place
from personax.loading.stored import Stored, check_finite
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.tokenizer import Tokenizer, load_tokenizer
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import VAEConfig, init_vae

# {part: (its class in config.json, the record of it)}.
_CLASSES: dict[str, tuple[str, Any]] = {
    "unet": ("UNet2DConditionModel", UNetConfig),
    "vae": ("AutoencoderKL", VAEConfig),
    "text_encoder": ("CLIPTextModel", CLIPTextConfig),
}

# The dtypes of copies that count as the base they were rounded from.
COPIES = ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Copies:
    """The fingerprints of a base's copies in `COPIES`, computed when first called.

    Every byte is read and rounded, which takes seconds for Stable Diffusion. Equal for
    equal bases: static fields of a pytree are compared.
    """

    fingerprint: str  # of the base
    compute: Callable[[], Sequence[str]] = dataclasses.field(compare=False)

    def __call__(self) -> Sequence[str]:
        return self._computed

    @functools.cached_property
    def _computed(self) -> Sequence[str]:
        return self.compute()


@struct.dataclass
class Base:
    """A pretrained model: parameters, architecture, tokenizer and fingerprints."""

    params: Params  # {"unet", "vae", "text_encoder"}
    spec: Spec = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False)  # `source` as the caller passed it
    fingerprint: str = struct.field(pytree_node=False)  # see loading.place
    # The directory of its config files in diffusers' layout.
    configs: Path = struct.field(pytree_node=False, default=Path())
    # What a cache of latents and texts depends on.
    vae_fingerprint: str = struct.field(pytree_node=False, default="")
    text_fingerprint: str = struct.field(pytree_node=False, default="")
    copies: Callable[[], Sequence[str]] = struct.field(pytree_node=False, default=tuple)


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
    vae: str | Path | None = None,
    known: Sequence["Base"] = (),
) -> Base:
    """The model at `source`, its parameters in `param_dtype` and `sharding` on device.

    `source` is a directory in diffusers' layout, a Hugging Face id, a single-file LDM
    checkpoint of SD 1.x or 2.x, or None or "emoji" for the model that comes with the
    package. `variant` picks files such as "fp16"; a part without such a file is read
    from its usual one. `allow_pickle` opens .bin and .ckpt with the restricted reader.

    A single file holds weights only. Its configs and tokenizer are the published ones
    of `published.kind_of`, or those of `config`, a directory or id. The markers v_pred
    and ztsnr in the file set v prediction and betas of zero terminal SNR.

    A `source` that is a UNet alone, a directory or file, takes the other parts of the
    pipeline `config`. `vae` is an autoencoder to use instead of the base's, see
    `part_file`; the fingerprint stays the base's.

    `sharding` may be a function of the path ("unet/conv_in/kernel") and the shape.
    Parameters are shared with one of the `known` bases, on device in that dtype and
    sharding, that has the same weights.

    Raises FileNotFoundError for missing files, and ValueError for a file that cannot be
    read, an unsupported option, or tensors that are missing, extra or misshapen.
    """
    name, unet = str(source or EMBEDDED), None
    opening = {"variant": variant, "allow_pickle": allow_pickle}
    path = _find(name, **opening)
    if is_unet(path, allow_pickle=allow_pickle):
        if not config:
            raise ValueError(
                f"{path} is a UNet alone; give the pipeline that it belongs to as "
                "`config` (--base_config), or draw with it beside a base: --base BASE "
                f"--model NAME={source}."
            )
        unet, path, config = path, _find(str(config), **opening), None
    stored, vocabulary = None, None
    if path.is_dir():
        directory = path
    else:
        stored = files.open_file(path, allow_pickle=allow_pickle)
        parts = ldm.split(path, stored)
        if not config:
            directory = published.directory(published.kind_of(path, stored))
            vocabulary = published.vocabulary()
        else:
            directory = files.find_configs(config)
    configs = _read_configs(directory)
    schedule = _read_schedule(directory, stored or {})
    templates = {
        "unet": names.template(init_unet, configs.unet),
        "vae": names.template(init_vae, configs.vae),
        "text_encoder": names.template(init_clip_text, configs.text_encoder),
    }
    if stored is None:
        matches = _match_directory(path, templates, configs, variant, allow_pickle)
    else:
        matches = _match_single_file(parts, templates, configs)
    own: dict[str, Stored] = {part: match.tensors for part, match in matches.items()}
    if unet is not None:
        found = open_part("unet", unet, configs.unet, **opening)
        configs = configs._replace(unet=found.config)
        check_parts(*configs)
        templates["unet"], own["unet"] = found.template, found.tensors
        del matches["unet"]
    names.report(name if unet is None else str(path), matches.values())
    tensors, template = flat(own), flat(templates)
    check_finite(path, tensors)
    digests = fingerprints(tensors, template)
    vae_digest, placed, shapes = digests.parts["vae"], own, templates
    if vae:
        found = open_part("vae", vae, configs.vae, **opening)
        check_vae(vae, found.config, configs.vae)
        configs = configs._replace(vae=found.config)
        placed = {**own, "vae": found.tensors}
        shapes = {**templates, "vae": found.template}
        alone = flat({"vae": found.tensors}), flat({"vae": found.template})
        vae_digest = fingerprints(alone[0], alone[1]).whole
    params = {}
    for base in known:
        same = {
            "unet": base.fingerprint == digests.whole,
            "vae": base.vae_fingerprint == vae_digest,
            "text_encoder": base.text_fingerprint == digests.parts["text_encoder"],
        }
        params |= {part: base.params[part] for part, equal in same.items() if equal}
    rest = {part: x for part, x in placed.items() if part not in params}
    params |= nest(
        place(flat(rest), flat(shapes), dtype=param_dtype, sharding=sharding)
    )
    return Base(
        params=params,
        spec=Spec(**configs._asdict(), schedule=schedule),
        tokenizer=load_tokenizer(
            directory / "tokenizer",
            size=configs.text_encoder.vocab_size,
            length=configs.text_encoder.max_position_embeddings,
            vocabulary=vocabulary,
        ),
        name=name,
        fingerprint=digests.whole,
        configs=directory,
        vae_fingerprint=vae_digest,
        text_fingerprint=digests.parts["text_encoder"],
        copies=Copies(digests.whole, lambda: _copies(tensors, template)),
    )


def _find(name: str, **opening: Any) -> Path:
    return embedded("pipeline") if name == EMBEDDED else files.find(name, **opening)


def _copies(tensors: Stored, template: Mapping[str, Any]) -> list[str]:
    return [fingerprints(tensors, template, dtype).whole for dtype in COPIES]


def _read_configs(directory: Path) -> _Configs:
    configs = {}
    for part, (name, cls) in _CLASSES.items():
        path = directory / part / "config.json"
        values = files.read_json(path)
        # transformers writes `architectures`, and not for every model.
        found = values.get("_class_name", name)
        if found != name:
            raise ValueError(f"{path} describes a {found}; expected a {name}.")
        configs[part] = _from_json(cls, path, values)
    read = _Configs(**configs)
    try:
        check_parts(*read)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}")
    return read


def _read_schedule(directory: Path, stored: Stored) -> ScheduleConfig:
    path = directory / "scheduler" / "scheduler_config.json"
    values = files.read_json(path)
    if not isinstance(values.get("_class_name"), str):
        raise ValueError(f"{path}: its _class_name is not the name of a scheduler.")
    schedule = _from_json(ScheduleConfig, path, values)
    if "v_pred" in stored:
        schedule = dataclasses.replace(schedule, prediction_type="v_prediction")
    if "ztsnr" in stored:
        schedule = dataclasses.replace(schedule, rescale_betas_zero_snr=True)
    return schedule


def _from_json(cls: Any, path: Path, values: Mapping[str, Any]) -> Any:
    try:
        return cls.from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}")


def _match_directory(
    path: Path,
    templates: Mapping[str, Any],
    configs: _Configs,
    variant: str | None,
    allow_pickle: bool,
) -> dict[str, names.Match]:
    matches = {}
    variants = files.part_variants(path, variant, allow_pickle=allow_pickle)
    for part, template in templates.items():
        own = files.open_weights(
            path / part,
            files.STEMS[part],
            variant=variants[part],
            allow_pickle=allow_pickle,
        )
        stored = names.without_ignored(part, own)
        if part == "text_encoder":
            count = configs.text_encoder.num_hidden_layers
            stored = names.without_later_layers(stored, count, names.LAYER)
        stored_names = names.diffusers_names(part, template, stored)
        matches[part] = names.match(template, stored_names, stored, label=f"{part}/")
    return matches


def _match_single_file(
    parts: Mapping[str, Stored], templates: Mapping[str, Any], configs: _Configs
) -> dict[str, names.Match]:
    matches = {}
    for part, template in templates.items():
        own = parts[part]
        if part == "text_encoder":
            own, stored_names = _text_names(own, template, configs.text_encoder)
        else:
            stored_names = ldm.ldm_names(
                part, template, configs.unet if part == "unet" else configs.vae
            )
        matches[part] = names.match(template, stored_names, own)
    return matches


def _text_names(
    stored: Stored, template: Mapping[str, Any], config: CLIPTextConfig
) -> tuple[Stored, dict[str, str]]:
    """(the text encoder's tensors in a single file, {path: name of its tensor})."""
    part, count = "text_encoder", config.num_hidden_layers
    if next(iter(stored)).startswith(ldm.OPEN_CLIP):
        prefix = ldm.OPEN_CLIP
        own = open_clip.split_fused(open_clip.without_ignored(stored, prefix))
        own = names.without_later_layers(own, count, open_clip.LAYER, prefix)
        return own, open_clip.open_clip_names(template, prefix)
    prefix = ldm.PREFIXES[part]
    own = names.without_ignored(part, stored, prefix)
    own = names.without_later_layers(own, count, names.LAYER, prefix)
    return own, names.diffusers_names(part, template, own, prefix)
