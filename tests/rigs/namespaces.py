"""Running a rig as the first process of its own mount and process namespaces.

The rule: however a rig ends, the kernel clears up after it. All its processes die with its first one, its mounts with
the last, and a loop device that `mount -o loop` made goes with its mount.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any, Final

from processes import clean_environment
from rigs.needs import needs

TESTS: Final = Path(__file__).parent.parent

_PRIVATE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


def run_privately(module: str, *arguments: str | Path, product: Path, seconds: float) -> Any:
    """Run a rig's module in namespaces of its own; return what it printed, read as JSON.

    Args:
        module: what to run, such as "rigs.power_cuts"; it calls `end_with_the_test` first.
        arguments: its own.
        product: the folder that holds the package `modelwarden` to be tried: the real one's, or a mutant's.
        seconds: until it must have ended.
    """
    needs(root=True, commands=("unshare", "mount", "umount"))
    reading, writing = os.pipe()
    try:
        result = subprocess.run(
            [*_PRIVATE, sys.executable, "-P", "-m", module, *arguments],
            stdin=reading,
            capture_output=True,
            encoding="utf-8",
            env=clean_environment({"PYTHONPATH": f"{product}:{TESTS}", "PYTHONDONTWRITEBYTECODE": "1"}),
            timeout=seconds,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert result.returncode == 0, f"{module} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


def end_with_the_test() -> None:
    """End this process when the one that holds the other end of its standard input is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    Thread(target=watch, daemon=True).start()
