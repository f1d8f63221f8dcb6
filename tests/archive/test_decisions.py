"""The chain of decisions: whatever is removed from it, altered in it or put into it is told."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.archive.decisions import (
    HEAD_FILE,
    Head,
    decode_decision,
    encode_decision,
    encode_head,
    faults_in,
    read_all,
    read_decisions,
    read_head,
)
from modelwarden.archive.numbered import file_name
from modelwarden.errors import UnknownRun
from modelwarden.gate.assessment import Classification
from modelwarden.gate.decision import Decision, Verb, in_force

RUNS = ("20250101_000000", "20250102_000000")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


def decision(
    number: int, run: str = RUNS[0], verb: Verb = Verb.APPROVE, symbol: str = "A", previous: str = ""
) -> Decision:
    return Decision(
        number=number,
        run=run,
        sha256="0" * 64,
        symbol=symbol,
        verb=verb,
        override=False,
        reason="because",
        by="me",
        decided_at="2025-01-01T00:00:00Z",
        host="here",
        daemon_id="0f1e2d3c",
        policy="766fc3ed",
        classification=Classification.REVIEW,
        checkpoint=None,
        previous=previous,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four decisions about two runs, and the end of the chain."""
    previous = ""
    for number in range(1, 5):
        run = RUNS[number % 2]
        folder = tmp_path / "reviews" / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_name(number)).write_bytes(encode_decision(decision(number, run, previous=previous)))
        previous = read_all(str(tmp_path))[-1].digest
    (tmp_path / "reviews" / HEAD_FILE).write_bytes(encode_head(Head(4, previous)))
    return tmp_path


def file(root: Path, number: int) -> Path:
    return root / "reviews" / RUNS[number % 2] / file_name(number)


def faults(root: Path) -> list[tuple[str, bool]]:
    return [(fault.what, fault.is_derived) for fault in faults_in(read_all(str(root)), read_head(str(root)))]


def test_chain_as_it_was_written_has_no_fault(root: Path) -> None:
    """Nor has an archive in which nothing was decided."""
    assert faults(root) == []
    assert faults(root / "nowhere") == []


@given(TEXT, TEXT, st.none() | st.integers(0, 10**9) | TEXT, st.sampled_from(Verb), st.booleans())
def test_decision_comes_back_as_it_was_written(
    symbol: str, reason: str, checkpoint: int | str | None, verb: Verb, override: bool
) -> None:
    """Every field, of any text."""
    written = decision(3, verb=verb, symbol=symbol)._replace(reason=reason, checkpoint=checkpoint, override=override)
    assert decode_decision(encode_decision(written)) == written


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_removed_decision_is_told_wherever_it_stood(root: Path, number: int) -> None:
    """The first, the last and those between."""
    file(root, number).unlink()
    assert [what for what, _ in faults(root)] == [f"decision {number} was removed"]


def test_removed_folder_is_told(root: Path) -> None:
    """All that was decided about a run."""
    for number in (2, 4):
        file(root, number).unlink()
    file(root, 2).parent.rmdir()
    assert [what for what, _ in faults(root)] == ["decision 2 was removed", "decision 4 was removed"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_altered_decision_is_told_wherever_it_stands(root: Path, number: int) -> None:
    """Another verb, written as carefully as the product writes: the next file, or the head, does not fit any more."""
    path = file(root, number)
    path.write_bytes(encode_decision(decode_decision(path.read_bytes())._replace(verb=Verb.REJECT)))
    assert len(faults(root)) == 1
    assert "altered" in faults(root)[0][0]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[1]", b'{"schema_version": 1}', b'{"schema_version": 2}'])
def test_file_that_is_no_decision_is_told_and_approves_nothing(root: Path, data: bytes) -> None:
    """Whoever asks what was decided about that run is told so; the other run is asked as before."""
    file(root, 2).write_bytes(data)
    assert faults(root)[0][0].startswith("is damaged")
    with pytest.raises(UnknownRun, match=r"000002\.json: is damaged"):
        read_decisions(str(root), RUNS[0])
    assert [each.number for each in read_decisions(str(root), RUNS[1])] == [1, 3]


def test_decision_under_another_name_is_told(root: Path) -> None:
    """A file that was copied to where it does not belong decides nothing there."""
    stray = root / "reviews" / RUNS[0] / file_name(5)
    stray.write_bytes(file(root, 4).read_bytes())
    assert "is not what was written under this name" in [what for what, _ in faults(root)]
    with pytest.raises(UnknownRun):
        read_decisions(str(root), RUNS[0])


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"number": "x", "digest": 1}'])
def test_head_that_is_lost_is_derived(root: Path, data: bytes | None) -> None:
    """The decisions are whole, and it can be made again."""
    head = root / "reviews" / HEAD_FILE
    head.unlink() if data is None else head.write_bytes(data)
    assert [is_derived for _, is_derived in faults(root)] == [True]


def test_foreign_files_in_reviews_are_left_alone(root: Path) -> None:
    """Notes that somebody keeps there, and folders that are no run's."""
    (root / "reviews" / "README").write_text("hello")
    (root / "reviews" / "notes").mkdir()
    (root / "reviews" / RUNS[0] / "note.txt").write_text("x")
    assert faults(root) == []


def test_last_decision_about_a_model_counts() -> None:
    """A later one takes the place of an earlier, a withdrawal leaves none, and other bytes are another run."""
    decisions = [
        decision(3, verb=Verb.REJECT),
        decision(1),
        decision(2, symbol="B"),
        decision(4, symbol="B", verb=Verb.WITHDRAW),
        decision(5, symbol="C")._replace(sha256="1" * 64),
    ]
    assert {symbol: each.verb for symbol, each in in_force(decisions, "0" * 64).items()} == {"A": Verb.REJECT}


def test_file_is_json_that_a_person_can_read(root: Path) -> None:
    """A line a field."""
    assert json.loads(file(root, 1).read_text())["reason"] == "because"
    assert len(file(root, 1).read_text().splitlines()) > 10
