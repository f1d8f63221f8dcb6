"""The build's word on the system: on any but Linux there is no wheel, and so no install.

The rule: it runs before anything that modelwarden depends on is downloaded, so it needs none of it.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LinuxOnly(BuildHookInterface[Any]):
    """Called by hatchling before it makes a wheel: so begins each install from source, an editable one too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the build stays as it is
        """Let the build go on, or end it with one sentence."""
        if sys.platform != "linux":
            errors = runpy.run_path(str(Path(self.root, "daemon", "modelwarden", "errors.py")))
            sys.exit(errors["NEEDS_LINUX"])
