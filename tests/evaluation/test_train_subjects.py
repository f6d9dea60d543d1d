"""Concepts trained together equal those of `personax.train`."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import emoji_custom_diffusion
from personax.evaluation import train_subjects as together
from personax.evaluation.train_subjects import TrainJob, train_jobs
from personax.training.checkpoint import Checkpoints
from personax.training.loop import DivergedError
from personax.training.train import train
from tests.small_models import write_smaller

SUBJECTS = ("dog", "backpack")
STEPS = 3


def make_job(base, folder, subject, steps=STEPS):
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
def trained(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    jobs = [make_job(base, folder, subject) for subject in SUBJECTS]
    train_jobs(jobs, together=2)
    return jobs


def theta(folder):
    return load_file(folder / "concept" / "theta.safetensors")


def test_jobs_trained_together_equal_one_alone(base, trained, tmp_path):
    alone = make_job(base, tmp_path, SUBJECTS[1])
    train(alone.config, alone.folder)
    ours, theirs = theta(trained[1].folder), theta(alone.folder)
    other = theta(trained[0].folder)
    assert ours.keys() == theirs.keys()
    moved = 0.0
    for path, leaf in theirs.items():
        np.testing.assert_allclose(ours[path], leaf, atol=2e-5, err_msg=path)
        moved = max(moved, np.abs(leaf - other[path]).max())
    assert moved > 1e-4  # the two subjects differ
    about = [(each / "concept.json").read_text() for each in (alone.concept,)]
    assert '"class_word": "backpack"' in about[0]


def test_interrupted_jobs_resume_from_their_checkpoint(
    base, trained, tmp_path, monkeypatch
):
    jobs = [make_job(base, tmp_path, subject) for subject in SUBJECTS]
    save = Checkpoints.save

    def stop(self, state, step, source=None):
        save(self, state, step, source)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train_jobs(jobs, together=2)
    assert not any(each.is_done for each in jobs)
    # Another set of jobs does not resume from this one's checkpoint.
    assert together._checkpoints(jobs).is_dir()
    assert not together._checkpoints(jobs[:1]).exists()
    begun, fit = [], together.fit

    def spy(step, state, *args, **options):
        begun.append(int(state.step[0]))
        return fit(step, state, *args, **options)

    monkeypatch.setattr(together, "fit", spy)
    train_jobs(jobs, together=2)
    assert begun == [2]
    for ours, theirs in zip(jobs, trained, strict=True):
        for path, leaf in theta(theirs.folder).items():
            np.testing.assert_array_equal(theta(ours.folder)[path], leaf, err_msg=path)


def test_done_jobs_are_skipped(trained, monkeypatch):
    monkeypatch.setattr(together, "prepare", None)
    train_jobs(trained, together=2)
    assert all(each.seconds > 0 for each in trained)


def test_a_diverged_job_is_named(base, tmp_path):
    one = make_job(base, tmp_path, "dog")
    one.config.optimizer.learning_rate, one.config.optimizer.clip = 1e30, 0.0
    with pytest.raises(DivergedError, match=r"loss is .* of .*dog"):
        train_jobs([one])
    assert not one.is_done
