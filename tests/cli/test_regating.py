"""`regate`: what other bounds would make of an archive, and nothing of it changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import command
from invariants import snapshot
from modelwarden import TrainingArchiveManager
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from summaries import BAD, GOOD, MIDDLING, flat_summary

LLM = (
    '[[policy]]\nname = "llm"\nhistory = "loss"\n'
    '[[policy.gate]]\nmetric = "loss"\nbetter = "lower"\napprove = 0.3\nreview = 0.5\n'
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of the default policy, one of which also has a loss that nothing judged, and one of another policy."""
    folder = tmp_path_factory.mktemp("regating") / "archive"
    with TrainingArchiveManager(folder) as manager:
        for day in (1, 2):
            models = {"A": GOOD, "B": MIDDLING, "[red]": BAD}
            manager.archive_training_run(flat_summary(models, timestamp=f"2025010{day}_000000"))
        with_loss = {"A": GOOD | {"final_loss": 0.4}}
        manager.archive_training_run(flat_summary(with_loss, timestamp="20250103_000000"))
    llm = Policy((Gate("loss", approve=0.3, review=0.5, better=Better.LOWER),), name="llm")
    with TrainingArchiveManager(folder, policy=llm) as manager:
        losses: dict[str, dict[str, Any]] = {"gpt": {"final_loss": 0.25}, "bert": {"final_loss": 0.9}}
        manager.archive_training_run(flat_summary(losses, timestamp="20250104_000000"))
    return folder


def regated(archive: Path, *words: str | Path, code: int = 0) -> Any:
    done = command("regate", *words, "--json", "--archive", archive)
    assert (done.code, done.err) == (code, "")
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, "regate")
    return answer


def test_same_policy_changes_nothing_and_says_no(archive: Path) -> None:
    """The archive was judged by it; what knows none of its metrics is left out."""
    answer = regated(archive, code=1)
    assert (answer["assessments"], answer["foreign"], answer["changed"]) == (9, 2, 0)
    assert answer["before"] == answer["after"] == {"APPROVED": 3, "REVIEW": 2, "DROP": 2}


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
def test_other_bound_tells_who_changes_and_why(archive: Path, tmp_path: Path, state: bool) -> None:
    """Between which classes, which gate decides, whose models: with the state and without it."""
    copy = Path(shutil.copytree(archive, tmp_path / "copy")) if not state else archive
    if not state:
        shutil.rmtree(copy / ".state")
    answer = regated(copy, "--set", "approved_min_pf=2.5", "--set", "review_min_fitness=0.1")
    assert answer["moves"] == [{"from": "APPROVED", "to": "REVIEW", "count": 3}]
    assert answer["symbols"] == [{"symbol": "A", "from": "APPROVED", "to": "REVIEW", "runs": 3}]
    assert answer["gates"]["profit_factor"] == {"review": 5, "drop": 2, "alone": 3}
    assert answer["bounds"]["fitness"] == {"better": "higher", "approve": 0.7, "review": 0.1}
    done = command("regate", "--set", "approved_min_pf=2.5", "--archive", copy)
    assert "APPROVED -> REVIEW" in done.out
    assert "3 change class" in done.out


def test_policy_of_other_metrics_judges_what_was_only_kept(archive: Path, tmp_path: Path) -> None:
    """A figure that no gate named then is judged by a gate that does; by a file, or by the settings' own name."""
    config = tmp_path / "llm.toml"
    config.write_text(LLM)
    by_file = regated(archive, "--policy", config)
    by_name = regated(archive, "--policy", "llm", "--config", config)
    assert by_file == by_name
    assert (by_file["assessments"], by_file["foreign"]) == (9, 6)
    assert by_file["moves"] == [{"from": "APPROVED", "to": "REVIEW", "count": 1}]
    assert regated(archive, "--policy", config, "--set", "loss.approve=0.2")["changed"] == 2


def test_sweep_counts_along_a_bound(archive: Path) -> None:
    """A value a line, ends included; a bound that contradicts another is told in its place."""
    answer = regated(archive, "--sweep", "approved_min_fitness=0.4:1.0:0.2")
    assert [step["bound"] for step in answer["steps"]] == [0.4, 0.6, 0.8, 1.0]
    assert [step["after"]["APPROVED"] for step in answer["steps"]] == [0, 3, 3, 0]
    assert "stricter" in answer["steps"][0]["problem"]
    shown = command("regate", "--sweep", "approved_min_fitness=0.6:1.0:0.2", "--archive", archive)
    bars = [line for line in shown.lines if "█" in line or "▒" in line]
    assert [len(bar.split()[-1]) for bar in bars] == [24, 24, 24]
    down = regated(archive, "--sweep", "approved_min_fitness=1:0.6:-0.2")
    assert [step["bound"] for step in down["steps"]] == [1.0, 0.8, 0.6]


WRONG = [
    (["--set", "approved_min_pf"], "is no number"),
    (["--set", "approved_min_pf=nan"], "is no number"),
    (["--set", "approved_min_pf=1e999"], "is no number"),
    (["--set", "approved_min_pf=1"], "stricter"),
    (["--set", "approved_min_beauty=1"], "has no 'approved_min_beauty'"),
    (["--set", "\x1b[31m=1"], "has no"),
    (["--set", "consistency.approve=88"], "88"),
    (["--set", "fitness_decline_threshold=7"], "7"),
    (["--sweep", "approved_min_fitness=0.5"], "no sweep"),
    (["--sweep", "approved_min_fitness=0.5:0.9:0"], "no sweep"),
    (["--sweep", "approved_min_fitness=0.5:0.9:x"], "no sweep"),
    (["--sweep", "approved_min_fitness=0.9:0.5:0.1"], "lead away"),
    (["--sweep", "approved_min_fitness=0:1:0.0000001"], "more than 1000"),
    (["--sweep", "approved_min_fitness=0:1e300:1e-300"], "more than 1000"),
    (["--sweep", "nothing=0:1:1"], "has no 'nothing'"),
    (["--policy", "nowhere"], "no file and no policy"),
    (["--policy", "/"], "can't be read"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words)[:50] for words, _ in WRONG])
def test_bound_that_can_be_none_is_one_message(archive: Path, words: list[str], said: str) -> None:
    """What was typed, what is wrong with it, and exit code 2."""
    done = command("regate", *words, "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "\x1b" not in done.err
    assert "Traceback" not in done.err


def test_regate_changes_nothing(archive: Path) -> None:
    """No file of the archive, nor of its state."""
    before = snapshot(archive)
    command("regate", "--set", "approved_min_pf=2.5", "--archive", archive)
    command("regate", "--sweep", "approved_min_fitness=0.6:0.9:0.1", "--archive", archive)
    assert snapshot(archive) == before


def test_file_of_several_policies_is_refused(archive: Path, tmp_path: Path) -> None:
    """Which one is meant can't be guessed; the message names them."""
    config = tmp_path / "two.toml"
    config.write_text(LLM + LLM.replace('"llm"', '"other"'))
    done = command("regate", "--policy", config, "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert "leave one of llm, other" in done.err


def test_state_damaged_while_it_is_read_is_one_message(archive: Path, tmp_path: Path) -> None:
    """A page of the catalog that is garbage is told, not a traceback."""
    copy = Path(shutil.copytree(archive, tmp_path / "copy"))
    state = copy / ".state" / "modelwarden.sqlite"
    data = bytearray(state.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    state.write_bytes(data)
    done = command("regate", "--archive", copy)
    assert done.code in {1, 2}
    assert "Traceback" not in done.err
