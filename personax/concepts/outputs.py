"""The folder of a concept that a command makes of others: checked before the work."""

import pathlib
from collections.abc import Iterable

from personax.concepts import artifact
from personax.core.files import read_json
from personax.core.outputs import check_folder, refuse_inputs


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
    artifact.check_replaceable(folder)
    file = folder / "concept.json"
    if file.is_file() and record not in read_json(file):
        raise ValueError(
            f"--out {path} is a trained concept, which would be lost; choose another "
            "folder."
        )
    return folder
