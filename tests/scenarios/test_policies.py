"""Other metrics by configuration alone, all the way: judged, archived, asked of, told of, verified and made again."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from commands import command
from processes import Site, drop, index_of, make_site, modelwarden, running_daemon, until
from servers import HttpServer, http_server
from summaries import GOOD, encoded, flat_summary

POLICIES = """
[[policy]]
name = "five"
history = "fitness"
[[policy.gate]]
metric = "fitness"
approve = 0.7
review = 0.5
[[policy.gate]]
metric = "profit_factor"
approve = 1.8
review = 1.3
infinity = "review"
[[policy.gate]]
metric = "consistency"
approve = 0.85
review = 0.65
[[policy.gate]]
metric = "max_drawdown"
better = "lower"
approve = 0.08
review = 0.15
[[policy.gate]]
metric = "sharpe"
label = "Sharpe ratio"
approve = 1.5
review = 1.0

[[policy]]
name = "language models"
history = "eval_loss"
[[policy.gate]]
metric = "eval_loss"
better = "lower"
approve = 0.35
review = 0.50
[[policy.gate]]
metric = "eval_accuracy"
approve = 0.90
review = 0.80
most = 1.0
[[policy.override]]
symbols = ["tiny-*"]
approve = { eval_loss = 0.45 }
review = { eval_loss = 0.60 }
"""
WATCH = """
[[watch]]
path = "out"
[[watch]]
path = "out/five"
create = true
policy = "five"
[[watch]]
path = "llm"
create = true
policy = "language models"
"""
FIVE = {"A": {**GOOD, "final_sharpe": 2.0}, "B": {**GOOD, "final_sharpe": 1.2}, "C": GOOD}
LANGUAGE: dict[str, Any] = {
    "base": {
        "metrics": {"eval_loss": [0.9, 0.5, 0.30, 0.33], "eval_accuracy": [0.5, 0.8, 0.93, 0.92], "ppl": [9, 4, 2, 3]}
    },
    "tiny-1": {"metrics": {"eval_loss": 0.44, "eval_accuracy": 0.91}},
    "big": {"final_eval_loss": 0.44, "final_eval_accuracy": 0.95},
}


class Judged(NamedTuple):
    """What a daemon made of one summary in each folder."""

    site: Site
    server: HttpServer
    events: Path


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """A daemon with three policies, which has archived three runs and told of them."""
    folder = tmp_path_factory.mktemp("policies")
    events = folder / "events.jsonl"
    with http_server() as server:
        told = (
            f'[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:{server.port}/"\n'
            'on = ["APPROVED", "REVIEW", "DROP"]\n'
            f'[[notify.destination]]\nname = "audit"\nkind = "file"\npath = "{events}"\n'
            'on = ["APPROVED", "REVIEW", "DROP"]\n'
        )
        site = make_site(folder, POLICIES, told, watch=WATCH)
        with running_daemon("--config", site.config, log=site.log) as daemon:
            drop(encoded(flat_summary(FIVE, timestamp="20250101_000001")), site.out, "default.json")
            drop(encoded(flat_summary(FIVE, timestamp="20250101_000002")), site.out / "five", "five.json")
            language = {"timestamp": "20250101_000003", "validation_interval": 100, "models": LANGUAGE}
            drop(encoded(language), folder / "llm", "language.json")
            daemon.wait_for("run_archived", 3)
            until(lambda: events.exists() and len(events.read_text().splitlines()) == 3, "three events")
            until(lambda: len(server.requests) >= 3, "three messages")
            assert daemon.stop() == 0
        yield Judged(site, server, events)


def ask(judged: Judged, *words: str) -> Any:
    """What a question is answered with, as JSON."""
    done = command(*words, "--json", "--config", judged.site.config)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_folder_decides_which_policy_judges(judged: Judged) -> None:
    """The inner of two folders that fit; what has no policy of its own is judged by the default one."""
    runs = {run["timestamp"]: run for run in index_of(judged.site.archive)}
    counts = {name: (run["approved_count"], run["review_count"], run["dropped_count"]) for name, run in runs.items()}
    assert counts == {"20250101_000001": (3, 0, 0), "20250101_000002": (1, 1, 1), "20250101_000003": (2, 1, 0)}
    assert len({run["policy"] for run in runs.values()}) == 3


def test_fifth_metric_is_shown_with_its_label_and_decides(judged: Judged) -> None:
    """In the answer, the report and the table."""
    models = {each["symbol"]: each for each in ask(judged, "show", "20250101_000002")["models"]}
    assert [models[symbol]["metrics"]["sharpe"] for symbol in "ABC"] == [2.0, 1.2, None]
    assert models["B"]["reasons"] == ["Sharpe ratio 1.20 < 1.50, the bound of APPROVED"]
    assert (models["C"]["flags"], models["C"]["reasons"]) == (["INVALID_METRIC"], ["Sharpe ratio is missing"])
    report = (judged.site.archive / "20250101_000002" / "recommendations.md").read_text()
    assert "| Sharpe ratio | >= 1.5 | >= 1.0 | < 1.0 |" in report
    shown = command("show", "20250101_000002", "--config", judged.site.config).out
    assert "Sharpe ratio" in shown


def test_lower_is_better_all_the_way(judged: Judged) -> None:
    """The peak is the lowest loss, its checkpoint is advised, an override has its own bounds."""
    models = {each["symbol"]: each for each in ask(judged, "show", "20250101_000003")["models"]}
    assert (models["base"]["best_idx"], models["base"]["checkpoint_update"]) == (2, 300)
    assert models["base"]["checkpoint_advice"].startswith("use checkpoint 300 instead of the last")
    assert models["base"]["others"] == {"ppl": 3.0}
    assert models["tiny-1"]["classification"] == "APPROVED"
    assert models["big"]["classification"] == "REVIEW"
    approved = {each["symbol"]: each for each in ask(judged, "approved", "20250101_000003")["models"]}
    assert approved["base"]["checkpoint"] == 300


def test_history_of_a_symbol_holds_runs_of_any_policy(judged: Judged) -> None:
    """Each run with its own metrics; a table has a column for each, and a dash for what a run does not have."""
    first, second = ask(judged, "history", "A")["history"]
    assert "sharpe" not in first["metrics"]
    assert second["metrics"]["sharpe"] == 2.0
    lines = command("history", "A", "--config", judged.site.config).lines
    assert "Sharpe ratio" in lines[0]
    assert lines[2].split()[:7][-1] == "-"


def test_messages_name_the_metrics_of_the_run(judged: Judged) -> None:
    """The chat's digest and the audit's lines."""
    events = [json.loads(line)["data"] for line in judged.events.read_text().splitlines()]
    by_run = {event["run"]: event for event in events}
    language = {each["symbol"]: each for each in by_run["20250101_000003"]["models"]}
    assert language["base"]["figures"] == {"eval_loss": 0.33, "eval_accuracy": 0.92}
    messages = [json.loads(request.body) for request in judged.server.requests]
    texts = [message["message"] for message in messages]
    assert any("Sharpe ratio 1.20 < 1.50" in text for text in texts)
    assert any("eval loss 0.44" in text for text in texts)
    if find_spec("matplotlib") is not None:
        assert [len(message["attachments"]) for message in messages if "eval loss" in message["message"]] == [1], "plot"


def test_check_judges_by_the_folder_or_by_the_policy_that_is_named(judged: Judged) -> None:
    """As the daemon would; another policy to try it."""
    config = judged.site.config
    inner = judged.site.out / "five" / "five.json"
    assert command("check", inner, "--config", config).code == 1
    assert command("check", inner, "--policy", "default", "--config", config).code == 0
    unknown = command("check", inner, "--policy", "nobody's", "--config", config)
    assert unknown.code == 2
    assert "the settings have default, five, language models" in unknown.err


def test_archive_of_three_policies_is_verified_and_made_again(judged: Judged) -> None:
    """Each run by what it recorded, also under settings that know none of these policies."""
    bare = judged.site.folder / "bare.toml"
    bare.write_text(f'archive_dir = "{judged.site.archive}"\n')
    index = (judged.site.archive / "index.json").read_bytes()
    before = ask(judged, "show", "20250101_000003")
    assert modelwarden("verify", "--config", bare).returncode == 0
    assert modelwarden("reindex", "--config", bare).returncode == 0
    assert (judged.site.archive / "index.json").read_bytes() == index
    assert ask(judged, "show", "20250101_000003") == before
