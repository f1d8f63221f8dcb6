"""A rejected file that a trainer may have written: which format to set, and nothing where nothing is known."""

import json

import pytest

from modelwarden.errors import RejectSummary
from modelwarden.formats.shelf import presets
from modelwarden.gate import foreign
from modelwarden.gate.json_object import NotJson
from modelwarden.gate.summary import parse_summary
from modelwarden.pipeline import suggestion
from modelwarden.pipeline.suggestion import suggest_format
from trainers import FILES, TRAINERS


def reason(path: str, data: bytes) -> str:
    """Why the file is no summary, in the end."""
    with pytest.raises(RejectSummary) as error:
        parse_summary(data)
    suggest_format(path, error.value)
    return str(error.value)


@pytest.mark.parametrize("name", presets())
def test_real_file_of_a_trainer_names_its_format(name: str) -> None:
    """By what is in it where its keys tell, else by its name."""
    path = TRAINERS / FILES[name][0]
    said = reason(str(path), path.read_bytes())
    assert f'"{name}"' in said or name in {"hf-trainer-state", "vectorbt"}, said
    assert "in its [[watch]]" in said


def test_summary_that_is_wrong_suggests_nothing() -> None:
    """It was meant as one, whatever it is called."""
    data = json.dumps({"models": [{"symbol": "A", "final_fitness": "high"}]}).encode()
    assert "[[watch]]" not in reason("/a/results_1.json", data)


def test_file_that_nobody_knows_suggests_nothing() -> None:
    """No guess."""
    assert "[[watch]]" not in reason("/a/x.json", b'{"a": 1}')


def test_formats_that_are_suggested_by_keys_are_there() -> None:
    """The table of keys is in the gate, which knows of no format."""
    assert {name for *_, name in foreign._FORMATS if name} <= set(presets())


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("not TOML")])
def test_disk_that_refuses_the_formats_costs_the_suggestion_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the file is no summary is told all the same."""

    def refuse() -> None:
        raise error

    monkeypatch.setattr(suggestion, "presets", refuse)
    rejected = NotJson("not JSON")
    suggest_format("/out/evaluations.npz", rejected)
    assert len(rejected.problems) == 1
