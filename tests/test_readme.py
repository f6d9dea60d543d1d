"""The README says what works: its Python example, its flags and its files."""

import pathlib
import re

import numpy as np
import pytest

from personax.diffusion.solvers import SOLVERS

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_draws_four_pictures():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["pixels"].shape == (4, 32, 32, 3)
    assert np.asarray(names["pixels"]).std() > 20


def test_every_flag_that_is_named_exists():
    known = set(re.findall(r'(?:text|many|number|DEFINE_\w+)\(\s*"(\w+)"', _source()))
    ours = "\n".join(line for line in README.splitlines() if "pytest" not in line)
    # --config.KEY, and the --dry-run of launch/.
    named = set(re.findall(r"--(\w+)", ours)) - {"config", "dry"}
    assert {"prompt", "workdir"} <= named
    assert named <= known


def test_every_solver_is_named():
    for name in SOLVERS:
        assert f"`{name}`" in README


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_every_linked_file_exists(target):
    assert (ROOT / target).exists()


def _source() -> str:
    return "".join(
        (ROOT / "personax" / name).read_text()
        for name in (
            *("command.py", "drawing.py", "picture_inputs.py", "attention_sheet.py"),
            *("sample.py", "search.py", "edit.py", "hints.py"),
            *("train.py", "merge.py", "compress.py", "export.py", "build.py"),
            *("evaluate.py", "study.py", "toy/__main__.py"),
            "training/distributed.py",
        )
    )
