"""BLIP for retrieval (Li et al. 2022): a ViT, and a BERT that may read its states.

Two scores of a picture and a text: the cosine of two projected features (ITC), and a
head's logits of the text's state after cross-attention to the picture (ITM).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from personax.core.typing import Ids, Images, Key, Params, Text
from personax.networks.clip_text import UNUSED, init_embedding
from personax.networks.compute import Compute
from personax.networks.config import read_config, section
from personax.networks.layers import (
    dense,
    init_dense,
    init_norm,
    keys_for,
    layer_norm,
)
from personax.networks.vit import ViTConfig, init_vit, vit

Mask = Bool[Array, "b n"]  # True for tokens, False for padding

# transformers' defaults, where they differ from BLIP's values.
_ABSENT_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 384,
    "layer_norm_eps": 1e-5,
}
_ABSENT_TEXT = {"num_attention_heads": 8}

# Options of training and generation; cross-attention has the vision tower's width.
UNUSED_TEXT = UNUSED | {
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "label_smoothing"),
    *("encoder_hidden_size", "eos_token_id", "sep_token_id", "use_cache"),
}
_NEUTRAL_TEXT = {
    "hidden_act": ("gelu",),
    "is_decoder": (True,),  # the layers have cross-attention
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT: transformers' BlipTextModel; the defaults are BERT base's.

    BLIP's vocabulary has two more words than BERT's: [DEC] and [ENC].
    """

    vocab_size: int = 30524
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not divide "
                f"hidden_size {self.hidden_size}."
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BertConfig":
        """The config of BLIP's published text_config."""
        return read_config(
            cls,
            {**_ABSENT_TEXT, **values},
            neutral=_NEUTRAL_TEXT,
            ignored=UNUSED_TEXT,
            name="BlipTextModel",
        )


@dataclasses.dataclass(frozen=True)
class BlipConfig:
    """transformers' BlipForImageTextRetrieval; the defaults are BLIP's ViT-L/16."""

    vision_config: ViTConfig = ViTConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        layer_norm_eps=1e-5,
        image_size=384,
    )
    text_config: BertConfig = BertConfig()
    image_text_hidden_size: int = 256

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BlipConfig":
        """The config of a published config.json."""
        towers = {
            "vision_config": ViTConfig.from_json(
                section(values, "vision_config"),
                absent=_ABSENT_VISION,
                name="BlipVisionModel",
            ),
            "text_config": BertConfig.from_json(section(values, "text_config")),
        }
        ignored = UNUSED_TEXT | {"logit_scale_init_value"}
        return read_config(
            cls,
            {**values, **towers},
            neutral={},
            ignored=ignored,
            name="BlipForImageTextRetrieval",
        )


def image_features(
    params: Params, config: BlipConfig, images: Images, *, compute: Compute = Compute()
) -> Float[Array, "b e"]:
    """The preprocessed images' features in the joint space, float32, not normalised."""
    states = vit(params["vision_model"], config.vision_config, images, compute=compute)
    return dense(params["vision_proj"], states[:, 0])


