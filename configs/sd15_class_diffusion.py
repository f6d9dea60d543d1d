"""ClassDiffusion (Huang et al. 2024) on Stable Diffusion 1.5, one concept.

    python -m personax.train --config configs/sd15_class_diffusion.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

Custom Diffusion's K/V and <v1>, reconstruction loss, semantic preservation loss of
weight 1, no regularisation set; 500 steps of batch 2. The learning rate is the
release's 1e-5 times the batch, 2e-5; the paper states 1e-6
(--config.optimizer.learning_rate 5e-7), at which 500 steps of AdamW move a weight by at
most 5e-4. Two concepts: --config.concepts_list FILE --config.steps 800.

The released code's loss: --config.data.augment huggingface
--config.method_args.mask_norm sum_over_mask --config.method_args.pool modifier
--config.method_args.keep_position=False.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "class_diffusion"
    config.method_args = ConfigDict(
        {
            "semantic_weight": 1.0,
            "pool": "eos",
            "keep_position": True,
            "reduce": "mean",
            "prompt": "fixed",
            "mask_norm": "mean",
        }
    )
    config.concept.prompt = "a photo of a {}"
    config.data.flip = True
    config.optimizer.learning_rate = 1e-5
    config.optimizer.scale_by_batch = True
    config.batch = 2
    config.steps = 500
    config.preview.steps = 100
    return config
