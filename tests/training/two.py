"""One of two processes that `test_distributed.py` starts: `two.py WHAT --process=…`."""

import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from personax.cli import distributed_flags
from personax.training import distributed
from personax.training.sharding import everywhere, fetch, make_mesh, over_batch, put


def share() -> None:
    """Arrays and values that both processes hold; process 0 prints."""
    mesh, own = make_mesh(), jax.process_index()
    rows = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    spread = put({"rows": rows, "key": jax.random.key(3)}, everywhere(mesh))
    split = put(spread["rows"], over_batch(mesh))
    assert {shard.data.shape for shard in split.addressable_shards} == {(2, 2)}
    direct = put(jnp.asarray(rows), over_batch(mesh))
    for array in (split, direct):
        np.testing.assert_array_equal(fetch({"a": array})["a"], rows)
    same = jax.random.key_data(spread["key"]) == jax.random.key_data(jax.random.key(3))
    assert np.all(fetch(same))
    assert distributed.broadcast_from_host0(lambda: {"from": own}) == {"from": 0}
    assert distributed.union([3 - own, 7]) == [2, 3, 7]
    distributed.print_on_host0("printed once")


def refuse() -> None:
    """An error that process 0 alone can see."""

    def check():
        assert distributed.is_host0()
        raise ValueError("the disk is full")

    try:
        distributed.broadcast_from_host0(check)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def fail() -> None:
    """Process 1 fails while process 0 waits for it."""
    if jax.process_index() == 1:
        raise KeyError("nothing here")
    distributed.broadcast_from_host0(lambda: None)


def first_dies() -> None:
    """The coordinator is killed while process 1 waits for it."""
    if distributed.is_host0():
        print(f"dies at {time.time()}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.broadcast_from_host0(lambda: None)


def main(argv) -> None:
    with distributed_flags.join():
        globals()[argv[1]]()


if __name__ == "__main__":
    distributed_flags.define_flags()
    app.run(main)
