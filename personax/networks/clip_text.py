"""CLIP's causal text encoder, and the transformer that both towers are made of."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Ids, Key, Params, Text
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.layers import (
    dense,
    init_dense,
    init_norm,
    keys_for,
    layer_norm,
)

# `eos_token_id` in the files of transformers < 4.31, whatever the tokenizer's was.
_LEGACY_EOS = 2

# transformers' defaults, where they differ from SD 1.5's values.
_ABSENT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "eos_token_id": 49407,
}

# Options of text generation and of heads that CLIP lacks: older files list them all.
UNUSED = frozenset(
    [
        *("bos_token_id", "pad_token_id", "projection_dim", "id2label", "label2id"),
        *("chunk_size_feed_forward", "diversity_penalty", "length_penalty"),
        *("encoder_no_repeat_ngram_size", "no_repeat_ngram_size", "max_length"),
        *("min_length", "num_beams", "num_beam_groups", "num_return_sequences"),
        *("repetition_penalty", "return_dict", "temperature", "tie_word_embeddings"),
        *("top_k", "top_p", "typical_p"),
    ]
)
# Dropout would change training; heads may have been pruned from the weights.
NEUTRAL = {
    "attention_dropout": (0.0, 0),
    "dropout": (0.0, 0),
    "pruned_heads": ({},),
}

_ACTIVATIONS = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """What the towers share: the shape of their layers."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float

    def __post_init__(self):
        if self.hidden_act not in _ACTIVATIONS:
            raise ValueError(
                f"hidden_act {self.hidden_act!r} is not one of {list(_ACTIVATIONS)}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not divide "
                f"hidden_size {self.hidden_size}."
            )


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig(TransformerConfig):
    """transformers' CLIPTextModel; the defaults are Stable Diffusion 1.5's."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = _LEGACY_EOS

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CLIPTextConfig":
        """The config of a published config.json."""
        values = {**_ABSENT, **values}
        return read_config(
            cls, values, neutral=NEUTRAL, ignored=UNUSED, name="CLIPTextModel"
        )


def clip_text(
    params: Params,
    config: CLIPTextConfig,
    ids: Ids,
    *,
    layer: int = -1,
    rewrite: Callable[[Text], Text] | None = None,
    compute: Compute = Compute(),
) -> Text:
    """The states of each token after layer `layer` and the final norm, float32.

    `layer` counts from the end: -1 is the last, -2 the penultimate, diffusers'
    `clip_skip=1`. Stable Diffusion 2 was trained on the penultimate layer of 24; its
    published encoder has only the first 23, so that -1 applies as well.

    There is no padding mask, because the attention is causal. Ids from `vocab_size` on
    are rows added to the embedding table. `rewrite` maps the token embeddings before
    positions are added.
    """
    model = params["text_model"]
    positions = model["embeddings"]["position_embedding"]["embedding"]
    if ids.shape[1] > positions.shape[0]:
        raise ValueError(
            f"The text has {ids.shape[1]} tokens, the encoder {positions.shape[0]} "
            "positions."
        )
    if not -config.num_hidden_layers <= layer <= -1:
        raise ValueError(
            f"layer {layer} is not one of the encoder's: -1 (the last) to "
            f"{-config.num_hidden_layers}."
        )
    # An id without a row becomes NaN; plain indexing would take the last row instead.
    table = model["embeddings"]["token_embedding"]["embedding"]
    x = jnp.take(table, ids, axis=0, mode="fill")
    if rewrite is not None:
        x = rewrite(x)
    x = compute.cast(x) + compute.cast(positions[None, : ids.shape[1]])
    depth = config.num_hidden_layers + 1 + layer
    x = transformer(
        model["encoder"], config, x, depth=depth, causal=True, compute=compute
    )
    x = layer_norm(model["final_layer_norm"], x, eps=config.layer_norm_eps)
    return x.astype(jnp.float32)


def pool_text(config: CLIPTextConfig, ids: Ids, states: Text) -> Float[Array, "b d"]:
    """The state at each text's end-of-text token, of the last layer's `states`.

    With the legacy `eos_token_id` 2 it is the highest id, as in transformers, except
    that words added after the vocabulary are skipped, which transformers does not do.
    """
    if config.eos_token_id == _LEGACY_EOS:
        end = jnp.argmax(jnp.where(ids < config.vocab_size, ids, -1), axis=1)
    else:
        end = jnp.argmax(ids == config.eos_token_id, axis=1)
    return jnp.take_along_axis(states, end[:, None, None], axis=1)[:, 0]


def transformer(
    params: Params,
    config: TransformerConfig,
    x: Text,
    *,
    depth: int,
    causal: bool,
    compute: Compute,
) -> Text:
    """`x` after the first `depth` pre-norm layers, in its own dtype."""
    layer = functools.partial(_layer, config=config, causal=causal)
    if compute.remat != "none":
        layer = jax.checkpoint(layer)
    for i in range(depth):
        x = layer(params["layers"][str(i)], x)
    return x


def init_clip_text(key: Key, config: CLIPTextConfig) -> Params:
    """{"text_model": …}: embeddings normal with deviation 0.02, the rest as torch's."""
    keys = keys_for(key, "tokens", "positions", "encoder")
    width = config.hidden_size
    embeddings = {
        "token_embedding": init_embedding(keys["tokens"], config.vocab_size, width),
        "position_embedding": init_embedding(
            keys["positions"], config.max_position_embeddings, width
        ),
    }
    model = {
        "embeddings": embeddings,
        "encoder": init_transformer(keys["encoder"], config),
        "final_layer_norm": init_norm(width),
    }
    return {"text_model": model}


def init_embedding(key: Key, rows: int, width: int) -> Params:
    return {"embedding": 0.02 * jax.random.normal(key, (rows, width))}


def init_transformer(key: Key, config: TransformerConfig) -> Params:
    keys = jax.random.split(key, config.num_hidden_layers)
    return {"layers": {str(i): _init_layer(k, config) for i, k in enumerate(keys)}}


def _layer(params: Params, x: Text, *, config: TransformerConfig, causal: bool) -> Text:
    eps = config.layer_norm_eps
    y = layer_norm(params["layer_norm1"], x, eps=eps)
    x = x + _attention(params["self_attn"], y, config.num_attention_heads, causal)
    y = layer_norm(params["layer_norm2"], x, eps=eps)
    y = _ACTIVATIONS[config.hidden_act](dense(params["mlp"]["fc1"], y))
    return x + dense(params["mlp"]["fc2"], y)


def _attention(params: Params, x: Text, heads: int, causal: bool) -> Text:
    b, n, d = x.shape
    q, k, v = (
        dense(params[name], x).reshape(b, n, heads, d // heads)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    # A few hundred tokens, often a prime number of them: no other kernel pays.
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="xla")
    return dense(params["out_proj"], y.reshape(b, n, d))


def _init_layer(key: Key, config: TransformerConfig) -> Params:
    width, inner = config.hidden_size, config.intermediate_size
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    keys = keys_for(key, *projections, "fc1", "fc2")
    return {
        "self_attn": {
            name: init_dense(keys[name], width, width) for name in projections
        },
        "layer_norm1": init_norm(width),
        "mlp": {
            "fc1": init_dense(keys["fc1"], width, inner),
            "fc2": init_dense(keys["fc2"], inner, width),
        },
        "layer_norm2": init_norm(width),
    }
