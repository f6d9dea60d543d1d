"""Prepare a data set: `python -m personax.build ffhq --from DIR`."""

import os
import pathlib
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any

from absl import flags

from personax.cli import command
from personax.core.errors import notice
from personax.core.files import expand
from personax.core.outputs import check_folder

FLAGS = flags.FLAGS
NAMES = ("ffhq", "afhqv2")
_DATA_DIR = "~/tensorflow_datasets"


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    command.define_path("from", None, "The downloaded folder or zip.")
    command.define_path("data_dir", None, "Default: ~/tensorflow_datasets.")
    flags.mark_flag_as_required("from")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    with watch("build"), command.exit_on_user_error():
        if len(argv) != 2:
            raise ValueError(f"Give one data set: {' or '.join(NAMES)}.")
        builder = build(argv[1], str(FLAGS["from"].value), FLAGS.data_dir)
    for name, split in builder.info.splits.items():
        print(f"{name}: {split.num_examples} pictures")
    option = f" --config.stream.data_dir {FLAGS.data_dir}" if FLAGS.data_dir else ""
    print(f"{builder.data_path}; --config.stream.source tfds:{argv[1]}{option}")
    print(watch)


def build(name: str, source: str, data_dir: str | None = None) -> Any:
    """The prepared TFDS builder of "ffhq" or "afhqv2", from a folder or a zip.

    The files of the pictures are copied unchanged into array_record, without
    TensorFlow. Raises ValueError for an unknown data set or a missing dependency,
    FileNotFoundError for a missing source.
    """
    if name not in NAMES:
        raise ValueError(
            f"Unknown data set {name!r}; expected one of {', '.join(NAMES)}."
        )
    path = expand(source).absolute()
    if not path.exists():
        raise FileNotFoundError(f"There is no folder or zip {source}.")
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"--from {source} is not a zip, nor a folder.")
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or _DATA_DIR
    out = check_folder(given).absolute()
    if path.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(
            f"--data_dir {given} is inside of --from {source}; choose another folder."
        )
    try:
        import tensorflow_datasets as tfds

        from personax.data.tfds.faces import Afhqv2, Ffhq
    except ImportError as error:
        raise ValueError(f"{name} needs pip install 'personax[data]': {error}.")
    builder = {"ffhq": Ffhq, "afhqv2": Afhqv2}[name](
        data_dir=str(out), file_format="array_record"
    )
    if builder.is_prepared():
        notice(f"{builder.data_path} is prepared already; {source} was not read.")
        return builder
    with tempfile.TemporaryDirectory() as folder:
        manual = path
        if path.is_file():
            # manual_dir must be a folder; the builders read the only zip in it.
            manual = pathlib.Path(folder)
            (manual / f"{path.stem}.zip").symlink_to(path)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(manual)),
            file_format="array_record",
        )
    return builder


if __name__ == "__main__":
    command.run(main, define_flags)
