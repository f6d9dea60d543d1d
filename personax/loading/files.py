"""Find and open a model's files: a diffusers directory, a Hub id, or one file."""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from personax.core import files
from personax.core.files import expand
from personax.loading.pickles import open_pickle
from personax.loading.stored import Stored, open_safetensors

# The name of the model that comes with the package.
EMBEDDED = "emoji"

# Stems of a component's weight files, diffusers' and transformers'.
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
_TORCH = (".bin", ".ckpt", ".pt", ".pth")  # files by torch.save
# What git-lfs leaves in a file's place until it is fetched.
_POINTER = b"version https://git-lfs.github.com/spec/"
_PICKLED = {
    "diffusion_pytorch_model": "diffusion_pytorch_model",
    "model": "pytorch_model",
}
_CONFIGS = (
    "model_index.json",
    *(f"{component}/config.json" for component in STEMS),
    "scheduler/scheduler_config.json",
    "tokenizer/*",
)


def embedded(part: str) -> Path:
    """The package's directory with the embedded "pipeline" or "clip"."""
    return Path(str(resources.files("personax") / "assets" / EMBEDDED / part))


def find(source: str | Path, *, variant: str | None, allow_pickle: bool) -> Path:
    """The file or directory that `source` names: a path, else a Hugging Face id.

    A snapshot in the Hub's cache is preferred to a download, which fetches only the
    files that are read; HF_HUB_OFFLINE and HF_HOME apply. Raises FileNotFoundError for
    a path or id that does not exist.
    """
    return _find(
        source,
        lambda pickled: [*_CONFIGS, *_weight_patterns(variant, pickled)],
        lambda folder: _is_complete(folder, variant, allow_pickle),
        allow_pickle,
    )


def find_network(
    source: str | Path, stem: str, *, variant: str | None, allow_pickle: bool
) -> Path:
    """`find` for one network: its config.json and the weights called `stem`."""

    def is_complete(folder: Path) -> bool:
        path = _weights(folder, stem, variant, allow_pickle)
        return path is not None and (folder / "config.json").is_file()

    return _find(
        source,
        lambda pickled: ["config.json", *_stem_patterns(stem, variant, pickled)],
        is_complete,
        allow_pickle,
    )


def find_configs(source: str | Path) -> Path:
    """The directory with the configs and tokenizer of `source`, weights not fetched."""
    path = expand(source)
    if source == EMBEDDED:
        return embedded("pipeline")
    if path.is_dir():
        return path
    _check_id(source)
    for local in (True, False):
        folder, reason = _snapshot(str(source), list(_CONFIGS), local=local)
        if folder and (folder / "tokenizer").is_dir():
            return folder
    raise FileNotFoundError(
        f"The configs and the tokenizer of a single-file checkpoint: {source!r} is "
        f"neither an existing directory nor an available Hugging Face id: {reason}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises FileNotFoundError or ValueError without one."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; a pipeline in diffusers' layout has model_index.json, "
            "unet/, vae/, text_encoder/, tokenizer/ and scheduler/."
        )
    _refuse_pointer(path)
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not contain a JSON object.")
    return values


def open_file(path: Path, *, allow_pickle: bool) -> Stored:
    """The tensors of one file: safetensors, or with `allow_pickle` one of torch's."""
    _refuse_pointer(path)
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix not in _TORCH:
        raise ValueError(
            f"{path} holds no weights; expected .safetensors, {', '.join(_TORCH)}."
        )
    if not allow_pickle:
        raise ValueError(
            f"{path} is a pickle, which may hold code; pass allow_pickle=True to read "
            "its tensors with the restricted reader, or convert it to safetensors."
        )
    return open_pickle(path)


def part_variants(
    directory: Path, variant: str | None, *, allow_pickle: bool = False
) -> dict[str, str | None]:
    """{part: `variant`, or None where only the usual file exists}.

    As in diffusers, which publishes some variants of the UNet alone. If no part has the
    variant, every part names it, so that opening reports it.
    """
    kinds = {
        part: [
            kind
            for kind in (variant, None)
            if _weights(directory / part, stem, kind, allow_pickle)
        ]
        for part, stem in STEMS.items()
    }
    if not any(variant in found for found in kinds.values()):
        return dict.fromkeys(STEMS, variant)
    return {part: (*found, variant)[0] for part, found in kinds.items()}


def open_weights(
    folder: Path, stem: str, *, variant: str | None = None, allow_pickle: bool = False
) -> Stored:
    """The tensors of the weights called `stem` in a folder, whole or in shards.

    Raises FileNotFoundError for missing files, and ValueError for unreadable ones and
    for pickles that are not allowed.
    """
    path = _weights(folder, stem, variant, allow_pickle)
    if path is None:
        raise _no_weights(folder, stem, variant, allow_pickle)
    if path.suffix != ".json":
        return open_file(path, allow_pickle=allow_pickle)
    stored = {}
    for shard in _shards(path):
        if not shard.is_file():
            raise FileNotFoundError(f"{path} names {shard.name}, which is missing.")
        stored.update(open_file(shard, allow_pickle=allow_pickle))
    return stored


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path} is a git-lfs pointer, not the file itself; fetch it with `git "
                "lfs pull` in its repository, or download the file."
            )


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise ValueError(f"{index} has no weight_map; an index of shards needs one.")
    return [index.parent / Path(name).name for name in sorted(set(names.values()))]


