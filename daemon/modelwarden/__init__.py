"""modelwarden: judges every model of a training run, archives the run, tells the team.

The names below are the Python API; everything else is the daemon's own.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modelwarden.errors import ModelwardenError, RejectSummary, RetryLater, StopService, UnknownRun
    from modelwarden.gate.assessment import Assessment, Classification, Flag
    from modelwarden.gate.gates import Gate, Override
    from modelwarden.gate.gating import assess, assess_model_quality
    from modelwarden.gate.policy import Policy
    from modelwarden.gate.soundness import PolicyError
    from modelwarden.gate.thresholds import ModelGatingConfig
    from modelwarden.manager import TrainingArchiveManager

_HOME: Final = {
    "Assessment": "gate.assessment",
    "Classification": "gate.assessment",
    "Flag": "gate.assessment",
    "Gate": "gate.gates",
    "ModelGatingConfig": "gate.thresholds",
    "ModelwardenError": "errors",
    "Override": "gate.gates",
    "Policy": "gate.policy",
    "PolicyError": "gate.soundness",
    "RejectSummary": "errors",
    "RetryLater": "errors",
    "StopService": "errors",
    "TrainingArchiveManager": "manager",
    "UnknownRun": "errors",
    "assess": "gate.gating",
    "assess_model_quality": "gate.gating",
}
"""Where each name of the API lives; it is imported when it is asked for, since a command needs few of them."""


def __getattr__(name: str) -> object:
    """A name of the API. Where it can't be imported the reason is told; a command tells it by itself."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.platform != "linux" and _HOME[name] != "errors":
        from modelwarden.errors import NEEDS_LINUX  # noqa: PLC0415 - nothing else can be imported there

        raise ImportError(NEEDS_LINUX)
    value = getattr(import_module(f"modelwarden.{_HOME[name]}"), name)
    globals()[name] = value
    return value


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
