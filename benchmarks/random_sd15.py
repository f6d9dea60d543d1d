"""Write a base of Stable Diffusion 1.5's size with random weights.

    python -m benchmarks.random_sd15 DIR

For runs at full size without pretrained weights: diffusers' layout, 2 GB in float16.
The tokenizer is the embedded base's, padded to 77 tokens.
"""

import sys

import torch

from benchmarks import torch_models

if __name__ == "__main__":
    torch.manual_seed(0)
    torch_models.sd15_pipeline().to(torch.float16).save_pretrained(sys.argv[1])
