"""Teach a text-to-image diffusion model concepts of your own, in JAX."""

__version__ = "0.1.0"
