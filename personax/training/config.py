"""The training config: type, range and default of every key.

configs/common.py spells the same defaults for config files, where "", 0 and () stand
for None; `personax.core.config.parse` converts one into the other.
"""

import contextlib
import dataclasses
import importlib.util
import json
import pathlib
import sys
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

import yaml
from ml_collections import ConfigDict

import personax
from personax.core.config import LARGEST_SEED, LARGEST_SIDE, option, parse, plain
from personax.core.errors import one_line
from personax.core.files import expand, read_text
from personax.core.tree import nearest
from personax.data.augment import CROP, Augmentation
from personax.loading import EMBEDDED

# What no number of a config exceeds: counts, and the int32 of a step.
_COUNT, _STEPS = 10**7, 2**31 - 1

CAPTIONS = ("prompt", "own", "none")
HINTS = ("canny",)
OPTIMIZERS = ("adamw", "adamw_8bit", "muon", "lion", "sgd", "adafactor")
SCHEDULES = ("constant", "linear", "cosine")
PRIOR_SOURCES = ("generated", "world", "folder", "retrieved")

Rules = tuple[tuple[str, str], ...]  # see `training.sharding`


@dataclasses.dataclass(frozen=True)
class LoadingConfig:
    """How the base is read; see `loading.load_base`."""

    variant: str | None = None
    allow_pickle: bool = False
    # A directory or id with a single file's configs.
    config: str | None = option(None, path=True)
    vae: str | None = option(None, path=True)  # an autoencoder instead of the base's
    param_dtype: str = "float32"

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `load_base`."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ConceptConfig:
    """A concept: its pictures and the words for it; see `training.concept_text`."""

    images: str = option("dog", path=True)
    masks: str | None = option(None, path=True)
    placeholder: str | None = "<v1>"  # None: an existing word is trained
    class_word: str | None = None  # None: that of a bundled subject
    phrase: str = "{placeholder} {class_word}"
    prompt: str = "photo of a {}"
    # None: the class word's last token.
    initial: str | None = option("ktn+pll+ucd", path=True)
    vectors: int = option(1, least=1, most=1024)
    prior_prompt: str | None = None  # None: the prompt with the class word alone
    prior_images: str | None = option(None, path=True)
    captions: str = option("prompt", choices=("prompt", "own"))
    caption_column: str | None = None  # None: text or caption


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """A large set of pictures in place of the concept's own."""

    source: str | None = option(None, path=True)
    data_dir: str | None = option(None, path=True)
    split: str = "train"
    captions: str = option("prompt", choices=CAPTIONS)
    flip: bool = False
    crop: str | None = option(None, choices=CROP)
    buckets: int | None = option(None, least=1, most=LARGEST_SIDE)  # None: one size
    workers: int = option(0, least=0, most=1024)
    hint: str | None = option(None, choices=HINTS)
    caption_column: str | None = None  # None: text or caption
    image_column: str | None = None  # None: the first with pictures


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """The regularisation set; the numbers are Custom Diffusion's.

    A count of 0 is every picture of a folder, or every one that is similar enough.
    """

    source: str | None = option(None, choices=PRIOR_SOURCES)
    count: int = option(200, least=0, most=_COUNT)  # DreamBooth uses 1000
    weight: float = option(1.0, least=0, most=1e6)
    # Of the captions' cosine similarity in CLIP's text space.
    threshold: float = option(0.85, least=-1, most=1)
    clip: str = option(EMBEDDED, path=True)  # or a directory
    # The release's sample.py: 50 steps of DDIM with all of DDPM's noise.
    steps: int = option(50, least=1, most=1000)
    guidance: float = option(6.0, least=-1000, most=1000)
    eta: float = option(1.0, least=0, most=1)
    batch: int = option(8, least=1, most=65536)
    seed: int = option(0, least=0, most=LARGEST_SEED)
    cache: str = "~/.cache/personax/prior"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """See `training.optimizer`."""

    name: str = option("adamw", choices=OPTIMIZERS)
    # Below 1e-12 float32 parameters do not change.
    learning_rate: float = option(1e-5, least=1e-12)
    # Of parts of theta with their own.
    learning_rates: Mapping[str, float | None] = option(
        default_factory=lambda: dict.fromkeys(
            ("weights", "lora", "text_encoder", "tokens")
        ),
        least=1e-12,
    )
    scale_by_batch: bool = False
    schedule: str = option("constant", choices=SCHEDULES)
    warmup: int = option(0, least=0, most=_STEPS)
    clip: float | None = option(1.0, least=1e-12)  # the norm of the gradient
    weight_decay: float = option(1e-2, least=0, most=1e6)
    b1: float = option(0.9, least=0, below=1)
    b2: float = option(0.999, least=0, below=1)
    eps: float = option(1e-8, above=0, most=1)


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """Devices per axis of the mesh; -1 takes what the other axis leaves."""

    data: int = option(-1, least=-1, most=_COUNT)
    fsdp: int = option(1, least=-1, most=_COUNT)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The devices, and how parameters are sharded; see `training.sharding`."""

    shape: MeshShape = MeshShape()
    base_rules: Rules = ((".*", "replicate"),)
    theta_rules: Rules = ((".*", "replicate"),)


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    """The pictures that a run draws of itself; see `training.preview`."""

    prompts: tuple[str, ...] = ("photo of a {}",)
    images: int = option(4, least=1, most=1024)  # per prompt
    steps: int = option(25, least=1, most=1000)
    guidance: float = option(3.0, least=-1000, most=1000)
    unconditional: str = option("own", choices=("own", "base"))
    # None: at the start and the end.
    every: int | None = option(None, least=1, most=_STEPS)


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """The validation loss; see `training.validation`."""

    every: int | None = option(None, least=1, most=_STEPS)  # None: never
    count: int = option(16, least=1, most=_COUNT)
    images: str | None = option(None, path=True)  # None: the training pictures


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A run of `personax.train`. Lengths are in steps."""

    base: str = option(EMBEDDED, path=True)
    loading: LoadingConfig = LoadingConfig()
    # Concept folders that this run starts from.
    before: tuple[str, ...] = option((), path=True)
    seed: int = option(0, least=0, most=LARGEST_SEED)
    # Side in pixels; None: the base's own.
    size: int | None = option(None, least=1, most=LARGEST_SIDE)
    method: str = ""
    method_args: Mapping[str, Any] = field(default_factory=dict)
    concept: ConceptConfig = ConceptConfig()
    corpus: str | None = option(None, path=True)
    concepts_list: str | None = option(None, path=True)
    data: Augmentation = Augmentation()
    stream: StreamConfig = StreamConfig()
    prior: PriorConfig = PriorConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: int = option(4, least=1, most=65536)
    accumulate: int = option(1, least=1, most=65536)
    steps: int = option(250, least=1, most=_STEPS)
    ema_decay: float | None = option(None, above=0, below=1)
    dtype: str = option("float32", choices=("float32", "bfloat16", "float16"))
    remat: str = option("none", choices=("none", "layer", "block"))
    mesh: MeshConfig = MeshConfig()
    log_every: int = option(10, least=1, most=_STEPS)
    save_every: int = option(100, least=1, most=_STEPS)
    keep: int = option(2, least=1, most=_COUNT)  # checkpoints
    preview: PreviewConfig = PreviewConfig()
    validation: ValidationConfig = ValidationConfig()


