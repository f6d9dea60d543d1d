"""A pretrained BLIP-2 for retrieval, from a directory to a `Blip2`."""

from pathlib import Path

from flax import struct
from transformers import BertTokenizer

from personax.core.typing import Params
from personax.loading import files
from personax.loading.blip import SCALING, VISION_NAMES, read_bert_tokenizer
from personax.loading.dino import fitted, read_config_json, read_scaling
from personax.networks.blip2 import Blip2Config, init_blip2

# transformers calls attention what the authors' Q-Former, as any BERT, calls self.
_NAMES = {**VISION_NAMES, "attention.self.": "attention.attention."}


@struct.dataclass
class Blip2:
    """A BLIP-2 without its language model, its tokenizer and its preprocessing."""

    params: Params
    config: Blip2Config = struct.field(pytree_node=False)
    tokenizer: BertTokenizer = struct.field(pytree_node=False)
    mean: tuple[float, ...] = struct.field(pytree_node=False)  # of images in [0, 1]
    std: tuple[float, ...] = struct.field(pytree_node=False)


def load_blip2(
    directory: str | Path, *, param_dtype: str = "float32", allow_pickle: bool = False
) -> Blip2:
    """The BLIP-2 in a directory as transformers' Blip2ForImageTextRetrieval writes it.

    It has the files that `load_blip` reads; raises the same errors.
    """
    source = Path(directory)
    config = Blip2Config.from_json(read_config_json(source, "BLIP-2"))
    tokenizer = read_bert_tokenizer(source)
    stored = files.open_weights(source, "model", allow_pickle=allow_pickle)
    params = fitted(
        source, init_blip2, config, stored, theirs=_NAMES, dtype=param_dtype
    )
    return Blip2(params, config, tokenizer, *read_scaling(source, SCALING))
