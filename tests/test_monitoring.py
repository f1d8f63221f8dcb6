"""What Prometheus and Grafana are given: each alert fires when it should and not otherwise, and every metric exists."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from modelwarden.service.metrics import Room
from modelwarden.service.metrics_export import TextFile
from modelwarden.service.metrics_server import MetricsServer
from modelwarden.state.reading import Messages
from readings import QUIET
from rigs.needs import needs

MONITORING = Path(__file__).parent.parent / "systemd" / "monitoring"
RULES = MONITORING / "modelwarden.rules.yml"
DASHBOARD = MONITORING / "modelwarden.dashboard.json"
ALERTS = re.findall(r"^ +-? *alert: (\w+)$", RULES.read_text(encoding="utf-8").replace("# ", ""), re.MULTILINE)

DAEMON = {"archive": "/a", "process": "daemon", "instance": "host:9100", "job": "node"}
NOW = "8h"
"""When the alerts are looked at; samples come each five minutes, 96 until then."""


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """A time series of the daemon's."""
    written = ",".join(f'{each}="{value}"' for each, value in (DAEMON | labels).items())
    return {"series": f"modelwarden_{name}{{{written}}}", "values": values}


WELL = [
    series("build_info", "1+0x96"),
    series("heartbeat_timestamp_seconds", "0+300x96"),
    series("start_time_seconds", "0+0x96"),
    series("archive_available", "1+0x96"),
    series("storage_suspect_total", "0+0x96"),
    series("disk_free_bytes", "50+0x96", disk="state"),
    series("disk_size_bytes", "100+0x96", disk="state"),
    series("queue_files", "0 3 0 2 0+0x92"),
    series("unreadable_paths", "0+0x96"),
    series("watch_active", "1+0x96"),
    series("summaries_total", "0+1x96", outcome="archived"),
    series("summaries_total", "2+0x96", outcome="rejected"),
    series("outbox_messages", "5+0x96", status="owed"),
    series("outbox_messages", "0+0x96", status="dead"),
    series("outbox_oldest_owed_timestamp_seconds", "0+300x96"),
    series("last_archived_timestamp_seconds", "0+300x96"),
]
"""A daemon in good health. Its alerts are quiet."""

TROUBLE: dict[str, list[list[dict[str, str]]]] = {
    "ModelwardenDown": [
        [series("heartbeat_timestamp_seconds", "0+300x90 27000+0x6")],  # the file stands still
        [series("heartbeat_timestamp_seconds", "0+300x80 _x16")],  # there is none any more
    ],
    "ModelwardenAbsent": [[series("build_info", "_x96")]],
    "ModelwardenCrashLoop": [[series("start_time_seconds", "0+0x90 1+100x5")]],
    "ModelwardenArchiveAway": [[series("archive_available", "1+0x90 0+0x5")]],
    "ModelwardenStorageSuspect": [[series("storage_suspect_total", "0+0x90 1+0x5")]],
    "ModelwardenDiskLow": [[series("disk_free_bytes", "50+0x90 4+0x5", disk="state")]],
    "ModelwardenFilesWait": [
        [series("queue_files", "3+0x96"), series("summaries_total", "7+0x96", outcome="archived")],
    ],
    "ModelwardenUnreadable": [[series("unreadable_paths", "1+0x96")]],
    "ModelwardenWatchLost": [[series("watch_active", "1+0x90 0+0x5")]],
    "ModelwardenRejected": [[series("summaries_total", "2+0x80 3+0x15", outcome="rejected")]],
    "ModelwardenMessageOverdue": [[series("outbox_oldest_owed_timestamp_seconds", "20000+0x96")]],
    "ModelwardenMessagesDead": [[series("outbox_messages", "0+0x90 1+0x5", status="dead")]],
    "ModelwardenNoRun": [[series("last_archived_timestamp_seconds", "-90000+0x96")]],
}
"""By alert, what is other than in good health; each of a list is another trouble."""

NARROW: dict[str, list[list[dict[str, str]]]] = {
    "ModelwardenDown": [[series("heartbeat_timestamp_seconds", "0+300x95 28500")]],
    "ModelwardenFilesWait": [
        [series("queue_files", "3+0x96")],  # a backlog that gets shorter
        [series("summaries_total", "7+0x96", outcome="archived")],  # nothing to do
    ],
    "ModelwardenDiskLow": [[series("disk_free_bytes", "5+0x96", disk="state")]],
    "ModelwardenMessageOverdue": [
        [series("outbox_oldest_owed_timestamp_seconds", "0+0x12 _x84")],  # nothing is owed
    ],
    "ModelwardenRejected": [[series("summaries_total", "9+0x48 0+0x48", outcome="rejected")]],  # started anew
    "ModelwardenStorageSuspect": [[series("storage_suspect_total", "0+0x60 1+0x36")]],  # hours ago
}
"""What comes near an alert, and is none."""


def alive(changed: list[dict[str, str]]) -> list[dict[str, str]]:
    """Good health, but for these."""
    names = {each["series"] for each in changed}
    return [*(each for each in WELL if each["series"] not in names), *changed]


def rules(folder: Path) -> Path:
    """The rules with what they show commented in."""
    path = folder / "rules.yml"
    text = RULES.read_text(encoding="utf-8")
    shown = text.index("      # - alert:")
    path.write_text(text[:shown] + text[shown:].replace("      # ", "      "), encoding="utf-8")
    return path


