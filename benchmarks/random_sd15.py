"""Writes a base of Stable Diffusion 1.5's size with random weights.

    python -m benchmarks.random_sd15 DIR

For runs at full size where no pretrained weights can be had: diffusers' layout, 2 GB in
float16. The tokenizer is the embedded base's, told to pad to 77 tokens.
"""

import sys

import torch

from benchmarks import pair

if __name__ == "__main__":
    torch.manual_seed(0)
    pair.sd15_pipeline().to(torch.float16).save_pretrained(sys.argv[1])
