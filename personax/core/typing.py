"""The shape vocabulary: one letter per axis, everywhere.

b images · h w latent rows, columns · c channels · q = h*w · n tokens · d text width
m heads · e head width · s sampling steps · k concepts
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int

Params = dict[str, Any]  # nested; "unet/down_blocks/0/attentions/0/…/attn2/to_k/kernel"
Theta = dict[str, Any]  # {part: whatever that part trains}
Metrics = Mapping[str, Array]
Key = jax.Array  # a typed key, jax.random.key

Images = Float[Array, "b height width channels"]  # NHWC, [-1, 1]
Latents = Float[Array, "b h w c"]
Ids = Int[Array, "b n"]
Text = Float[Array, "b n d"]
TextOf = Callable[[Any], Text]  # the text that a site reads, where sites differ
Keys = Float[Array, "b n m e"]
Probs = Float[Array, "b m q n"]
AttentionMaps = dict[str, Float[Array, "b _ _ _"]]  # {site: its probabilities}
ConceptMask = Bool[Array, "k b n"]
