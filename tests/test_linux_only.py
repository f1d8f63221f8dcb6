"""modelwarden needs Linux, and says so in one sentence wherever it is tried: at install, at start, at import."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from modelwarden.errors import NEEDS_LINUX
from processes import clean_environment

ROOT = Path(__file__).parent.parent
OTHERS = pytest.mark.parametrize("system", ["darwin", "win32"])

ELSEWHERE = """
import sys
{imports}
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None  # Windows has none of these
sys.platform = {system!r}
{rest}
"""


def tried_on(system: str, rest: str, *, imports: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that takes the system for another; `imports` are those of the standard library and of tools."""
    return subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE.format(imports=imports, system=system, rest=rest)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("asked", ["build_wheel", "build_editable"])
@OTHERS
def test_build_elsewhere_ends_with_the_sentence_alone(system: str, asked: str, tmp_path: Path) -> None:
    """What pip asks of the build backend before it downloads anything is answered by the sentence; nothing is made."""
    done = tried_on(system, f"build.{asked}({str(tmp_path)!r})", imports="import tempfile\nfrom hatchling import build")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{NEEDS_LINUX}\n")
    assert list(tmp_path.iterdir()) == []


def test_build_on_linux_is_a_wheel_that_names_the_system(tmp_path: Path) -> None:
    """The same question is answered here; the hook itself is no part of what is installed."""
    done = tried_on(
        "linux", f"build.build_wheel({str(tmp_path)!r})", imports="import tempfile\nfrom hatchling import build"
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    with ZipFile(file) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        assert b"Classifier: Operating System :: POSIX :: Linux\n" in wheel.read(metadata)
        assert not [name for name in wheel.namelist() if "linux_only" in name]


@pytest.mark.parametrize("words", [[], ["run"], ["check", "summary.json"], ["--help"]])
@OTHERS
def test_command_elsewhere_says_the_sentence_and_exits_2(system: str, words: list[str]) -> None:
    """Also if it came there in a wheel that was built on Linux: no traceback, and nothing of the rest is imported."""
    rest = f"sys.argv = ['modelwarden', *{words}]\nrunpy.run_module('modelwarden', run_name='__main__')"
    done = tried_on(system, rest, imports="import runpy")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"modelwarden: {NEEDS_LINUX}\n")


def test_script_elsewhere_says_the_sentence_and_exits_2() -> None:
    """The installed command, which imports the door by its name."""
    done = tried_on("darwin", "from modelwarden.__main__ import main\nsys.exit(main())")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"modelwarden: {NEEDS_LINUX}\n")


@OTHERS
def test_api_elsewhere_is_an_import_error_with_the_sentence(system: str) -> None:
    """A program that imports the API gets an error that it can catch, not an exit; what was no name stays none."""
    rest = """
import modelwarden
assert not hasattr(modelwarden, "no_such_name")
try:
    from modelwarden import TrainingArchiveManager
except ImportError as error:
    print(error)
"""
    done = tried_on(system, rest)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NEEDS_LINUX}\n", "")
