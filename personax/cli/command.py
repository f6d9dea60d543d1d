"""Common to all commands: start-up, flags of the base, one-line errors."""

import contextlib
import dataclasses
import math
import os
import pathlib
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

# When imported, transformers reports a missing torch, which is not needed here.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from personax.concepts.source import parse_source
from personax.core.errors import (
    InputError,
    RunFailedError,
    invalid_input,
    one_line,
)
from personax.core.files import expand
from personax.core.outputs import cache_folder, is_disk_full
from personax.core.stopwatch import Stopwatch as Stopwatch
from personax.loading import EMBEDDED

Options = TypeVar("Options")

_CONFIG = str(pathlib.Path(__file__).with_name("config_file.py"))
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
        try:
            with exit_on_failure():
                main(argv)
                print(end="", flush=True)  # also where stdout is closed
        except KeyboardInterrupt:
            print("personax: Interrupted.", file=sys.stderr)
            raise SystemExit(128 + signal.SIGINT)
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
            # Python flushes at its exit, and would report the same error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + signal.SIGPIPE)

    define_flags()
    app.run(guarded, flags_parser=_parse)


def start() -> None:
    """Enable the compilation cache and silence library logs.

    JAX_COMPILATION_CACHE_DIR sets another folder for the cache; empty disables it.
    """
    logging.set_verbosity(logging.WARNING)
    warnings.formatwarning = _one_line_warning
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder(_CACHE)
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _one_line_warning(message: Warning | str, *_: Any) -> str:
    return f"personax: {' '.join(str(message).split())}\n"


class _Path(flags.ArgumentParser[str]):
    """A path, a leading "~" expanded."""

    def parse(self, argument: str) -> str:
        if not argument:  # as an unset variable of the shell gives it
            raise ValueError("expected a path")
        return expanded(argument)


def define_path(name: str, default: str | None, help: str) -> None:
    """Define a flag that is a path; "~" is the home directory in every form of it."""
    flags.DEFINE(_Path(), name, default, help, serializer=flags.ArgumentSerializer())


def expanded(source: str) -> str:
    """A path with "~" expanded; names of bases, such as Hugging Face ids, as they are.

    Raises ValueError for the home directory of an unknown user.
    """
    return str(expand(source)) if source.startswith("~") else source


def define_base_flags(base: str | None = EMBEDDED) -> None:
    """Define the flags that `base_options` reads; `base` is the default of --base.

    None is for commands whose concepts name their base.
    """
    text = flags.DEFINE_string
    named = "" if base else f" Default: the one that the concept names, or {EMBEDDED}."
    path = define_path
    path("base", base, f"Directory, single file or Hugging Face id of the base.{named}")
    path(
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
    define_path(
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


def base_inputs(given: Any) -> list[tuple[str, str | pathlib.Path]]:
    """(flag, path) of what the base, its concepts and --vae are read from."""
    read = [
        (name, getattr(given, name, None)) for name in ("base", "base_config", "vae")
    ]
    concepts = [parse_source(text).path for text in getattr(given, "concept", ())]
    found = [(name, path) for name, path in read if path]
    return [*found, *(("concept", path) for path in concepts)]


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

    A full disk, too little memory, and devices that JAX does not find are reported in
    one line too, with status 1. May wrap a whole command: other errors keep their
    traceback.
    """
    try:
        yield
    except (InputError, RunFailedError) as error:
        print(f"personax: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1)
    except Exception as error:
        reason = _circumstance(error)
        if reason is None:
            raise
        print(f"personax: {reason}", file=sys.stderr)
        raise SystemExit(1)


def _circumstance(error: BaseException) -> str | None:
    """What is wrong with the machine and not with the program; None for a bug."""
    text = one_line(error)
    if is_disk_full(error):
        return f"The disk is full: {text}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return (
            "There is too little memory; a smaller batch or size, or --decode sliced, "
            f"needs less: {text[:200]}"
        )
    frames = (frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__))
    if any(each.get("__name__") == "jax._src.xla_bridge" for each in frames):
        platforms = os.environ.get("JAX_PLATFORMS") or "unset"
        return (
            f"JAX has no device for JAX_PLATFORMS, which is {platforms}: install jax "
            f"for it, or set another such as cpu. {text}".strip()
        )
    return None


def config_name(file: str) -> str:
    """The default name of a run: "quickstart" of configs/quickstart.py."""
    path = pathlib.Path(file.removeprefix(f"{_CONFIG}:"))
    # A Python file may have an argument: FILE.py:ARGUMENT.
    path = path.with_name(path.name.partition(":")[0])
    # A run's own config.yaml has the name of its folder.
    return path.parent.name if path.name == "config.yaml" else path.stem


def _parse(argv: Sequence[str]) -> Sequence[str]:
    with exit_on_user_error():
        _check_text(argv)
        try:
            rest = flags.FLAGS(_through_config_file(argv))
        except flags.Error as error:  # an unknown flag, or a value of the wrong type
            raise ValueError(_in_words(str(error)))
        except AttributeError as error:  # a key that the config does not have
            # ml_collections wraps a KeyError, whose own text is a repr.
            inner = error.args[0]
            text = inner.args[0] if isinstance(inner, KeyError) else inner
            raise ValueError(f"The config has no key {text}")
        for name, flag in flags.FLAGS.flag_values_dict().items():
            # NaN is inside of every range that absl checks.
            if isinstance(flag, float) and not math.isfinite(flag):
                raise ValueError(f"--{name}={flag}: expected a finite number.")
        return rest


def _in_words(text: str) -> str:
    """absl's message of an invalid flag, without Python's of int() and float()."""
    text = re.sub(r"invalid literal for int\(\).*", "expected an integer.", text)
    return re.sub(r"could not convert string to float.*", "expected a number.", text)


def _check_text(argv: Sequence[str]) -> None:
    """ValueError for an argument that is not UTF-8, which no prompt or record holds."""
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode(errors="backslashreplace").decode()
            raise ValueError(f"The argument {shown!r} is not valid UTF-8.")


def _through_config_file(argv: Sequence[str]) -> list[str]:
    """The arguments with --config FILE replaced by config_file.py and its argument."""
    out, named = list(argv), False
    for i, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if named or (equals and name in ("--config", "-config")):
            value = argument if named else value
            out[i] = ("" if named else f"{name}=") + f"{_CONFIG}:{expanded(value)}"
        named = argument in ("--config", "-config")
    return out
