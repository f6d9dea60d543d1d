"""Solvers by name; each is a grid of steps and a pure step function."""

from personax.diffusion.solvers.ddim import ddim
from personax.diffusion.solvers.ddpm import ddpm
from personax.diffusion.solvers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from personax.diffusion.solvers.euler import euler, euler_ancestral
from personax.diffusion.solvers.grid import Grid
from personax.diffusion.solvers.heun import heun
from personax.diffusion.solvers.plms import plms
from personax.diffusion.solvers.solver import Solver

SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm(),
    "ddim": ddim(),
    "euler": euler(),
    "euler_ancestral": euler_ancestral(),
    "heun": heun(),
    "dpmpp_2m": dpmpp_2m(),
    "dpmpp_2m_sde": dpmpp_2m_sde(),
    "plms": plms(),
}

__all__ = [
    "SOLVERS",
    "Grid",
    "Solver",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "euler",
    "euler_ancestral",
    "heun",
    "plms",
]
