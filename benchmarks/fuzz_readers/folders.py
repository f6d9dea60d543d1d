"""Configs, and what runs, evaluations, searches and studies keep in folders."""

import functools
import json
import pathlib
import shutil
import tomllib
from typing import Any

import jax
import numpy as np
import optax
import yaml
from ml_collections import ConfigDict

from benchmarks.fuzz_readers.reader import Files, Reader, one, written
from personax.core.config import plain
from personax.data.latents import About, Latents, Record, claim, write_shard
from personax.evaluation import preference_study, results
from personax.evaluation.results import EvalResult, Measurement, Sample
from personax.evaluation.train_subjects import TrainJob
from personax.sampling.guidance_search import resume
from personax.training import workdir
from personax.training.checkpoint import Checkpoints
from personax.training.config import (
    TrainConfig,
    load_config,
    train_config,
)
from personax.training.state import create
from personax.training.writer import Writer


@functools.cache
def _train_configs() -> list[Files]:
    values = workdir.record(TrainConfig(method="lora", method_args={"rank": 2}))
    text = yaml.safe_dump(values, sort_keys=False)
    toml = 'base = "emoji"\nmethod = "lora"\nsteps = 3\n[optimizer]\nb1 = 0.5\n'
    assert tomllib.loads(toml)
    return [
        {"run.yaml": text.encode()},
        {"run.json": json.dumps(values).encode()},
        {"run.toml": toml.encode()},
    ]


def _read_config(folder: pathlib.Path) -> None:
    (path,) = folder.iterdir()
    plain(train_config(load_config(path)))


_DATA = {"base": "abc", "pictures 0": "def"}
_CONFIG = TrainConfig(method="lora")


def _write_workdir(folder: pathlib.Path) -> None:
    workdir.claim(folder, _CONFIG, _DATA)
    with Writer(folder, 0) as writer:
        for step in range(8):
            writer.scalars(step, {"loss": 0.5})
    shutil.rmtree(folder / "tensorboard")
    (folder / "concept").mkdir()
    (folder / "concept" / "concept.json").write_text('{"step": 8}')


def _read_workdir(folder: pathlib.Path) -> None:
    workdir.claim(folder, _CONFIG, _DATA)
    workdir.is_finished(folder, 8)
    with Writer(folder, 5) as writer:
        writer.scalars(5, {"loss": 0.5})


def _state() -> Any:
    theta = {"tokens": {"<v1>": np.ones((1, 4), np.float32)}}
    theta = jax.tree.map(jax.numpy.asarray, theta)
    return create(theta, optax.adam(1e-3).init(theta), jax.random.key(0))


def _write_checkpoints(folder: pathlib.Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        for step in (1, 2):
            checkpoints.save(_state(), step)


def _read_checkpoints(folder: pathlib.Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.newest()
        checkpoints.restore(_state())


def _write_journal(folder: pathlib.Path) -> None:
    for subject in ("dog", "cat"):
        result = EvalResult(
            *("lora", subject, "live", "abc", 3, 400, 1.5),
            {"clip_t": Measurement(0.5, None, 4), "kid": Measurement(0.1, 0.2, 4)},
            *("sheets/lora/dog.png", (8, 8), 2, (Sample("a dog", 0, 1),), ("<v1>",)),
        )
        results.append(folder / "cells.jsonl", result)


def _write_taught(folder: pathlib.Path) -> None:
    (folder / "taught.json").write_text('{"seconds": 1.5}')
    (folder / "_concept").mkdir()
    (folder / "_concept" / "theta.safetensors").touch()


def _read_taught(folder: pathlib.Path) -> None:
    (folder / "_concept").rename(folder / "concept")
    job = TrainJob(ConfigDict(), folder)
    if not job.is_done:  # it is trained again
        raise ValueError("taught.json is damaged")
    assert job.seconds < float("inf")


_SEARCH: dict[str, Any] = {"axes": ["a dog"], "seed": 0, "scores": {"text": "a dog"}}
_CELL = {"weights": [1.0], "scores": {"text": 0.5}, "file": "cells/1.png"}
_OTHER = {"weights": [2.0], "file": ""}
_search = one(
    search__json=json.dumps(_SEARCH),
    cells__jsonl=f"{json.dumps(_CELL)}\n{json.dumps(_CELL | _OTHER)}\n",
)

_QUESTION = {
    **{"kind": "text", "subject": "dog", "left": "a", "right": "b", "id": "q001"},
    **{"prompt": "a dog", "seed": 0, "index": 0, "pictures": "abc"},
}
_KEY = {"format": "personax study 1", "seed": 0, "methods": ["a", "b"]}
_KEY["questions"] = [_QUESTION]
_KEY = {"study": preference_study.digest_of(_KEY), **_KEY}


def _write_study(folder: pathlib.Path) -> None:
    (folder / "study.json").write_text(json.dumps(_KEY))
    votes = {
        **{"format": "personax votes 1", "study": _KEY["study"], "voter": "x"},
        **{"votes": [["q001", "left"]]},
    }
    votes["sum"] = preference_study.checksum(votes["study"], "x", votes["votes"])
    (folder / "votes.json").write_text(json.dumps(votes))


def _read_study(folder: pathlib.Path) -> None:
    key = preference_study.read_key(folder / "study.json")
    preference_study.read_ballots([folder / "votes.json"], key)


def _write_latents(folder: pathlib.Path) -> None:
    about = About(
        **{"source": "folder:x", "split": "train", "pictures": "abc"},
        **{"captioned": True, "count": 5, "sizes": ((16, 16),), "buckets": 0},
        **{"crop": "centre", "flip": True, "vae": "abc", "dtype": "float32"},
        **{"factor": 8, "channels": 4, "shard": 3},
        **{"text_encoder": "abc", "text": (4, 3)},
    )
    folder = folder / "cache"
    claim(folder, about)
    posteriors = np.ones((2, 2, 2, 2, 4), np.float16)
    text, ids = np.ones((4, 3), np.float16), np.arange(4)
    row = Record(0, posteriors, "a dog", text, ids)
    for shard, count in enumerate((3, 1)):
        skipped = ["x.png cannot be read"] * shard
        write_shard(folder, about, shard, [row] * count, skipped)


def _read_latents(folder: pathlib.Path) -> None:
    latents = Latents(folder / "cache")
    latents.digest()
    latents.records(range(len(latents)))


READERS: dict[str, Reader] = {
    "configs": Reader(_train_configs, _read_config),
    "workdirs": Reader(written(_write_workdir), _read_workdir),
    "checkpoints": Reader(written(_write_checkpoints), _read_checkpoints),
    "journals": Reader(
        written(_write_journal), lambda folder: results.read(folder / "cells.jsonl")
    ),
    "taught": Reader(written(_write_taught), _read_taught),
    "searches": Reader(_search, lambda folder: resume(folder, _SEARCH)),
    "studies": Reader(written(_write_study), _read_study),
    "latents": Reader(written(_write_latents), _read_latents),
}
