"""Run a command in this process and return its one-line error."""

import types

import pytest


def refused(capsys, call, *arguments):
    """The one line that `call` says of its arguments, with status 2."""
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("personax: ")
    return line


def make_refusal(module, flags, monkeypatch, capsys):
    """A function of arguments and flags that returns what `module`'s command says."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    name = module.__name__.rpartition(".")[2]

    def run_it(*arguments, **given):
        monkeypatch.setattr(module, "FLAGS", types.SimpleNamespace(**flags | given))
        return refused(capsys, module.main, [name, *map(str, arguments)])

    return run_it
