"""Commands that resume: how each is started, and what must not depend on interruptions.

Used by `benchmarks.kills` and `benchmarks.preemptions`.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from personax.core.files import digest_file, read_journal

_ROOT = pathlib.Path(__file__).parents[1]


class Command(NamedTuple):
    """A command that writes a folder, in short."""

    arguments: Callable[[pathlib.Path], Sequence[str]]  # of its folder
    results: Callable[[pathlib.Path], Mapping[str, str]]  # {name: digest}


def start(
    arguments: Sequence[str], log: pathlib.Path, **environment: str
) -> subprocess.Popen[bytes]:
    """Start `python -m ARGUMENTS` in a session of its own, on the CPU.

    Its output is added to LOG.out and LOG.err.
    """
    out, err = (log.with_suffix(suffix).open("ab") for suffix in (".out", ".err"))
    with out, err:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=out,
            stderr=err,
            cwd=_ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
            start_new_session=True,
        )


def training(folder: pathlib.Path, *more: str) -> list[str]:
    """The arguments of a short training run, with previews and a validation loss."""
    return [
        "personax.train",
        f"--workdir={folder}",
        "--config=configs/quickstart.py",
        "--config.steps=24",
        "--config.save_every=4",
        "--config.log_every=1",
        "--config.batch=1",
        "--config.preview.images=1",
        "--config.preview.steps=2",
        "--config.preview.every=8",
        "--config.validation.every=8",
        "--config.validation.count=2",
        "--config.prior.source=",
        *more,
    ]


def trained(folder: pathlib.Path) -> dict[str, str]:
    """Digests of a run's theta, and of the metrics of each step."""
    return {
        "theta": digest_file(folder / "concept" / "theta.safetensors"),
        "metrics": _of_records(read_journal(folder / "metrics.jsonl")),
    }


def commands(scratch: pathlib.Path) -> dict[str, Command]:
    """{name: command}; `scratch` holds their configs and inputs."""
    config = scratch / "evaluation.py"
    config.write_text(_EVALUATION)
    return {
        "train": Command(training, trained),
        "prior": Command(
            _prior, lambda folder: {**trained(folder), **_prior_set(folder)}
        ),
        "evaluate": Command(
            lambda folder: [
                "personax.evaluate",
                f"--config={config}",
                f"--workdir={folder}",
            ],
            _evaluated,
        ),
        "cache": Command(_cache, _files),
        "search": Command(_search, _searched),
    }


def _prior(folder: pathlib.Path) -> list[str]:
    return training(
        folder,
        "--config.steps=4",
        "--config.prior.source=generated",
        "--config.prior.count=12",
        "--config.prior.batch=2",
        "--config.prior.steps=4",
        f"--config.prior.cache={folder / 'prior'}",
    )


def _prior_set(folder: pathlib.Path) -> dict[str, str]:
    return {**trained(folder), **_files(folder / "prior")}


_EVALUATION = """
from ml_collections import ConfigDict

from configs.evaluate import emoji


def get_config():
    config = emoji.get_config()
    config.subjects.names = ("dog", "penguin")
    config.pairs, config.pair_rows = (), ConfigDict()
    config.rows = ConfigDict({"lora": config.rows.lora})
    config.rows.lora.changes.steps = 4
    config.prompts.live = ("a photo of a {}", "a {} at night")
    config.images = config.report.images = 2
    config.draw.steps, config.bootstrap, config.together = 2, 5, 1
    return config
"""


def _evaluated(folder: pathlib.Path) -> dict[str, str]:
    records = read_journal(folder / "evaluation.jsonl")
    kept = [{k: v for k, v in line.items() if k != "seconds"} for line in records]
    return {"results": _of_records(sorted(kept, key=json.dumps))}


def _cache(folder: pathlib.Path) -> list[str]:
    return [
        "personax.cache",
        "--source=portraits:people:96",
        "--batch=8",
        "--shard=16",
        "--flip",
        "--text",
        f"--out={folder}",
    ]


def _search(folder: pathlib.Path) -> list[str]:
    return [
        "personax.search",
        "--axis=1..4:a dog",
        "--axis=0..2:at night",
        "--num_images=2",
        "--steps=2",
        f"--out={folder}",
    ]


def _searched(folder: pathlib.Path) -> dict[str, str]:
    cells = read_journal(folder / "cells.jsonl")
    return {"cells": _of_records(sorted(cells, key=json.dumps))}


def _files(folder: pathlib.Path) -> dict[str, str]:
    """{path: digest} of all files in and below a folder."""
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _of_records(records: Sequence[Mapping]) -> str:
    text = json.dumps(records, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
