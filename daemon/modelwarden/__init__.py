"""modelwarden: judges every model of a training run, archives the run, tells the team.

The names below are the Python API; everything else is the daemon's own.
"""

from modelwarden.errors import ModelwardenError, RejectSummary, RetryLater, StopService, UnknownRun
from modelwarden.gate.assessment import Classification, Flag
from modelwarden.gate.gating import assess_model_quality
from modelwarden.gate.policy import ModelGatingConfig
from modelwarden.manager import TrainingArchiveManager

__version__ = "0.1.0"

__all__ = [
    "Classification",
    "Flag",
    "ModelGatingConfig",
    "ModelwardenError",
    "RejectSummary",
    "RetryLater",
    "StopService",
    "TrainingArchiveManager",
    "UnknownRun",
    "assess_model_quality",
]
