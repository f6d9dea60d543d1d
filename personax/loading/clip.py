"""A pretrained CLIP with both towers, from a directory to a `Clip`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import struct

from personax.core.tree import nest
from personax.core.typing import Params
from personax.loading import files, names
from personax.loading.place import Shardings, place
from personax.networks.clip import CLIPConfig, init_clip
from personax.networks.tokenizer import Tokenizer, load_tokenizer

# OpenAI's statistics, for a directory without preprocessor_config.json.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@struct.dataclass
class Clip:
    """Both towers of a CLIP, its tokenizer and its preprocessing."""

    params: Params
    config: CLIPConfig = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)
    mean: tuple[float, ...] = struct.field(pytree_node=False)  # of images in [0, 1]
    std: tuple[float, ...] = struct.field(pytree_node=False)


def load_clip(
    directory: str | Path | None = None,
    *,
    param_dtype: str = "float32",
    sharding: Shardings = None,
    allow_pickle: bool = False,
) -> Clip:
    """The CLIP in a directory as transformers writes it, or the package's own.

    Raises FileNotFoundError and ValueError as `load_base` does.
    """
    source = Path(directory or files.embedded("clip"))
    path = source / "config.json"
    values = files.read_json(path)
    try:
        config = CLIPConfig.from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}")
    template = names.template(init_clip, config)
    stored = names.without_ignored(
        "clip", files.open_weights(source, "model", allow_pickle=allow_pickle)
    )
    match = names.match(
        template, names.diffusers_names("clip", template, stored), stored
    )
    names.report(str(source), [match])
    images = source / "preprocessor_config.json"
    images = files.read_json(images) if images.is_file() else {}
    # The package's CLIP shares the embedded pipeline's tokenizer.
    tokenizer = source if directory else files.embedded("pipeline") / "tokenizer"
    return Clip(
        params=nest(
            place(match.tensors, template, dtype=param_dtype, sharding=sharding)
        ),
        config=config,
        tokenizer=load_tokenizer(
            tokenizer,
            size=config.text_config.vocab_size,
            length=config.text_config.max_position_embeddings,
        ),
        mean=_numbers(source, images, "image_mean", _MEAN),
        std=_numbers(source, images, "image_std", _STD),
    )


def _numbers(
    source: Path, values: Mapping[str, Any], key: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Three finite numbers of preprocessor_config.json."""
    numbers = values.get(key, default)
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != 3
        or not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers)
    ):
        raise ValueError(
            f"{source / 'preprocessor_config.json'}: {key} is {numbers!r}; expected "
            "three numbers."
        )
    return tuple(float(number) for number in numbers)
