"""Solvers by name: each is a grid of steps and a pure step function."""

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


def get_solver(name: str, eta: float = 0.0) -> Solver:
    """The solver of that name, with `eta` of DDPM's noise in DDIM.

    Raises ValueError for an unknown name, and for an eta with another solver.
    """
    if name not in SOLVERS:
        names = ", ".join(SOLVERS)
        raise ValueError(f"Unknown solver {name!r}; expected one of {names}.")
    if eta and name != "ddim":
        raise ValueError(f"eta applies to the solver ddim; the solver is {name!r}.")
    return ddim(eta) if eta else SOLVERS[name]


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
    "get_solver",
    "heun",
    "plms",
]
