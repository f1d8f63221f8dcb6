"""Which of the watched folders a file counts for: one, and always the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelwarden.formats.description import Format
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.pipeline.policies import JudgedFolder, Policies

STATS = Format("stats", "Stats", ("*.json",), "json", ".")
OUTER = JudgedFolder("/out", ("*.json",), "outer")
INNER = JudgedFolder("/out/in", ("*.json",), "inner")


def taken(path: str, *folders: JudgedFolder) -> str | None:
    """The policy of the folder that the file counts for."""
    policies = Policies(Policy.from_config(ModelGatingConfig()), (), folders)
    found = policies.folder_of(path)
    return None if found is None else found.policy


def as_format(folder: JudgedFolder, policy: str, *files: str) -> JudgedFolder:
    """The folder with a format that takes these files."""
    format_ = replace(STATS, files=files)
    return folder._replace(policy=policy, patterns=format_.names, format=format_)


@pytest.mark.parametrize(
    ("path", "folders", "policy"),
    [
        ("/out/a.json", (OUTER, INNER), "outer"),
        ("/out/in/a.json", (OUTER, INNER), "inner"),
        ("/out/in/deep/a.json", (OUTER, INNER), "inner"),
        ("/outer/a.json", (OUTER, INNER), None),
        ("/out/in/a.csv", (OUTER, INNER), None),
        # An inner folder that does not take a file leaves it to the outer one.
        ("/out/in/a.json", (OUTER, INNER._replace(patterns=("*.csv",))), "outer"),
        ("/out/in/a.json", (OUTER, as_format(INNER, "format", "b.json")), "outer"),
        ("/out/in/deep/a.json", (OUTER, INNER._replace(recursive=False)), "outer"),
        ("/out/in/a.json", (OUTER, INNER._replace(recursive=False)), "inner"),
        # Of two tables of a folder the one with a format, then the first.
        ("/out/a.json", (OUTER, as_format(OUTER, "format", "*.json")), "format"),
        ("/out/a.json", (as_format(OUTER, "one", "a*.json"), as_format(OUTER, "two", "*a.json")), "one"),
        ("/out/a.json", (as_format(OUTER, "two", "*a.json"), as_format(OUTER, "one", "a*.json")), "two"),
        ("/out/b/a.json", (as_format(OUTER, "one", "c/*.json"), as_format(OUTER, "two", "b/*.json")), "two"),
        # A format of an outer folder does not outrank an inner folder of summaries.
        ("/out/in/a.json", (as_format(OUTER, "format", "*.json"), INNER), "inner"),
    ],
)
def test_file_that_several_folders_take_counts_for_one(
    path: str, folders: tuple[JudgedFolder, ...], policy: str | None
) -> None:
    """The innermost; of the tables of one folder, one with a format, then the first."""
    assert taken(path, *folders) == policy


def test_folder_that_is_a_link_takes_what_lies_where_it_leads(tmp_path: Path) -> None:
    """Files are found under their real paths."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for recursive in (True, False):
        link = OUTER._replace(path=str(tmp_path / "link"), recursive=recursive)
        assert taken(str(tmp_path / "real" / "a.json"), link) == "outer"
