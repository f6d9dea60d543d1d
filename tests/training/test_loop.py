"""The training loop: which steps run, when hooks and logs are called, divergence."""

import jax
import jax.numpy as jnp
import pytest

from personax.training.loop import DivergedError, Hook, fit
from personax.training.state import create

pytestmark = pytest.mark.quick


class Source:
    """Batches that are their step's number."""

    def batch(self, step):
        return step


def step(state, batch):
    """Add the batch to theta; the loss is the new theta."""
    assert int(state.step) == batch
    total = state.theta["total"] + batch
    state = state.replace(step=state.step + 1, theta={"total": total})
    return state, {"loss": total}


def start(at=0):
    state = create({"total": jnp.float32(0)}, None, jax.random.key(0))
    return state.replace(step=jnp.int32(at))


def every(n, calls, name):
    return Hook(
        lambda step: step % n == 0,
        lambda step, state: calls.append((name, step, float(state.theta["total"]))),
    )


def test_every_step_sees_its_batch_once():
    state = fit(step, start(), Source(), steps=5)
    assert (int(state.step), float(state.theta["total"])) == (5, 0 + 1 + 2 + 3 + 4)
    resumed = fit(step, start(3), Source(), steps=5)
    assert float(resumed.theta["total"]) == 3 + 4


def test_hooks_run_in_order_at_their_steps_and_at_step_0_of_a_run_from_scratch():
    calls = []
    hooks = [every(2, calls, "a"), every(4, calls, "b")]
    fit(step, start(), Source(), hooks, steps=5)
    assert calls == [
        ("a", 0, 0.0),
        ("b", 0, 0.0),
        ("a", 2, 1.0),
        ("a", 4, 6.0),
        ("b", 4, 6.0),
    ]
    calls.clear()
    fit(step, start(4), Source(), hooks, steps=5)
    assert calls == []


def test_metrics_are_logged_once_before_hooks_and_at_the_end():
    calls = []
    log = lambda records: calls.append([step for step, _ in records])  # noqa: E731
    hook = Hook(lambda step: step == 4, lambda step, state: calls.append("hook"))
    fit(step, start(), Source(), [hook], steps=8, log=log, log_every=3)
    assert calls == [[1, 2, 3], [4], "hook", [5, 6], [7, 8]]


def test_a_stopped_run_returns_the_state_before_the_step():
    state = fit(step, start(), Source(), steps=9, should_stop=lambda step: step == 2)
    assert int(state.step) == 2


def test_a_metric_that_is_not_finite_raises_after_the_steps_before_are_logged():
    def diverging(state, batch):
        state, _ = step(state, batch)
        return state, {"loss": jnp.float32(jnp.nan if batch == 2 else 1.0)}

    logged = []
    with pytest.raises(DivergedError, match="loss is nan at step 3") as error:
        fit(diverging, start(), Source(), steps=5, log=logged.extend)
    assert [step for step, _ in logged] == [1, 2]
    assert error.value.step == 3