def _weights(
    folder: Path, stem: str, variant: str | None, allow_pickle: bool
) -> Path | None:
    for pickled in [False, True] if allow_pickle else [False]:
        for name in _weight_names(stem, variant, pickled):
            if (folder / name).is_file():
                return folder / name
    return None


def _weight_names(stem: str, variant: str | None, pickled: bool) -> list[str]:
    stem, kind = (_PICKLED[stem], "bin") if pickled else (stem, "safetensors")
    dotted = f".{variant}" if variant else ""
    return [f"{stem}{dotted}.{kind}", f"{stem}.{kind}.index{dotted}.json"]


def _weight_patterns(variant: str | None, pickled: bool) -> list[str]:
    patterns = []
    for component, stem in STEMS.items():
        names = _stem_patterns(stem, variant, pickled)
        patterns.extend(f"{component}/{name}" for name in names)
    return patterns


def _stem_patterns(stem: str, variant: str | None, pickled: bool) -> list[str]:
    names = _weight_names(stem, variant, pickled)
    whole, kind = names[0].rsplit(".", 1)
    return [*names, f"{whole}-?????-of-?????.{kind}"]


def _is_complete(directory: Path, variant: str | None, allow_pickle: bool) -> bool:
    """Whether a snapshot has all files; an interrupted download can be continued."""
    expected = [directory / name for name in _CONFIGS[:-1]]
    for component, stem in STEMS.items():
        path = _weights(directory / component, stem, variant, allow_pickle)
        if path is None:
            return False
        expected.extend(_shards(path) if path.suffix == ".json" else [path])
    return all(p.is_file() for p in expected) and (directory / "tokenizer").is_dir()


def _no_weights(
    folder: Path, stem: str, variant: str | None, allow_pickle: bool
) -> Exception:
    expected = _weight_names(stem, variant, False)[0]
    if not folder.is_dir():
        parent = folder.parent
        siblings = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        return FileNotFoundError(
            f"{parent} has no {folder.name}/ with {expected}; it has "
            f"{', '.join(siblings) or 'no files'}."
        )
    names = ", ".join(sorted(p.name for p in folder.iterdir())) or "no files"
    if not allow_pickle and _weights(folder, stem, variant, True):
        return ValueError(
            f"{folder} has no {expected}, only pickled weights ({names}); pass "
            "allow_pickle=True to read them with the restricted reader."
        )
    advice = ""
    for other in _variants(folder, stem):
        advice = f' Pass variant="{other}" (--variant {other}) to read that variant.'
    if variant and _weights(folder, stem, None, False):
        advice = " Without a variant (--variant) it can be read."
    return FileNotFoundError(f"{folder} has no {expected}; it has {names}.{advice}")


def _variants(folder: Path, stem: str) -> list[str]:
    """The variants of the weights called `stem` in a folder, such as "fp16"."""
    whole = re.compile(rf"{re.escape(stem)}\.(\w+)\.safetensors")
    index = re.compile(rf"{re.escape(stem)}\.safetensors\.index\.(\w+)\.json")
    found = {
        match[1]
        for path in folder.iterdir()
        for pattern in (whole, index)
        if (match := pattern.fullmatch(path.name))
    }
    return sorted(found)


def _find(
    source: str | Path,
    patterns: Callable[[bool], list[str]],
    is_complete: Callable[[Path], bool],
    allow_pickle: bool,
) -> Path:
    """A path that exists, else the Hub's files that match `patterns(pickled)`."""
    path = expand(source)
    if path.exists():
        return path
    _check_id(source)
    kinds = [False, True] if allow_pickle else [False]
    incomplete = None
    for pickled, local in [(k, True) for k in kinds] + [(k, False) for k in kinds]:
        folder, reason = _snapshot(str(source), patterns(pickled), local=local)
        if folder and is_complete(folder):
            return folder
        incomplete = folder or incomplete
    if incomplete is None:
        raise FileNotFoundError(
            f"{source!r} is neither an existing path nor an available Hugging Face id: "
            f"{reason}"
        )
    return incomplete  # opening it reports the missing files


def _check_id(source: str | Path) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise FileNotFoundError(
            f"{str(source)!r} does not exist: expected a directory in diffusers' "
            "layout, a checkpoint file or a Hugging Face id such as 'owner/name'."
        )


def _snapshot(
    name: str, patterns: list[str], *, local: bool
) -> tuple[Path | None, str]:
    """(the snapshot's directory, "") or (None, the reason, on one line)."""
    try:
        folder = snapshot_download(
            name, allow_patterns=patterns, local_files_only=local
        )
    # Not cached, offline, unreachable, unknown, gated: errors of several types.
    except Exception as error:
        return None, str(error).strip().splitlines()[0]
    return Path(folder), ""
