"""Solvers by name: each is a grid of steps and a pure step function."""

from personax.diffusion.solvers.ddim import ddim
from personax.diffusion.solvers.ddpm import ddpm
from personax.diffusion.solvers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from personax.diffusion.solvers.euler import euler, euler_ancestral
from personax.diffusion.solvers.grid import Grid
from personax.diffusion.solvers.heun import heun
from personax.diffusion.solvers.lcm import lcm
from personax.diffusion.solvers.linear_multistep import deis, lms
from personax.diffusion.solvers.plms import plms
from personax.diffusion.solvers.solver import Solver
from personax.diffusion.solvers.unipc import unipc

SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm(),
    "ddim": ddim(),
    "euler": euler(),
    "euler_ancestral": euler_ancestral(),
    "heun": heun(),
    "dpmpp_2m": dpmpp_2m(),
    "dpmpp_2m_sde": dpmpp_2m_sde(),
    "plms": plms(),
    "lms": lms(),
    "deis": deis(),
    "unipc": unipc(),
    "lcm": lcm(),
}


def get_solver(name: str, eta: float = 0.0) -> Solver:
    """The solver of that name, with `eta` of DDPM's noise in DDIM.

    Raises ValueError for an unknown name, such as that of an unknown scheduler class in
    `ScheduleConfig.solver`, and for an eta with another solver.
    """
    names = ", ".join(SOLVERS)
    if name not in SOLVERS and name.endswith("Scheduler"):
        raise ValueError(
            f"The base's {name} is not computed; select a solver: --solver {names}."
        )
    if name not in SOLVERS:
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
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "euler",
    "euler_ancestral",
    "get_solver",
    "heun",
    "lcm",
    "lms",
    "plms",
    "unipc",
]
