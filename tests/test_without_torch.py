"""personax imports and runs where torch and diffusers cannot be imported."""

import subprocess
import sys

CODE = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError
sys.modules["diffusers"] = None

import importlib, pkgutil
import personax
for module in pkgutil.walk_packages(personax.__path__, "personax."):
    importlib.import_module(module.name)

from personax.loading import load_base
from personax.networks.tokenizer import tokenize
from personax.core.tree import count
base = load_base()
ids = tokenize(base.tokenizer, ["a photo of a dog"])
print(count(base.params), ids[0, :7].tolist())
"""


def test_everything_imports_and_a_base_loads_without_torch():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "13024211 [1210, 320, 527, 523, 320, 693, 1211]\n"
