"""Subjects taught together are those that `personax.train` teaches alone."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import emoji_custom_diffusion
from personax.evaluation import train_subjects as together
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.training.checkpoint import Checkpoints
from personax.training.train import train
from tests.small_models import write_smaller

SUBJECTS = ("dog", "backpack")
STEPS = 3


def lesson(base, folder, subject, steps=STEPS):
    config = emoji_custom_diffusion.get_config()
    config.base, config.prior.source = str(base), ""
    config.batch, config.steps, config.save_every = 8, steps, 2
    config.preview.prompts, config.log_every = (), 1
    config.concept.images = config.concept.class_word = subject
    return TrainJob(config, folder / subject)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_smaller(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def taught(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    lessons = [lesson(base, folder, subject) for subject in SUBJECTS]
    train_jobs(lessons, together=2)
    return lessons


def theta(folder):
    return load_file(folder / "concept" / "theta.safetensors")


def test_together_is_as_alone(base, taught, tmp_path):
    alone = lesson(base, tmp_path, SUBJECTS[1])
    train(alone.config, alone.folder)
    ours, theirs = theta(taught[1].folder), theta(alone.folder)
    other = theta(taught[0].folder)
    assert ours.keys() == theirs.keys()
    moved = 0.0
    for path, leaf in theirs.items():
        np.testing.assert_allclose(ours[path], leaf, atol=2e-5, err_msg=path)
        moved = max(moved, np.abs(leaf - other[path]).max())
    assert moved > 1e-4  # the two subjects did not learn the same
    about = [(each / "concept.json").read_text() for each in (alone.concept,)]
    assert '"class_word": "backpack"' in about[0]


def test_a_stopped_lesson_goes_on_from_its_checkpoint(
    base, taught, tmp_path, monkeypatch
):
    lessons = [lesson(base, tmp_path, subject) for subject in SUBJECTS]
    save = Checkpoints.save

    def stop(self, state, step, source=None):
        save(self, state, step, source)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train_jobs(lessons, together=2)
    assert not any(each.is_done for each in lessons)
    # What two have reached is not gone on from by one of them.
    assert together._checkpoints(lessons).is_dir()
    assert not together._checkpoints(lessons[:1]).exists()
    begun = []
    monkeypatch.setattr(
        together,
        "_bar",
        lambda lessons, start: begun.append(start) or range(start, STEPS),
    )
    train_jobs(lessons, together=2)
    assert begun == [2]
    for ours, theirs in zip(lessons, taught, strict=True):
        for path, leaf in theta(theirs.folder).items():
            np.testing.assert_array_equal(theta(ours.folder)[path], leaf, err_msg=path)


def test_what_is_taught_is_not_taught_again(taught, monkeypatch):
    monkeypatch.setattr(together, "prepare", None)
    train_jobs(taught, together=2)
    assert all(each.seconds > 0 for each in taught)


def test_a_loss_that_is_no_number_names_the_row(base, tmp_path):
    one = lesson(base, tmp_path, "dog")
    one.config.optimizer.learning_rate, one.config.optimizer.clip = 1e30, 0.0
    with pytest.raises(SystemExit, match=r"loss is .* of .*dog"):
        train_jobs([one])
    assert not one.is_done