def text_features(
    params: Params,
    config: BlipConfig,
    ids: Ids,
    mask: Mask,
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b e"]:
    """The texts' features in the joint space, float32, not normalised."""
    x = _bert(params["text_encoder"], config.text_config, ids, mask, None, compute)
    return dense(params["text_proj"], x[:, 0])


def match_logits(
    params: Params,
    config: BlipConfig,
    images: Images,
    ids: Ids,
    mask: Mask,
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b 2"]:
    """The logits of "does not match" and "matches" for each text and image, float32.

    The text begins with [CLS], as in transformers and BLIP's own BLIP_ITM; its
    retrieval model has [ENC] in that place while it is trained.
    """
    states = vit(params["vision_model"], config.vision_config, images, compute=compute)
    x = _bert(params["text_encoder"], config.text_config, ids, mask, states, compute)
    return dense(params["itm_head"], x[:, 0])


def init_blip(key: Key, config: BlipConfig) -> Params:
    """Both towers, their projections and the matching head."""
    keys = keys_for(key, "vision", "text", "vision_proj", "text_proj", "itm_head")
    wide, width = config.vision_config.hidden_size, config.text_config.hidden_size
    joint = config.image_text_hidden_size
    return {
        "vision_model": init_vit(keys["vision"], config.vision_config),
        "text_encoder": _init_bert(keys["text"], config.text_config, wide),
        "vision_proj": init_dense(keys["vision_proj"], wide, joint),
        "text_proj": init_dense(keys["text_proj"], width, joint),
        "itm_head": init_dense(keys["itm_head"], width, 2),
    }


def word_states(params: Params, ids: Ids) -> Text:
    """The words' embeddings with their positions', float32.

    Raises ValueError for more tokens than positions; an id without a row becomes NaN.
    """
    positions = params["position_embeddings"]["embedding"]
    if ids.shape[1] > positions.shape[0]:
        raise ValueError(
            f"The text has {ids.shape[1]} tokens, the encoder {positions.shape[0]} "
            "positions."
        )
    words = jnp.take(params["word_embeddings"]["embedding"], ids, axis=0, mode="fill")
    positions = positions[None, : ids.shape[1]].astype(jnp.float32)
    return words.astype(jnp.float32) + positions


def bert_attention(
    params: Params,
    x: Float[Array, "b q d"],
    read: Float[Array, "b n e"],
    *,
    config: BertConfig,
    mask: Mask | None = None,
) -> Float[Array, "b q d"]:
    """`x` with what it reads from `read` added, normed after: BERT's order.

    `mask` marks the tokens of `read` to attend to.
    """
    heads, inner = config.num_attention_heads, params["self"]
    q, k, v = (
        dense(inner[name], source).reshape(*source.shape[:2], heads, -1)
        for name, source in (("query", x), ("key", read), ("value", read))
    )
    seen = None if mask is None else mask[:, None, None]
    y = jax.nn.dot_product_attention(q, k, v, mask=seen, implementation="xla")
    return _add_and_norm(params["output"], y.reshape(x.shape), x, config)


def feed_forward(
    up: Params, down: Params, x: Float[Array, "b n d"], *, config: BertConfig
) -> Float[Array, "b n d"]:
    """`x` with a two-layer perceptron's answer added, normed after."""
    y = jax.nn.gelu(dense(up["dense"], x), approximate=False)
    return _add_and_norm(down, y, x, config)


def init_word_states(key: Key, config: BertConfig) -> Params:
    keys = keys_for(key, "words", "positions")
    width = config.hidden_size
    return {
        "word_embeddings": init_embedding(keys["words"], config.vocab_size, width),
        "position_embeddings": init_embedding(
            keys["positions"], config.max_position_embeddings, width
        ),
    }


def init_bert_attention(key: Key, width: int, read: int) -> Params:
    """`read` is the width of the states attended to."""
    keys = keys_for(key, "query", "key", "value", "output")
    widths = {"query": width, "key": read, "value": read}
    return {
        "self": {name: init_dense(keys[name], n, width) for name, n in widths.items()},
        "output": _init_add_and_norm(keys["output"], width, width),
    }


def init_feed_forward(key: Key, width: int, inner: int) -> tuple[Params, Params]:
    """What `feed_forward` calls `up` and `down`."""
    keys = keys_for(key, "up", "down")
    up = {"dense": init_dense(keys["up"], width, inner)}
    return up, _init_add_and_norm(keys["down"], inner, width)


def _bert(
    params: Params,
    config: BertConfig,
    ids: Ids,
    mask: Mask,
    states: Float[Array, "b m e"] | None,
    compute: Compute,
) -> Text:
    """Each token's state, float32; with `states`, every layer reads them as well."""
    embeddings = params["embeddings"]
    x = compute.cast(word_states(embeddings, ids))
    x = layer_norm(embeddings["LayerNorm"], x, eps=config.layer_norm_eps)
    for i in range(config.num_hidden_layers):
        layer = params["encoder"]["layer"][str(i)]
        x = bert_attention(layer["attention"], x, x, config=config, mask=mask)
        if states is not None:
            read = compute.cast(states)
            x = bert_attention(layer["crossattention"], x, read, config=config)
        x = feed_forward(layer["intermediate"], layer["output"], x, config=config)
    return x.astype(jnp.float32)


def _init_bert(key: Key, config: BertConfig, read: int) -> Params:
    keys = keys_for(key, "embeddings", "layers")
    layers = jax.random.split(keys["layers"], config.num_hidden_layers)
    width = config.hidden_size
    embeddings = init_word_states(keys["embeddings"], config)
    return {
        "embeddings": {**embeddings, "LayerNorm": init_norm(width)},
        "encoder": {
            "layer": {
                str(i): _init_layer(k, width, config.intermediate_size, read)
                for i, k in enumerate(layers)
            }
        },
    }


def _init_layer(key: Key, width: int, inner: int, read: int) -> Params:
    keys = keys_for(key, "attention", "crossattention", "feed_forward")
    up, down = init_feed_forward(keys["feed_forward"], width, inner)
    return {
        "attention": init_bert_attention(keys["attention"], width, width),
        "crossattention": init_bert_attention(keys["crossattention"], width, read),
        "intermediate": up,
        "output": down,
    }


def _add_and_norm(
    params: Params,
    y: Float[Array, "b n e"],
    x: Float[Array, "b n d"],
    config: BertConfig,
) -> Float[Array, "b n d"]:
    y = dense(params["dense"], y) + x
    return layer_norm(params["LayerNorm"], y, eps=config.layer_norm_eps)


def _init_add_and_norm(key: Key, inputs: int, width: int) -> Params:
    return {"dense": init_dense(key, inputs, width), "LayerNorm": init_norm(width)}
