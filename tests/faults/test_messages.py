"""One line for what is no bug: pipes, signals, devices, encodings, configs, homes."""

import os
import signal
import subprocess
import sys

import pytest

from personax import train
from personax.cli import command
from personax.core.errors import InputError
from personax.training.config import load_config
from tests.commands.test_commands import ROOT
from tests.faults.test_flags import _parse
from tests.refusing import refused

pytestmark = [
    pytest.mark.quick,
    # ml_collections' own.
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]


def _run(body, **environment):
    """A command whose `main` is `body`, in a process of its own."""
    code = (
        f"from personax.cli import command\ndef main(argv):\n{body}\ncommand.run(main)"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd="/",
        timeout=100,
        check=False,
    )


def test_an_interrupt_is_one_line():
    done = _run(
        "    import os, signal, time\n"
        # A shell lets what it starts in the background ignore interrupts.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    os.kill(os.getpid(), 2)\n"
        "    time.sleep(9)"
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "personax: Interrupted.\n"


def test_a_closed_stdout_does_not_end_what_goes_on(tmp_path):
    body = (
        "    import os, pathlib, sys\n"
        "    from personax.training.distributed import print_on_host0\n"
        "    reading, writing = os.pipe()\n"
        "    os.dup2(writing, 1)\n"
        "    os.close(reading)\n"
        "    print_on_host0('1 picture')\n"
        "    sys.stdout = None\n"
        f"    pathlib.Path({str(tmp_path / 'concept')!r}).touch()"
    )
    done = _run(body, PYTHONUNBUFFERED="1")
    assert (tmp_path / "concept").exists()
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_ended_is_no_error():
    body = (
        "    import os, sys\n"
        "    reading, writing = os.pipe()\n"
        "    os.dup2(writing, 1)\n"
        "    os.close(reading)\n"
        "    print('1 picture')"
    )
    done = _run(body)
    assert done.returncode == 128 + signal.SIGPIPE
    assert not done.stderr


@pytest.mark.parametrize("platform", ["cuda", "nothing"])
def test_a_device_that_is_missing_is_one_line(platform):
    done = _run("    import jax\n    jax.devices()", JAX_PLATFORMS=platform)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"JAX_PLATFORMS, which is {platform}" in line


def test_a_bug_keeps_its_traceback():
    done = _run("    assert 1 == 2")
    assert "Traceback" in done.stderr


def test_a_home_that_is_unknown_stops_nothing():
    environment = {"HOME": "/nonexistent/home"}
    done = _run("    import personax.sample\n    print('went on')", **environment)
    assert done.stdout == "went on\n"
    assert done.returncode == 0


def test_an_argument_that_is_no_utf_8_is_refused(capsys):
    line = refused(capsys, command._parse, ["sample", "--prompt=a \udcff dog"])
    assert r"'--prompt=a \\udcff dog' is not valid UTF-8" in line


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A working directory with a package "configs" of another project."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("OURS = False\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # Another test may have imported ours.
    for name in [each for each in sys.modules if each.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_configs_find_their_siblings_beside_a_foreign_package(foreign):
    import configs

    assert not configs.OURS
    expected = load_config(ROOT / "configs" / "quickstart.py")
    assert expected.method == "class_diffusion"
    # As the README writes it, from any folder.
    assert load_config("configs/quickstart.py") == expected
    own = foreign / "mine.py"
    own.write_text(
        "from configs import quickstart\nget_config = quickstart.get_config\n"
    )
    assert load_config(own) == expected
    sibling = foreign / "configs" / "mine.py"
    (foreign / "configs" / "near.py").write_text("SEED = 7\n")
    sibling.write_text(
        "from configs import near, quickstart\n"
        "def get_config(steps='1'):\n"
        "    config = quickstart.get_config()\n"
        "    config.seed, config.steps = near.SEED, int(steps)\n"
        "    return config\n"
    )
    assert load_config("configs/mine.py").seed == 7
    assert load_config("configs/mine.py:5").steps == 5
    assert sys.modules["configs"] is configs


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.yaml", "a: [1\nb: {", "x.yaml is not valid YAML: line 2, column 2: "),
        ("x.yaml", "a: \x00", "x.yaml is not valid YAML: "),
        ("x.toml", "a = ", "x.toml is not valid TOML: "),
        ("x.json", "[" * 10**5, "x.json is not valid JSON: it is nested too deeply"),
        ("x.py", "import nothing_of_this_name", "x.py cannot be executed: ModuleNot"),
        ("x.py", "def get_config(:", "x.py cannot be executed: SyntaxError"),
        ("x.py", "", "x.py cannot be executed: AttributeError"),
        ("x.py", "raise SystemExit(3)", "x.py cannot be executed: SystemExit: 3"),
        ("x.py", "def get_config(): return 3", "x.py gives int; expected a Config"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(
    name, text, sentence, tmp_path, capsys
):
    (tmp_path / name).write_text(text)
    line = refused(capsys, _parse, train, f"--config={tmp_path / name}")
    assert sentence in line
    assert "Traceback" not in line


def test_home_is_expanded_in_the_name_of_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.py").write_text("from configs.quickstart import get_config\n")
    _parse(train, "--config=~/x.py")
    assert load_config("~/x.py").method == "class_diffusion"


def test_a_user_without_a_home_is_named(monkeypatch):
    with pytest.raises((InputError, ValueError), match="home directory"):
        command.expanded("~no_such_user_here/x")
