"""The folder of a concept that a command makes of others: checked before the work."""

import pathlib
from collections.abc import Iterable

from personax.core.files import read_json
from personax.core.outputs import check_folder, refuse_inputs

_OWN = {"concept.json", "theta.safetensors", "prepared.safetensors", "before"}


def check_result(
    path: str | pathlib.Path,
    inputs: Iterable[tuple[str, str | pathlib.Path]],
    record: str,
) -> pathlib.Path:
    """The folder at `path`, which a merged or compressed concept may be written to.

    `inputs` are (what it is, path) of all that is read. An earlier result, whose
    concept.json has the key `record`, is replaced. Raises ValueError for a folder that
    cannot be written, is or holds an input, is a trained concept or anything else, or
    has other files as well.
    """
    folder = check_folder(path)
    check_folder(folder.absolute().parent)  # the concept replaces the folder as a whole
    refuse_inputs(folder, inputs)
    if not folder.exists():
        return folder
    try:
        is_result = record in read_json(folder / "concept.json")
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"--out {path} exists and is no concept; choose another folder."
        )
    if not is_result:
        raise ValueError(
            f"--out {path} is a trained concept, which would be lost; choose another "
            "folder."
        )
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    if names - _OWN:
        raise ValueError(
            f"--out {path} also holds {min(names - _OWN)}, which is no part of a "
            "concept; choose another folder."
        )
    return folder
