"""Adapters that other programs write, read as concepts of ours.

`read` opens a file, finds the family that recognises its content, and returns what it
changes as an `Artifact`, which `concepts.bind` binds like a concept trained here.

To add a family, write a file here with a `Family` and add it to `FAMILIES`:

- `kind(file)` returns what the file looks like, such as "a LoRA in kohya's names", or
  None for a file of another family. It looks at names, metadata and shapes only. The
  families are asked in order.
- `read(file, params, unet)` returns an `Adapter`: `changes`, {our parameter path: a
  function of W}, `words`, {token: its rows "n d"}, or both. `params` are the base's
  parameters, `unet` is its UNet's config; a function of W takes and returns a float32
  array in torch's layout (out, in) or OIHW and is called once, when the concept is
  bound, so that nothing is expanded earlier.
  `names.Index` finds modules by the names of other programs. Everything in the file
  must be used or ValueError be raised: half an adapter is never applied.
- `names` are the files to look for when a folder is given.

See `adapter.py` for the records. Files are opened here: pickles without permission and
truncated files are refused before a family sees them, and NaNs before it reads them.
"""

import pathlib

import safetensors

from personax.concepts.artifact import Artifact
from personax.concepts.formats import (
    custom_diffusion,
    embedding,
    module_weights,
    numbered,
)
from personax.concepts.formats.adapter import Family, File, to_artifact
from personax.concepts.source import beside
from personax.core.typing import Params
from personax.loading.files import read_json
from personax.loading.pickles import read_pickle, tensors_of
from personax.loading.stored import is_finite, open_safetensors
from personax.networks.unet import UNetConfig

FAMILIES: tuple[Family, ...] = (
    custom_diffusion.FAMILY,
    module_weights.FAMILY,
    embedding.FAMILY,
)

# What is read here, for error messages.
READ = (
    "LoRA and LoCon (kohya, A1111, PEFT, diffusers, cloneofsimo), LyCORIS (LoHa, LoKr, "
    "DoRA, (IA)^3, OFT, differences), PEFT's adapter folders, Textual Inversion "
    "(diffusers, A1111), Custom Diffusion (diffusers, delta.bin, CompVis), and folders "
    "of concepts trained by personax"
)
SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth")
_WHOLE = ("model.diffusion_model.", "down_blocks.0.resnets.0.conv1.weight", "conv_in.")


def find(path: pathlib.Path) -> pathlib.Path | None:
    """The adapter at `path`, a file or a folder that holds one; None for others.

    A folder of ours, with a concept.json, is not an adapter. Only names are looked at.
    """
    if path.is_file():
        return path if path.suffix in SUFFIXES else None
    if not path.is_dir() or (path / "concept.json").is_file():
        return None
    names = [name for family in FAMILIES for name in family.names]
    found = (path / name for name in names if (path / name).is_file())
    return next(found, None)


def is_adapter(path: pathlib.Path, *, allow_pickle: bool = False) -> bool:
    """Whether `path` is an adapter of some family, and not a whole model."""
    found = find(path)
    if found is None:
        return False
    file = _open(found, allow_pickle)
    return any(family.kind(file) is not None for family in FAMILIES)


def read(
    path: pathlib.Path,
    params: Params,
    unet: UNetConfig,
    *,
    size: int,
    allow_pickle: bool = False,
) -> Artifact:
    """The adapter at `path` as a concept on a base with `params` and the config `unet`.

    `size` is the number of rows of the base's embedding table: new words come after it.
    Raises FileNotFoundError for a missing file, and ValueError for one that is damaged,
    of no family, or does not fit the base as a whole.
    """
    found = find(path)
    if found is None:
        raise FileNotFoundError(
            f"{path} is neither a concept's folder nor an adapter's file; read are "
            f"{READ}."
        )
    file = _open(found, allow_pickle)
    for family in FAMILIES:
        kind = family.kind(file)
        if kind is not None:
            break
    else:
        raise ValueError(_unknown(file))
    try:
        _check_finite(file)
        adapter = family.read(file, params, unet)
    except ValueError as error:
        raise ValueError(f"{found} looks like {kind}: {error}")
    count = sum(tensor.size > 0 for tensor in file.tensors.values())
    return to_artifact(adapter, found, kind, count, size)


def _open(path: pathlib.Path, allow_pickle: bool) -> File:
    if path.suffix == ".safetensors":
        tensors = open_safetensors(path)
        try:
            with safetensors.safe_open(path, "np") as file:
                metadata = file.metadata() or {}
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a valid safetensors file: {error}.")
        config = next((x for x in beside(path) if x.suffix == ".json"), None)
        values = None if config is None else read_json(config)
        return File(path, tensors, metadata, values, None, allow_pickle)
    if not allow_pickle:
        raise ValueError(
            f"{path} is a pickle, which may hold code; pass --allow_pickle "
            "(allow_pickle=True) to read its tensors with the restricted reader."
        )
    tree = read_pickle(path)
    if isinstance(tree, list):
        return File(path, numbered.from_list(path, tree), tree=tree)
    return File(path, tensors_of(tree, path), tree=tree, allow_pickle=True)


def _check_finite(file: File) -> None:
    for name, tensor in file.tensors.items():
        if not is_finite(tensor):
            raise ValueError(f"its tensor {name} has NaN or infinite values.")


def _unknown(file: File) -> str:
    names = list(file.tensors)
    if not names:
        return f"{file.path} holds no tensors; read are {READ}."
    if any(name.startswith(_WHOLE) for name in names):
        return (
            f"{file.path} holds the weights of a whole network, such as {names[0]}; "
            "pass a checkpoint as --base or --model NAME=FILE."
        )
    listed = ", ".join(names[:3])
    return (
        f"{file.path} is of no known format: it holds {len(names)} tensors such as "
        f"{listed}; read are {READ}."
    )
