"""What a format is: which files it takes, and what is wrong with one."""

from dataclasses import replace
from typing import Any

import pytest

from modelwarden.formats.description import Format, MetricRule, problems_of

GOOD = Format("good", "Good", ("*.json",), "json", ".")


@pytest.mark.parametrize(
    ("files", "path", "taken"),
    [
        (["*.json"], "/a/b.json", True),
        (["*.json"], "/a/b.csv", False),
        (["runs/*/r.json"], "/x/runs/one/r.json", True),
        (["runs/*/r.json"], "/x/runs/one/two/r.json", False),
        (["runs/*/r.json"], "r.json", False),
        (["r.json", "!old/r.json"], "/old/r.json", False),
        (["!old/r.json", "r.json"], "/new/r.json", True),
        (["a[bc].json"], "/ab.json", True),
    ],
)
def test_file_is_taken_by_the_end_of_its_path(files: list[str], path: str, taken: bool) -> None:
    """Part by part; what begins with ! takes away."""
    assert replace(GOOD, files=tuple(files)).takes(path) is taken


def test_names_are_what_a_folder_is_looked_through_for() -> None:
    """The last parts of the patterns, each once."""
    files = ("a/r.json", "b/r.json", "x.csv", "!c/r.json")
    assert replace(GOOD, files=files).names == ("r.json", "x.csv")


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"name": "No"}, ("name",), "small letters"),
        ({"name": "a/b"}, ("name",), "small letters"),
        ({"reader": "xml"}, ("reader",), "json, jsonl, csv"),
        ({"files": ("!a",)}, ("files",), "at least one"),
        ({"program": " "}, ("program",), "characters"),
        ({"program": "." * 70_000}, ("program",), "70000"),
        ({"last_line": "("}, ("last_line",), "no regular expression"),
        ({"last_line": "(a)", "goal": "("}, ("goal",), "no regular expression"),
        ({"last_line": "(a)", "goal": "a"}, ("goal",), "in brackets"),
        ({"last_line": "a", "goal": "(a)"}, ("last_line",), "in brackets"),
        ({"goal": "(a)"}, ("last_line",), "in brackets"),
        ({"goal_in": "a"}, ("goal_in",), "which number"),
        ({"last_line": "(a)", "goal": "(a)", "goal_in": "../a"}, ("goal_in",), "outside"),
        ({"last_line": "(a)", "goal": "(a)", "goal_in": "/a"}, ("goal_in",), "outside"),
        ({"final": ("soon",)}, ("final", 0), "quiet:30m"),
        ({"final": ()}, ("final",), "quiet:30m"),
        ({"together": ("../x",), "reader": "zip"}, ("together", 0), "outside"),
        ({"together": ("/x",), "reader": "zip"}, ("together", 0), "outside"),
        ({"together": ("x",)}, ("reader",), "zip"),
        ({"kept": ("a",)}, ("kept", 0), "one {}"),
        ({"kept": ("{}/x",)}, ("kept", 0), "one {}"),
        ({"kept": ("/{}",)}, ("kept", 0), "from the file's folder"),
        ({"metrics": (MetricRule("a", least=1.0, most=0.0),)}, ("metric", 0), "above"),
    ],
)
def test_format_that_is_wrong_is_told_where(fields: dict[str, Any], place: tuple[str | int, ...], words: str) -> None:
    """Each place once, with what belongs there."""
    [(where, said)] = problems_of(replace(GOOD, **fields))
    assert where == place
    assert words in said


def test_format_that_is_right_has_no_problem() -> None:
    """Also with everything set."""
    full = replace(GOOD, reader="zip", together=("a/**/*",), kept=("../{}", "weights/e{}.pt"), last_line="done")
    assert [*problems_of(full)] == []
    assert [*problems_of(replace(full, last_line="(a)", goal="(a)", goal_in="b/c.yaml"))] == []


def test_first_rule_that_fits_counts() -> None:
    """Patterns go from the narrow to the wide."""
    rules = (MetricRule("val_loss", sound=True), MetricRule("*loss"))
    assert replace(GOOD, metrics=rules).rule_of("val_loss") is rules[0]
    assert replace(GOOD, metrics=rules).rule_of("loss") is rules[1]
    assert replace(GOOD, metrics=rules).rule_of("acc") is None
