"""What a rig needs of the machine: root, a command, a device, a file system.

The rule: where something is missing a test skips and says what; in CI, which has all of it, nothing skips.
"""

import os
import shutil
from pathlib import Path

import pytest


def needs(*, root: bool = False, commands: tuple[str, ...] = (), devices: tuple[str, ...] = ()) -> None:
    """Skip the test where the machine lacks something; fail it in CI.

    Args:
        root: whether it must run as root.
        commands: programs that must be on the PATH.
        devices: paths that must be there.
    """
    missing = [f"the command {name}" for name in commands if shutil.which(name) is None]
    missing += [device for device in devices if not Path(device).exists()]
    if root and os.geteuid() != 0:
        missing.insert(0, "root")
    if missing:
        reason = f"not run, for want of {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI has all of it", pytrace=False)
        pytest.skip(reason)
