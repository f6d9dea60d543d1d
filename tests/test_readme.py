"""The documents name modules, flags, config keys, files and layers that exist."""

import functools
import importlib
import itertools
import pathlib
import re
import runpy
import tomllib

import pytest
from absl import flags

from personax.diffusion.solvers import SOLVERS
from personax.methods import Concept
from personax.training import train as training
from tests.untrained import save_untrained

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.md",
        "docs/*.md",
        "configs/**/*.md",
        "benchmarks/*.md",
        "experiments/*.md",
    )
    for path in ROOT.glob(pattern)
) + sorted(path.relative_to(ROOT) for path in ROOT.glob("personax/assets/**/README.md"))
COMMAND = re.compile(r"python -m ((?:personax|experiments|benchmarks)(?:\.\w+)+)")


SAMPLE, TRAIN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_sampling_example_returns_four_pictures(emoji, tmp_path, monkeypatch):
    ids = (emoji.tokenizer.size,)
    concept = Concept("<v1>", "penguin", ids, (5,), "<v1> penguin")
    folder = tmp_path / "runs" / "quickstart" / "concept"
    save_untrained(folder, emoji, concept, "class_diffusion")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(SAMPLE, names)
    assert names["pictures"].shape == (4, 32, 32, 3)
    assert names["pictures"].std() > 20


def test_the_training_example_trains_the_config(monkeypatch):
    calls = []

    def train(*arguments):
        calls.append(arguments)
        return True

    monkeypatch.setattr(training, "train", train)
    monkeypatch.chdir(ROOT)
    exec(TRAIN, {})
    ((config, folder),) = calls
    assert config.method == "class_diffusion"
    assert folder == pathlib.Path("runs/quickstart")


def test_every_solver_is_named():
    for name in SOLVERS:
        assert f"`{name}`" in README


def test_the_diagram_shows_the_layers_of_the_import_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "importlinter"
    ]["contracts"]
    (layers,) = (
        contract["layers"]
        for contract in contracts
        if contract.get("containers") == ["personax"]
    )
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    assert _diagram_layers(diagram) == [set(layer.split(" | ")) for layer in layers]


def test_the_table_of_folders_lists_every_folder():
    folders = {
        path.name
        for path in (ROOT / "personax").iterdir()
        if (path / "__init__.py").exists()
    }
    assert set(re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE)) == folders


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_is_a_module(document):
    for module in COMMAND.findall((ROOT / document).read_text()):
        if not module.endswith(".NAME"):  # a placeholder
            path = ROOT / module.replace(".", "/")
            files = path.with_suffix(".py"), path / "__main__.py"
            assert any(file.exists() for file in files), module


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_file_exists(document):
    # Python examples may name files that the reader is to write.
    text = re.sub(
        r"```python.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL
    )
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith(("http", "#")):
            assert (ROOT / document).parent.joinpath(target).exists(), target
    folders = "personax|configs|docs|tests|benchmarks|experiments|launch"
    for name in re.findall(rf"(?<![\w/.])(?:{folders})/[\w/]+\.\w+", text):
        assert (ROOT / name).exists() or "NAME" in name, name


def test_every_file_of_the_architecture_exists():
    files = re.findall(r"`(\w+/[\w/]+\.py)`", _sections()["Architecture"])
    assert len(files) > 10
    for file in files:
        assert (ROOT / "personax" / file).exists(), file


@pytest.mark.parametrize("title", ["Sampling", "Editing", "Training", "Evaluation"])
def test_every_flag_belongs_to_a_command_of_its_section(title):
    section = _sections()[title]
    defined = set().union(*map(_flags, set(COMMAND.findall(section))))
    named = set(re.findall(r"(?<![\w-])--(\w+)", section)) - {"config"}
    assert named
    assert named <= defined


def test_every_flag_belongs_to_its_command():
    lines = re.sub(r"\\\n *", "", README).replace("`", "\n").splitlines()
    commands = [line for line in lines if COMMAND.search(line)]
    assert len(commands) > 20
    for line in commands:
        module = COMMAND.search(line)[1]
        assert set(re.findall(r" --(\w+)", line)) <= _flags(module), line


@pytest.mark.parametrize("document", ["README.md", "configs/README.md"])
def test_every_config_key_exists(document):
    keys = re.findall(r"--config\.([\w.]+)", (ROOT / document).read_text())
    assert keys
    configs = [
        runpy.run_path(str(ROOT / "configs" / folder / "common.py"))["get_config"]()
        for folder in ("", "evaluate")
    ]
    for key in keys:
        if key != "KEY":  # a placeholder
            assert any(_has_key(config, key.split(".")) for config in configs), key


def _sections() -> dict[str, str]:
    """The text below each heading of the README."""
    _, *parts = re.split(r"^## (.*)$", README, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@functools.cache
def _flags(module: str) -> set[str]:
    """The flags that a command defines; they are removed again."""
    known = set(flags.FLAGS)
    package = (ROOT / module.replace(".", "/")).is_dir()
    command = importlib.import_module(f"{module}.__main__" if package else module)
    imported = set(flags.FLAGS)
    command.define_flags()
    own = set(flags.FLAGS) - known
    for name in set(flags.FLAGS) - imported:
        delattr(flags.FLAGS, name)
    return own


def _has_key(config, parts: list[str]) -> bool:
    """Whether the path leads to a value; the keys of method_args are the method's."""
    for part in parts:
        if part == "method_args":
            return True
        if part not in config:
            return False
        config = config[part]
    return True


def _diagram_layers(diagram: str) -> list[set[str]]:
    """The layers of a Mermaid flowchart, from the top; the first node is a list."""
    below = {}
    for line in diagram.splitlines():
        groups = [frozenset(re.findall(r"\w+", part)) for part in line.split("-->")]
        below.update(itertools.pairwise(groups))
    (commands,) = re.findall(r'commands\["(.*)"\]', diagram)
    layers, layer = [set(commands.split(", "))], frozenset({"commands"})
    while layer := below.get(layer):
        layers.append(set(layer))
    return layers
