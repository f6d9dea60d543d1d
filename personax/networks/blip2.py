"""BLIP-2's first stage (Li et al. 2023): a ViT and the Q-Former.

The Q-Former is a BERT over learned queries, which cross-attend to the vision tower's
states, and the words of a text. Queries and words have separate feed-forward layers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Ids, Images, Key, Params
from personax.networks.blip import (
    UNUSED_TEXT,
    BertConfig,
    Mask,
    bert_attention,
    feed_forward,
    init_bert_attention,
    init_feed_forward,
    init_word_states,
    word_states,
)
from personax.networks.compute import Compute
from personax.networks.config import read_config, section
from personax.networks.layers import dense, init_dense, init_norm, keys_for, layer_norm
from personax.networks.vit import ViTConfig, init_vit, vit

# transformers' defaults, where they differ from BLIP-2's values.
_ABSENT_VISION = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
_ABSENT_QFORMER = {"vocab_size": 30522, "use_qformer_text_input": False}

_NEUTRAL_QFORMER = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "use_qformer_text_input": (True,),  # words have feed-forward layers
}
# Options of the language model, which is not loaded, and of its prompts, whose image
# tokens are removed before they are encoded.
_UNUSED = UNUSED_TEXT | {
    *("text_config", "use_decoder_only_language_model", "is_encoder_decoder"),
    *("image_token_id", "image_token_index"),
}


@dataclasses.dataclass(frozen=True)
class QFormerConfig(BertConfig):
    """transformers' Blip2QFormerModel; the defaults are those of BLIP-2's retrieval."""

    vocab_size: int = 30523
    cross_attention_frequency: int = 2

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "QFormerConfig":
        """The config of a published qformer_config."""
        return read_config(
            cls,
            {**_ABSENT_QFORMER, **values},
            neutral=_NEUTRAL_QFORMER,
            ignored=UNUSED_TEXT,
            name="Blip2QFormerModel",
        )


@dataclasses.dataclass(frozen=True)
class Blip2Config:
    """transformers' Blip2ForImageTextRetrieval; the defaults are BLIP-2's ViT-g."""

    vision_config: ViTConfig = ViTConfig(
        hidden_size=1408,
        intermediate_size=6144,
        num_hidden_layers=39,
        num_attention_heads=16,
        layer_norm_eps=1e-6,
        patch_size=14,
    )
    qformer_config: QFormerConfig = QFormerConfig()
    num_query_tokens: int = 32
    image_text_hidden_size: int = 256

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Blip2Config":
        """The config of a published config.json."""
        parts = {
            "vision_config": ViTConfig.from_json(
                section(values, "vision_config"),
                absent=_ABSENT_VISION,
                name="Blip2VisionModel",
            ),
            "qformer_config": QFormerConfig.from_json(
                section(values, "qformer_config")
            ),
        }
        return read_config(
            cls,
            {**values, **parts},
            neutral={},
            ignored=_UNUSED,
            name="Blip2ForImageTextRetrieval",
        )


def image_features(
    params: Params, config: Blip2Config, images: Images, *, compute: Compute = Compute()
) -> Float[Array, "b q e"]:
    """Each query's feature of the preprocessed images, float32, not normalised.

    `compute` applies to the vision tower; the Q-Former runs in float32, as in
    transformers.
    """
    states = vit(params["vision_model"], config.vision_config, images, compute=compute)
    queries = (_queries(params, len(images)), states)
    x = _qformer(params["qformer"], config.qformer_config, queries=queries)
    return dense(params["vision_projection"], x)


def text_features(
    params: Params, config: Blip2Config, ids: Ids, mask: Mask
) -> Float[Array, "b e"]:
    """The feature of each text's first token, float32, not normalised."""
    words = word_states(params["embeddings"], ids)
    x = _qformer(params["qformer"], config.qformer_config, words=words, mask=mask)
    return dense(params["text_projection"], x[:, 0])


