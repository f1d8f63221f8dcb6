"""`formats`: what is listed, what is shown, what would come of a file."""

import json
import tomllib
from pathlib import Path

import pytest

from answers import answer
from commands import command
from modelwarden.cli.formats import format_as_toml
from modelwarden.config import known_formats, load_settings
from modelwarden.formats.description import Format, format_of
from modelwarden.formats.shelf import presets
from trainers import FILES, TRAINERS

pytestmark = pytest.mark.usefixtures("no_settings")

STATE = TRAINERS / FILES["hf-trainer-state"][0]
POLICY = """
[[policy]]
name = "lm"
history = "eval_loss"
[[policy.gate]]
metric = "eval_loss"
better = "lower"
approve = 0.7
review = 0.8
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with a policy."""
    path = tmp_path / "c.toml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def test_list_has_every_format_and_ones_own(config: Path) -> None:
    """A line each."""
    config.write_text(POLICY + "[[format]]\nname = 'own'\nlike = 'keras'\n")
    names = [line.split()[0] for line in command("formats", "--config", config).lines[2:]]
    assert names == [*presets(), "own"]
    listed = json.loads(command("formats", "--config", config, "--json").out)
    assert [each["name"] for each in listed["formats"]] == names


def test_list_is_in_the_order_of_the_names() -> None:
    """`freqtrade` before `freqtrade-hyperopt`: the names count, and not those of their files."""
    listed = [line.split()[0] for line in command("formats").lines[2:]]
    assert listed == sorted(listed)


@pytest.mark.parametrize("name", presets())
def test_format_that_is_shown_is_the_format(name: str) -> None:
    """What is printed can be a file of one's own."""
    shown = command("formats", "show", name).out
    assert format_of(tomllib.loads(shown)) == presets()[name]


def test_format_with_quotes_survives() -> None:
    """Also where a program can't stand in plain quotes."""
    odd = Format("odd", "Odd", ("a",), "json", "\"'''\" | .\r\n", notes="a\tb")
    assert format_of(tomllib.loads(format_as_toml(odd))) == odd


def test_format_that_is_shown_is_read_from_a_file(tmp_path: Path) -> None:
    """With another name."""
    shown = command("formats", "show", "sb3").out.replace('name = "sb3"', 'name = "own"', 1)
    (tmp_path / "own.toml").write_text(shown, encoding="utf-8")
    (tmp_path / "c.toml").write_text("[[format]]\nfile = 'own.toml'\n")
    settings, _ = load_settings(str(tmp_path / "c.toml"))
    assert known_formats(settings).formats["own"].program == presets()["sb3"].program


def test_try_shows_what_is_read() -> None:
    """Each metric with its last figure, and how many points it has."""
    done = command("formats", "try", "hf-trainer-state", STATE)
    assert done.code == 0
    assert any(line.split() == ["bert", "eval_loss", "0.616681", "8", "points"] for line in done.lines)


def test_try_with_a_policy_shows_what_would_be_judged(config: Path) -> None:
    """As `check` does, with its exit codes."""
    done = command("formats", "try", "hf-trainer-state", STATE, "--policy", "lm", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert "1 APPROVED, 0 REVIEW, 0 DROP" in done.out
    as_json = command("formats", "try", "hf-trainer-state", STATE, "--policy", "lm", "--config", config, "--json")
    assert json.loads(as_json.out)["files"][0]["models"][0]["classification"] == "APPROVED"


def test_try_says_that_the_training_goes_on() -> None:
    """And shows what there is."""
    file = TRAINERS / "hf-trainer/dev/bert/checkpoint-150/trainer_state.json"
    done = command("formats", "try", "hf-trainer", file)
    assert "the training goes on: it would not be judged yet" in done.err
    assert "eval_loss" in done.out


def test_try_says_that_the_format_takes_no_such_name(tmp_path: Path) -> None:
    """It reads it all the same."""
    (tmp_path / "log.csv").write_bytes((TRAINERS / FILES["keras"][0]).read_bytes())
    done = command("formats", "try", "keras", tmp_path / "log.csv")
    assert done.code == 0
    assert "keras takes training.log: set patterns to take this too" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nope"], "there is no format 'nope': `modelwarden formats` lists them"),
        (["try", "nope", "x"], "there is no format 'nope'"),
        (["try", "keras", "/nope"], "there is no such file"),
        (["try", "keras", "/"], "is a folder"),
        (["try", "keras", str(STATE)], "line 2: has"),
        (["try", "sb3", str(STATE)], "not a whole ZIP file"),
        (["try", "hf-trainer-state", str(STATE), "--policy", "nope"], "there is no policy 'nope'"),
        (
            ["try", "hf-trainer-state", str(STATE), "--policy", "default"],
            "no model has a metric of the policy 'default'",
        ),
    ],
)
def test_what_can_not_be_done_is_one_sentence(words: list[str], said: str) -> None:
    """On standard error, with code 2."""
    done = command("formats", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_check_judges_a_file_by_its_folders_format(config: Path) -> None:
    """As the daemon would."""
    watch = f"[[watch]]\npath = '{TRAINERS}'\nformat = 'hf-trainer-state'\npolicy = 'lm'\n"
    config.write_text(watch + POLICY)
    done = command("check", STATE, "--config", config)
    assert done.code == 0
    assert "1 APPROVED" in done.out


@pytest.mark.parametrize("name", presets())
def test_format_as_data_says_what_its_file_says(name: str) -> None:
    """Key by key; what a file leaves out is there with what it means."""
    found = answer("formats show", name)
    shown = tomllib.loads(command("formats", "show", name).out)
    rules = shown.pop("metric", [])
    assert {key: found[key] for key in shown} == shown
    assert [{key: each[key] for key in rule} for rule, each in zip(rules, found["metrics"], strict=True)] == rules
