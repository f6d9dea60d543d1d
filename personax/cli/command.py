"""Common to all commands: start-up, flags of the base, one-line errors."""

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

# When imported, transformers reports a missing torch, which is not needed here.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from personax.core.errors import (
    InputError,
    RunFailedError,
    invalid_input,
    one_line,
)
from personax.core.outputs import cache_folder, is_disk_full
from personax.core.stopwatch import Stopwatch as Stopwatch
from personax.loading import EMBEDDED

Options = TypeVar("Options")

_YAML = str(pathlib.Path(__file__).with_name("config_from_yaml.py"))
_CACHE = "~/.cache/personax/xla"


def run(
    main: Callable[[Sequence[str]], None],
    define_flags: Callable[[], None] = lambda: None,
) -> None:
    """absl's `app.run`, with one-line errors for InputError and RunFailedError.

    Defines the flags, and calls `start` before `main`.
    """

    def guarded(argv: Sequence[str]) -> None:
        start()
        with exit_on_failure():
            main(argv)

    define_flags()
    app.run(guarded, flags_parser=_parse)


def start() -> None:
    """Enable the compilation cache and silence library logs.

    JAX_COMPILATION_CACHE_DIR sets another folder for the cache; empty disables it.
    """
    logging.set_verbosity(logging.WARNING)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder(_CACHE)
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def define_base_flags(base: str | None = EMBEDDED) -> None:
    """Define the flags that `base_options` reads; `base` is the default of --base.

    None is for commands whose concepts name their base.
    """
    text = flags.DEFINE_string
    named = "" if base else f" Default: the one that the concept names, or {EMBEDDED}."
    text("base", base, f"Directory, single file or Hugging Face id of the base.{named}")
    text(
        "base_config",
        None,
        "Directory or id of the configs for a single file, or of the pipeline whose "
        "other parts a UNet alone takes.",
    )
    text("variant", None, "Variant of the weight files, such as fp16.")
    flags.DEFINE_bool(
        "allow_pickle", False, "Read .bin and .ckpt files, with a restricted reader."
    )


def define_vae_flag() -> None:
    """Define --vae, an argument of `load_base` of the commands that draw."""
    flags.DEFINE_string(
        "vae",
        None,
        "Directory, single file or Hugging Face id of an autoencoder that is used "
        "instead of the base's.",
    )


def define_concept_flags() -> None:
    """Define --concept and --any_base."""
    flags.DEFINE_multi_string(
        "concept",
        [],
        "[<NAME>=]PATH[@STRENGTH]: a trained concept's folder, or a file that another "
        "program wrote, such as a LoRA. NAME replaces its placeholder.",
    )
    flags.DEFINE_bool(
        "any_base",
        False,
        "Apply concepts that replace whole parameters to another base than theirs.",
    )


def base_options(given: Any) -> dict[str, Any]:
    """The keyword arguments of `load_base` from parsed flags, without the source."""
    config, variant = given.base_config, given.variant
    return {"config": config, "variant": variant, "allow_pickle": given.allow_pickle}


def options_from(kind: type[Options], given: Any, **parsed: Any) -> Options:
    """A record of options: the flags with the names of its fields, or `parsed`."""
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    names = {field.name for field in fields} - parsed.keys()
    return kind(**{name: getattr(given, name) for name in names}, **parsed)


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raise ValueError for positional arguments."""
    if argv[1:]:
        raise ValueError(
            f"Unexpected positional argument {argv[1]!r}; quote prompts with spaces."
        )


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated flag such as "dog,top hat"."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Report invalid input in one line on stderr and exit with status 2.

    Wrap preparation alone, so that an error of the computation keeps its traceback.
    """
    with exit_on_failure(), invalid_input():
        yield


@contextlib.contextmanager
def exit_on_failure() -> Iterator[None]:
    """Exit with one line on stderr: status 2 for InputError, 1 for RunFailedError.

    A full disk is reported in one line too, with status 1. May wrap a whole command:
    other errors keep their traceback.
    """
    try:
        yield
    except (InputError, RunFailedError) as error:
        print(f"personax: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1)
    except Exception as error:
        if not is_disk_full(error):
            raise
        print(f"personax: The disk is full: {one_line(error)}", file=sys.stderr)
        raise SystemExit(1)


def config_name(file: str) -> str:
    """The default name of a run: "quickstart" of configs/quickstart.py."""
    path = pathlib.Path(file.removeprefix(f"{_YAML}:"))
    # A run's own config.yaml has the name of its folder.
    return path.parent.name if path.name == "config.yaml" else path.stem


def _parse(argv: Sequence[str]) -> Sequence[str]:
    with exit_on_user_error():
        try:
            return flags.FLAGS(_read_as_python(argv))
        except flags.Error as error:  # an unknown flag, or a value of the wrong type
            raise ValueError(str(error))
        except AttributeError as error:  # a key that the config does not have
            # ml_collections wraps a KeyError, whose own text is a repr.
            inner = error.args[0]
            text = inner.args[0] if isinstance(inner, KeyError) else inner
            raise ValueError(f"The config has no key {text}")
        except ModuleNotFoundError as error:  # configs import each other
            raise ValueError(f"{error}; run from the folder that contains it.")


def _read_as_python(argv: Sequence[str]) -> list[str]:
    """Replace --config FILE.yaml by config_from_yaml.py with the file as argument.

    The same for TOML and JSON. Raises ValueError for a file that is no config.
    """
    # Imported here: most commands have no config.
    from personax.training.config import is_read

    out = list(argv)
    for i, argument in enumerate(argv):
        name, _, value = argument.partition("=")
        named = name.lstrip("-") == "config" and name.startswith("-")
        if i and argv[i - 1] in ("--config", "-config"):
            named, value = True, argument
        # A Python file may have an argument: FILE.py:ARGUMENT.
        if named and value and ".py:" not in value and is_read(value):
            out[i] = argument.replace(value, f"{_YAML}:{value}")
    return out
