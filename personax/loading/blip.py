"""A pretrained BLIP for retrieval, from a directory to a `Blip`."""

from pathlib import Path

from flax import struct
from transformers import BertTokenizer

from personax.core.typing import Params
from personax.loading import files
from personax.loading.dino import Scaling, fitted, read_config_json, read_scaling
from personax.networks.blip import BlipConfig, init_blip

# CLIP's statistics, with which BLIP and BLIP-2 were trained.
SCALING = Scaling(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
# Names of the vision tower's layers in the files, apart from the fused projection.
VISION_NAMES = {".self_attn.out_proj.": ".self_attn.projection."}


@struct.dataclass
class Blip:
    """A BLIP, its tokenizer and its preprocessing."""

    params: Params
    config: BlipConfig = struct.field(pytree_node=False)
    tokenizer: BertTokenizer = struct.field(pytree_node=False)
    mean: tuple[float, ...] = struct.field(pytree_node=False)  # of images in [0, 1]
    std: tuple[float, ...] = struct.field(pytree_node=False)


def load_blip(
    directory: str | Path, *, param_dtype: str = "float32", allow_pickle: bool = False
) -> Blip:
    """The BLIP in a directory as transformers' BlipForImageTextRetrieval writes it.

    It has config.json, model.safetensors (or, with `allow_pickle`, pytorch_model.bin)
    and the tokenizer's files, and may have the preprocessor's. Raises FileNotFoundError
    for missing files and ValueError for tensors that are missing, extra or misshapen.
    """
    source = Path(directory)
    config = BlipConfig.from_json(read_config_json(source, "BLIP"))
    tokenizer = read_bert_tokenizer(source)
    stored = files.open_weights(source, "model", allow_pickle=allow_pickle)
    params = fitted(
        source, init_blip, config, stored, theirs=VISION_NAMES, dtype=param_dtype
    )
    return Blip(params, config, tokenizer, *read_scaling(source, SCALING))


def read_bert_tokenizer(directory: Path) -> BertTokenizer:
    """The tokenizer in a directory; raises FileNotFoundError without its files."""
    names = ("tokenizer.json", "vocab.txt")
    if not any((directory / name).is_file() for name in names):
        raise FileNotFoundError(
            f"{directory} has no tokenizer: expected {' or '.join(names)}."
        )
    return BertTokenizer.from_pretrained(directory, local_files_only=True)
