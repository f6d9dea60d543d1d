"""Sampling with any network and any solver, in one scan."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from personax.core.typing import Latents
from personax.diffusion.solvers.ddim import ddim
from personax.diffusion.solvers.grid import Grid, reverse
from personax.diffusion.solvers.solver import Solver

# (x, t, row index) -> (the network's own output, attention maps); x is variance
# preserving. Solvers convert the output at the rates of their rows.
NetworkFn = Callable[
    [Latents, Float[Array, ""], Int[Array, ""]], tuple[Latents, Mapping[Any, Any]]
]
# (row index, x, maps, carry) -> (x, carry), after each row.
Post = Callable[[Int[Array, ""], Latents, Mapping[Any, Any], Any], tuple[Latents, Any]]


def sample(
    network_fn: NetworkFn,
    solver: Solver,
    grid: Grid,
    x: Latents,
    keys: Key[Array, " b"] | None = None,
    post: Post | None = None,
    carry: Any = None,
) -> Latents:
    """Latents at the end of the grid, from x at its start.

    `x` is `grid.start * start_noise(...)`, or latents noised to the first row's rates.
    `keys` has one typed key per image; row i of the grid draws from fold_in(key, i), so
    an image depends on its own key only. Deterministic solvers need no keys. `post`
    edits x after every row and threads `carry`.
    """
    return sample_with_state(network_fn, solver, grid, x, keys, post, carry)[0]


def sample_with_state(
    network_fn: NetworkFn,
    solver: Solver,
    grid: Grid,
    x: Latents,
    keys: Key[Array, " b"] | None = None,
    post: Post | None = None,
    carry: Any = None,
) -> tuple[Latents, Any]:
    """(what `sample` returns, the carry after the last row)."""

    def body(loop, scanned):
        x, state, carry = loop
        i, row = scanned
        output, maps = network_fn(x, row.t, i)
        own = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        x, state = solver.step(x, state, output.astype(x.dtype), row, own)
        if post is not None:
            x, carry = post(i, x, maps, carry)
        return (x, state, carry), None

    rows = (jnp.arange(grid.t.shape[0]), grid)
    (x, _, carry), _ = jax.lax.scan(body, (x, solver.init(x), carry), rows)
    return x, carry


def invert_path(
    network_fn: NetworkFn, grid: Grid, z0: Latents
) -> Float[Array, "s1 b h w c"]:
    """DDIM inversion: the x before each row of `grid`, followed by z0.

    From path[0] DDIM over `grid` returns to about z0, exactly as the steps grow small
    (section 4.3, Song et al. 2021). `network_fn` gets the index of the row that it
    inverts.
    """
    last = grid.t.shape[0] - 1

    def undo(x: Latents, t: Float[Array, ""], i: Int[Array, ""]):
        return network_fn(x, t, last - i)

    def record(i, x, maps, path):
        return x, path.at[last - i].set(x)

    path = jnp.zeros((last + 2, *z0.shape), z0.dtype).at[-1].set(z0)
    return sample_with_state(undo, ddim(), reverse(grid), z0, None, record, path)[1]


def image_keys(key: Key[Array, ""], indices: Int[Array, " b"]) -> Key[Array, " b"]:
    """One key per image, which depends on the image's index, not on its batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def start_noise(
    key: Key[Array, ""], indices: Int[Array, " b"], shape: Sequence[int]
) -> Latents:
    """Unit normal latents of `shape` (h, w, c), one per image index, in float32."""
    keys = image_keys(key, indices)
    return jax.vmap(lambda own: jax.random.normal(own, tuple(shape)))(keys)