def train_config(values: TrainConfig | ConfigDict | Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig from a ConfigDict or a mapping, or the TrainConfig itself.

    Raises what `parse` raises.
    """
    if isinstance(values, TrainConfig):
        return values
    if isinstance(values, ConfigDict):
        return parse(TrainConfig, ConfigDict.to_dict(values))
    return parse(TrainConfig, values)


# The configs of this project, in a checkout.
_PROJECT = pathlib.Path(personax.__file__).parents[1] / "configs"

# Config files that are read, not executed: the reader of their text, the format's name.
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    ".yaml": (yaml.safe_load, "YAML"),
    ".yml": (yaml.safe_load, "YAML"),
    ".toml": (tomllib.loads, "TOML"),
    ".json": (json.loads, "JSON"),
}


def is_read(path: str | pathlib.Path) -> bool:
    """Whether a config file is a tree of values, and not a Python file.

    Raises ValueError for a file that is neither.
    """
    suffix = pathlib.Path(path).suffix
    if suffix not in (".py", *_READERS):
        raise ValueError(
            f"{path} is no config file; expected .py, {', '.join(_READERS)}."
        )
    return suffix in _READERS


def load_config(path: str | pathlib.Path) -> ConfigDict:
    """The config of a Python file with `get_config()`, or of YAML, TOML or JSON.

    Those hold the tree of a run's config.yaml; keys that they leave out have their
    defaults. "FILE.py:ARGUMENT" is `get_config(ARGUMENT)`. A Python file may import its
    siblings and those of this project: `from configs import common`. Raises
    FileNotFoundError for a missing file, ValueError for an invalid one or an unknown
    key.
    """
    name, _, argument = str(path).partition(".py:")
    file = expand(f"{name}.py" if argument else path)
    read = is_read(file)
    if not file.is_file() and (_PROJECT.parent / file).is_file():
        file = _PROJECT.parent / file  # configs/NAME.py from any working directory
    if not file.is_file():
        near = nearest(file.name, [other.name for other in file.parent.glob("*.*")])
        raise FileNotFoundError(f"There is no config {path}; nearest: {near}.")
    if read:
        return _read(file)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None  # of a .py file
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _siblings(file):
        try:
            spec.loader.exec_module(module)
            config = module.get_config(*([argument] if argument else []))
        except (Exception, SystemExit) as error:  # a config is a program
            kind = type(error).__name__
            raise ValueError(f"{file} cannot be executed: {kind}: {error}") from error
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise ValueError(f"get_config() of {file} gives {kind}; expected a ConfigDict.")
    return config


@contextlib.contextmanager
def _siblings(file: pathlib.Path) -> Iterator[None]:
    """Let a config import "configs": its own folder of that name, then this project's.

    Another package of that name, in the working directory or imported by a program
    that uses this library, is kept apart.
    """
    own = [each for each in file.absolute().parents if each.name == "configs"]
    package = types.ModuleType("configs")
    package.__path__ = [str(each) for each in (*own, _PROJECT)]
    hidden = {name: sys.modules.pop(name) for name in _configs_modules()}
    sys.modules["configs"] = package
    try:
        yield
    finally:
        for name in _configs_modules():
            del sys.modules[name]
        sys.modules |= hidden


def _configs_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "configs"]


def _read(file: pathlib.Path) -> ConfigDict:
    reader, name = _READERS[file.suffix]
    text = read_text(file)
    try:
        values = reader(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{file} is not valid YAML: {where}{error.problem}.")
    except (yaml.YAMLError, ValueError) as error:  # of all formats
        raise ValueError(f"{file} is not valid {name}: {one_line(error)}.")
    except RecursionError:
        raise ValueError(f"{file} is not valid {name}: it is nested too deeply.")
    if not isinstance(values, dict) or not {"base", "method"} <= values.keys():
        raise ValueError(f"{file} is not the config of a run: it lacks base or method.")
    try:
        config = parse(TrainConfig, _with_tuples(values))
    except ValueError as error:
        raise ValueError(f"{file}: {error}")
    # All keys, so that the command line may override those that the file leaves out.
    return ConfigDict(plain(config))


def _with_tuples(value: Any) -> Any:
    # These formats have no tuples, and configs have no lists.
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(inner) for inner in value)
    return value
