"""What a rig needs of the machine: root, a command, a device, a library, a file system.

The rule: it is asked for inside the test that needs it, never while tests are collected. If something is missing, the
test skips and says what; in CI, which has all of it, nothing skips.
"""

import importlib
import os
import shutil
from pathlib import Path

import pytest


def needs(
    *, root: bool = False, commands: tuple[str, ...] = (), devices: tuple[str, ...] = (), fuse: bool = False
) -> None:
    """Skip the test if the machine lacks something; fail it in CI.

    Args:
        root: whether it must run as root.
        commands: programs that must be on the PATH.
        devices: paths that must be there.
        fuse: whether a file system of the test's own must be served through FUSE.
    """
    if fuse:
        devices = (*devices, "/dev/fuse")
    missing = [f"the command {name}" for name in commands if shutil.which(name) is None]
    missing += [device for device in devices if not Path(device).exists()]
    if fuse and not _loads("mfusepy"):
        missing.append("libfuse and the package mfusepy")
    if root and os.geteuid() != 0:
        missing.insert(0, "root")
    if missing:
        reason = f"not run, for want of {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI has all of it", pytrace=False)
        pytest.skip(reason)


def _loads(module: str) -> bool:
    """Whether the module can be imported; OSError is mfusepy's word for a library that is not there."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError):
        return False
    return True
