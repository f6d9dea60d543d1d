"""A training run: what is on disk when, seen from inside the process."""

import pytest

from configs import emoji_custom_diffusion
from personax.core.files import read_journal
from personax.training.checkpoint import Checkpoints
from personax.training.train import train
from tests.small_models import write_smaller


@pytest.fixture
def config(tmp_path):
    config = emoji_custom_diffusion.get_config()
    config.base, config.prior.source = str(write_smaller(tmp_path / "base")), ""
    config.batch, config.steps, config.preview.prompts = 8, 3, ()
    config.validation.every, config.validation.count = 3, 8
    return config


def test_no_checkpoint_is_ahead_of_the_logs(config, tmp_path, monkeypatch):
    logged, save = {}, Checkpoints.save

    def recorded(self, state, step, source=None):
        logged.setdefault(step, read_journal(tmp_path / "run" / "metrics.jsonl"))
        save(self, state, step, source)

    monkeypatch.setattr(Checkpoints, "save", recorded)
    config.save_every = 2
    assert train(config, tmp_path / "run")
    assert {step: lines[-1]["step"] for step, lines in logged.items()} == {2: 2, 3: 3}
    # The validation loss of the last step, too, which no regular checkpoint follows.
    assert "validation/loss" in logged[3][-1]