def firing(folder: Path, changed: list[dict[str, str]], expected: list[str]) -> None:
    """Fail unless exactly these alerts fire; a file in JSON is one in YAML."""
    tests = [
        {
            "interval": "5m",
            "input_series": alive(changed),
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": NOW,
                    "exp_samples": [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in expected],
                }
            ],
        }
    ]
    document = {"rule_files": [str(rules(folder))], "evaluation_interval": "5m", "tests": tests}
    (folder / "test.yml").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", folder / "test.yml"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid(tmp_path: Path) -> None:
    """As promtool checks them, with and without what is only shown."""
    needs(commands=("promtool",))
    for path in (RULES, rules(tmp_path)):
        done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_daemon_in_good_health_alerts_nobody(tmp_path: Path) -> None:
    """Nor does one that archives, owes and has rejected something before."""
    needs(commands=("promtool",))
    firing(tmp_path, [], [])


def cases(by_alert: dict[str, list[list[dict[str, str]]]]) -> list[Any]:
    """Each by its alert, numbered if there are several."""
    return [
        pytest.param(name, changed, id=f"{name}-{number}")
        for name, each in by_alert.items()
        for number, changed in enumerate(each)
    ]


@pytest.mark.parametrize(("alert", "changed"), cases(TROUBLE))
def test_alert_fires_alone(alert: str, changed: list[dict[str, str]], tmp_path: Path) -> None:
    """On what it is about, and no other with it."""
    needs(commands=("promtool",))
    firing(tmp_path, changed, [alert])


@pytest.mark.parametrize(("alert", "changed"), cases(NARROW))
def test_alert_does_not_fire_on_what_comes_near(alert: str, changed: list[dict[str, str]], tmp_path: Path) -> None:
    """A restart, a backlog, a moment, something of hours ago."""
    needs(commands=("promtool",))
    assert alert in TROUBLE
    firing(tmp_path, changed, [])


def test_every_alert_is_tried() -> None:
    """A new one comes with what sets it off."""
    assert sorted(ALERTS) == sorted(TROUBLE)


def test_alert_is_told_in_words(tmp_path: Path) -> None:
    """Which host, how long, and what to do."""
    needs(commands=("promtool",))
    alert = {
        "exp_labels": DAEMON | {"severity": "warning"},
        "exp_annotations": {
            "summary": "a message is owed for 2h 26m 40s on host:9100",
            "description": "A destination can't be reached, or no courier runs: `modelwarden outbox`.",
        },
    }
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "5m",
                "input_series": alive(TROUBLE["ModelwardenMessageOverdue"][0]),
                "alert_rule_test": [
                    {"eval_time": NOW, "alertname": "ModelwardenMessageOverdue", "exp_alerts": [alert]}
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def families(folder: Path) -> list[tuple[str, Metric]]:
    """All that daemon and courier tell when there is something of each."""
    file = TextFile(str(folder / "m.prom"), "/a")
    file.stand(QUIET._replace(last_archived=1.0, messages=Messages(1, 1, 1.0), rooms={"state": Room(1, 1)}))
    server = MetricsServer("unused", "/a", ["team"])
    server.sent("team", "delivered")
    server.stand(Messages(1, 1, 1.0))
    of_each = {"daemon": file.metrics.collect(), "courier": server.metrics.collect()}
    return [(process, family) for process, metrics in of_each.items() for family in metrics]


def told(folder: Path) -> Mapping[str, set[str]]:
    """Every sample, by its name, with the names of its labels."""
    names: dict[str, set[str]] = {}
    for _, family in families(folder):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


def test_reference_has_every_metric_with_its_labels_and_words(tmp_path: Path) -> None:
    """The table is the code's: who tells it, the labels that not all have, and the help."""
    text = (MONITORING.parent.parent / "daemon" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(modelwarden_\w+)` \| (\w+) \|(?: (.+))? \| (.+) \|$", text, re.MULTILINE)
    documented = {name: (of, {*re.findall(r"\w+", labels)}, what) for name, of, labels, what in rows}
    expected: dict[str, tuple[str, set[str], str]] = {}
    for process, family in families(tmp_path):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"archive", "process"}
        of = "both" if name in expected else process
        expected[name] = (of, labels, family.documentation)
    assert documented == expected


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_is_told(path: Path, tmp_path: Path) -> None:
    """With the labels by which it is chosen or added up."""
    text = path.read_text(encoding="utf-8").replace("\\", "")
    names = told(tmp_path)
    used = set(re.findall(r"\bmodelwarden_\w+", text))
    assert used
    assert used <= names.keys()
    for name, chosen in re.findall(r"(modelwarden_\w+)\{([^}]*)\}", text):
        labels = set(re.findall(r"(\w+)=", chosen))
        assert labels <= names[name] | {"instance", "job"}, name


def test_every_metric_that_is_told_is_shown_or_watched(tmp_path: Path) -> None:
    """What nobody looks at need not be told."""
    text = "".join(path.read_text(encoding="utf-8") for path in (RULES, DASHBOARD))
    parts = {"modelwarden_ready_to_archived_seconds_sum", "modelwarden_ready_to_archived_seconds_count"}
    unused = {name for name in told(tmp_path) if not re.search(rf"\b{name}\b", text)}
    assert unused - parts == set()


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def test_dashboard_is_one_that_grafana_takes() -> None:
    """Each panel has a title, a place of its own, a unit, and what it asks; the source is chosen at the import."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert (document["title"], document["uid"]) == ("modelwarden", "modelwarden")
    assert document["schemaVersion"] >= 36
    identities = [panel["id"] for panel in document["panels"]]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in panels(document):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(target["expr"] and target["refId"] for target in panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}


def test_what_the_dashboard_asks_is_valid(tmp_path: Path) -> None:
    """Each expression, as promtool reads it; the choices at the top stand for themselves."""
    needs(commands=("promtool",))
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in panels(document) for target in panel["targets"]]
    named = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": named}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
