"""A command run in this process, its flags parsed as on the command line."""

import types

from absl import flags


def make_call(module, monkeypatch):
    """A function of arguments that runs `module`'s command."""
    # None of the compilations of a test is kept.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def call(*arguments):
        parsed = _parse(module, [str(argument) for argument in arguments])
        monkeypatch.setattr(module, "FLAGS", parsed)
        module.main([module.__name__])

    return call


def _parse(module, arguments):
    """The values of the flags that the module defines, which are forgotten again."""
    known, every = set(flags.FLAGS), flags.FLAGS
    module.define_flags()
    own = set(every) - known
    try:
        every([module.__name__, *arguments])
        return types.SimpleNamespace(**{name: every[name].value for name in own})
    finally:
        for name in own:
            delattr(every, name)
