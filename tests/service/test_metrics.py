"""Who asked for no metrics pays an empty call, and needs no package."""

import subprocess
import sys

from modelwarden.errors import RetryLater
from modelwarden.service.metrics import CourierMetrics, DaemonMetrics, NoCourierMetrics, NoMetrics
from readings import QUIET, run_of


def test_no_metrics_take_every_call_and_are_never_due() -> None:
    """They stand where the others do."""
    daemon: DaemonMetrics = NoMetrics()
    daemon.archived(run_of(1, 0, 0), 1.0)
    daemon.came_to("rejected")
    daemon.refused(RetryLater("x"))
    daemon.stand(QUIET)
    daemon.close()
    courier: CourierMetrics = NoCourierMetrics()
    courier.sent("team", "delivered")
    courier.stand(None)
    courier.close()
    assert (daemon.is_due(), courier.turn(), daemon.trouble, courier.trouble) == (False, False, "", "")


def test_package_is_imported_by_who_asks_for_it_alone() -> None:
    """Neither the daemon nor the courier loads it for nothing."""
    program = (
        "import sys, modelwarden.cli.running, modelwarden.cli.couriering; sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