def match_logits(
    params: Params,
    config: Blip2Config,
    images: Images,
    ids: Ids,
    mask: Mask,
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b 2"]:
    """The logits of "does not match" and "matches" for each text and image, float32.

    They are the mean over the queries, which attend to the words and the image.
    """
    states = vit(params["vision_model"], config.vision_config, images, compute=compute)
    queries = _queries(params, len(images))
    words = word_states(params["embeddings"], ids)
    mask = jnp.concatenate([jnp.ones(queries.shape[:2], bool), mask], axis=1)
    x = _qformer(
        params["qformer"],
        config.qformer_config,
        queries=(queries, states),
        words=words,
        mask=mask,
    )
    logits = dense(params["itm_head"], x[:, : config.num_query_tokens])
    return logits.mean(axis=1)


def init_blip2(key: Key, config: Blip2Config) -> Params:
    """Vision tower, queries, Q-Former, projections and the matching head."""
    heads = {"vision_projection": config.image_text_hidden_size}
    heads |= {"text_projection": config.image_text_hidden_size, "itm_head": 2}
    keys = keys_for(key, "vision", "queries", "words", "qformer", *heads)
    width = config.qformer_config.hidden_size
    queries = jax.random.normal(keys["queries"], (1, config.num_query_tokens, width))
    return {
        "vision_model": init_vit(keys["vision"], config.vision_config),
        "query_tokens": 0.02 * queries,
        "embeddings": init_word_states(keys["words"], config.qformer_config),
        "qformer": _init_qformer(keys["qformer"], config),
        **{name: init_dense(keys[name], width, n) for name, n in heads.items()},
    }


def _queries(params: Params, batch: int) -> Float[Array, "b q d"]:
    tokens = params["query_tokens"].astype(jnp.float32)
    return jnp.broadcast_to(tokens, (batch, *tokens.shape[1:]))


def _qformer(
    params: Params,
    config: QFormerConfig,
    *,
    queries: tuple[Float[Array, "b q d"], Float[Array, "b m e"]] | None = None,
    words: Float[Array, "b w d"] | None = None,
    mask: Mask | None = None,
) -> Float[Array, "b n d"]:
    """The states of the queries, then of the words, float32.

    `queries` is (the queries, the vision tower's states); `mask` marks the queries and
    words to attend to.
    """
    inputs = [] if queries is None else [queries[0]]
    inputs += [] if words is None else [words]
    x = jnp.concatenate(inputs, axis=1)
    x = layer_norm(params["layernorm"], x, eps=config.layer_norm_eps)
    count = 0 if queries is None else queries[0].shape[1]
    for i in range(config.num_hidden_layers):
        layer = params["encoder"]["layer"][str(i)]
        x = bert_attention(layer["attention"], x, x, config=config, mask=mask)
        parts = []
        if queries is not None:
            parts.append(_query_layer(layer, config, x[:, :count], queries[1]))
        if words is not None:
            up, down = layer["intermediate"], layer["output"]
            parts.append(feed_forward(up, down, x[:, count:], config=config))
        x = jnp.concatenate(parts, axis=1)
    return x


def _query_layer(
    layer: Params,
    config: QFormerConfig,
    x: Float[Array, "b q d"],
    states: Float[Array, "b m e"],
) -> Float[Array, "b q d"]:
    """The queries' half of a layer; some have cross-attention."""
    if "crossattention" in layer:
        x = bert_attention(layer["crossattention"], x, states, config=config)
    up, down = layer["intermediate_query"], layer["output_query"]
    return feed_forward(up, down, x, config=config)


def _init_qformer(key: Key, config: Blip2Config) -> Params:
    settings, read = config.qformer_config, config.vision_config.hidden_size
    keys = jax.random.split(key, settings.num_hidden_layers)
    layers = {
        str(i): _init_layer(
            k, settings, read if i % settings.cross_attention_frequency == 0 else None
        )
        for i, k in enumerate(keys)
    }
    return {
        "layernorm": init_norm(settings.hidden_size),
        "encoder": {"layer": layers},
    }


def _init_layer(key: Key, config: QFormerConfig, read: int | None) -> Params:
    """One layer; `read` is the width of the states it cross-attends to, if it does."""
    width, inner = config.hidden_size, config.intermediate_size
    keys = keys_for(key, "attention", "crossattention", "words", "queries")
    up, down = init_feed_forward(keys["words"], width, inner)
    up_query, down_query = init_feed_forward(keys["queries"], width, inner)
    layer = {
        "attention": init_bert_attention(keys["attention"], width, width),
        "intermediate": up,
        "output": down,
        "intermediate_query": up_query,
        "output_query": down_query,
    }
    if read is not None:
        cross = init_bert_attention(keys["crossattention"], width, read)
        layer["crossattention"] = cross
    return layer
