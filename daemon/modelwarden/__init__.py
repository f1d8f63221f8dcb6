"""modelwarden: judges every model of a training run, archives the run, tells the team.

The names below are the Python API; everything else is the daemon's own.
"""

import sys

from modelwarden.errors import (
    NEEDS_LINUX,
    ModelwardenError,
    RejectSummary,
    RetryLater,
    StopService,
    UnknownRun,
)

if sys.platform == "linux":
    from modelwarden.gate.assessment import Assessment, Classification, Flag
    from modelwarden.gate.gates import Gate, Override
    from modelwarden.gate.gating import assess, assess_model_quality
    from modelwarden.gate.policy import Policy
    from modelwarden.gate.soundness import PolicyError
    from modelwarden.gate.thresholds import ModelGatingConfig
    from modelwarden.manager import TrainingArchiveManager
else:

    def __getattr__(name: str) -> object:
        """Say why a name of the API is not there; the command says it by itself."""
        raise (ImportError(NEEDS_LINUX) if name in __all__ else AttributeError(name))


__version__ = "0.1.0"

__all__ = [
    "Assessment",
    "Classification",
    "Flag",
    "Gate",
    "ModelGatingConfig",
    "ModelwardenError",
    "Override",
    "Policy",
    "PolicyError",
    "RejectSummary",
    "RetryLater",
    "StopService",
    "TrainingArchiveManager",
    "UnknownRun",
    "assess",
    "assess_model_quality",
]
