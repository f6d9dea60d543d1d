"""A command run in this process, to be refused in one sentence."""

import types

import pytest


def make_refusal(module, flags, monkeypatch, capsys):
    """A function of arguments and flags that returns what `module`'s command says."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    name = module.__name__.rpartition(".")[2]

    def run_it(*arguments, **given):
        monkeypatch.setattr(module, "FLAGS", types.SimpleNamespace(**flags | given))
        with pytest.raises(SystemExit) as end:
            module.main([name, *map(str, arguments)])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    return run_it
