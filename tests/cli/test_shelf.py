"""`rejected`: what was no summary is listed with its reasons, shown, and judged again after a mend."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from answers import answer, assert_fits
from commands import command
from processes import Site, destination, index_of, make_site, outbox_of
from summaries import GOOD, encoded, flat_summary

TEAM = destination("team", "json://127.0.0.1:9/x", "APPROVED", "REJECTED")
LOSS = encoded({"models": [{"symbol": "gpt", "final_loss": 0.2}], "timestamp": "20250101_000000"})
LLM = (
    '[[policy]]\nname = "llm"\nhistory = "loss"\n'
    '[[policy.gate]]\nmetric = "loss"\nbetter = "lower"\napprove = 0.3\nreview = 0.5\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A daemon that rejected three files: no JSON, another program's, and one too large."""
    site = make_site(tmp_path / "site", TEAM, intake="max_bytes = 400")
    (site.out / "half.json").write_bytes(b'{"models": \x1b[31m[')
    (site.out / "loss.json").write_bytes(LOSS)
    (site.out / "large.json").write_bytes(encoded(flat_summary({f"S{n}": GOOD for n in range(10)})))
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 1
    return site


def in_json(site: Site, *words: str) -> Any:
    done = command(*words, "--json", "--config", site.config)
    assert done.code == 0, done.err
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, "rejected")
    return answer["rejected"]


def id_of(site: Site, name: str) -> str:
    return next(str(each["id"]) for each in in_json(site, "rejected") if each["path"].endswith(name))


def test_rejected_files_are_listed_with_their_reasons(site: Site) -> None:
    """Which, when and why; nothing that moves a cursor."""
    found = in_json(site, "rejected")
    assert sorted(Path(each["path"]).name for each in found) == ["half.json", "large.json", "loss.json"]
    done = command("rejected", "--config", site.config)
    assert (done.code, done.err) == (0, "")
    assert len(done.lines) == 5
    assert "more than max_bytes = 400" in done.out
    assert "\x1b" not in done.out


def test_archive_without_rejected_files_says_no(tmp_path: Path) -> None:
    """A sentence, an empty list, exit code 1 for both."""
    site = make_site(tmp_path)
    (site.out / "a.json").write_bytes(encoded(flat_summary()))
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    done = command("rejected", "--config", site.config)
    assert (done.code, done.out) == (1, "nothing was rejected\n")
    assert command("rejected", "retry", "--all", "--config", site.config).out == "nothing was rejected\n"


def test_rejected_file_is_shown_with_all_that_is_wrong(site: Site) -> None:
    """By the beginning of its id: where it was, every reason, how it begins."""
    identity = id_of(site, "half.json")
    done = command("rejected", "show", identity[:6], "--config", site.config)
    assert (done.code, done.err) == (0, "")
    assert f"{site.out}/half.json" in done.out
    assert "not JSON" in done.out
    assert '{"models": \\x1b[31m[' in done.out
    assert "\x1b" not in done.out
    assert [each["id"] for each in in_json(site, "rejected", "show", identity)] == [identity]


@pytest.mark.parametrize("identity", ["", "zz", "../..", "0" * 17, "*"])
@pytest.mark.parametrize("verb", ["show", "retry"])
def test_id_that_is_none_is_one_message(site: Site, verb: str, identity: str) -> None:
    """Nothing is guessed, and nothing outside the shelf is looked at."""
    done = command("rejected", verb, identity, "--config", site.config)
    assert (done.code, done.out) == (2, "")
    assert "nothing rejected is called" in done.err


def test_retry_after_a_mend_archives_and_clears_the_shelf(site: Site) -> None:
    """What the settings' new policy can judge is archived as if it had come just now, and announced by the daemon."""
    failed = command("rejected", "retry", "--all", "--config", site.config)
    assert failed.code == 1
    assert len(in_json(site, "rejected")) == 3
    text = site.config.read_text().replace('path = "out"\n', 'path = "out"\npolicy = "llm"\n')
    site.config.write_text(f"{text}\n{LLM}")

    done = command("rejected", "retry", id_of(site, "loss.json"), "--config", site.config)

    assert (done.code, done.err) == (0, "")
    assert "archived as 20250101_000000: 1 APPROVED" in done.out
    assert [run["timestamp"] for run in index_of(site.archive)] == ["20250101_000000"]
    assert len(in_json(site, "rejected")) == 2
    assert command("verify", "--config", site.config).code == 0
    assert not [row for row in outbox_of(site.state) if row["kind"] == "RUN"]
    command("run", "--once", "--no-courier", "--config", site.config)
    assert len([row for row in outbox_of(site.state) if row["kind"] == "RUN"]) == 1


def test_retry_tells_why_each_is_rejected_still(site: Site) -> None:
    """One is no JSON whatever the settings say; of one that was too large the rest is gone."""
    done = command("rejected", "retry", "--all", "--config", site.config)
    assert done.code == 1
    said = {line.split(": ")[0].split()[1]: line for line in done.lines}
    assert "rejected: not JSON" in said["half.json"]
    assert "only its beginning was kept" in said["large.json"]
    for words in ([], ["x", "--all"]):
        refused = command("rejected", "retry", *words, "--config", site.config)
        assert (refused.code, refused.out) == (2, "")


@pytest.mark.parametrize("data", [None, b"", b"[]", b"{}", b'{"path": 1}', b"\xff"])
def test_reason_that_somebody_spoiled_hides_no_file(site: Site, data: bytes | None) -> None:
    """It is listed, and says so; its bytes are there."""
    identity = id_of(site, "half.json")
    reason = site.archive / "rejected" / identity / "reason.json"
    reason.unlink() if data is None else reason.write_bytes(data)
    assert identity in [each["id"] for each in in_json(site, "rejected")]
    assert command("rejected", "show", identity, "--config", site.config).code == 0
    retried = command("rejected", "retry", identity, "--config", site.config)
    assert retried.code == 1
    (site.archive / "rejected" / "notes").mkdir()
    shutil.rmtree(site.archive / "rejected" / identity)
    assert len(in_json(site, "rejected")) == 2


def test_retry_tells_as_data_what_became_of_each(site: Site) -> None:
    """In the words of `archive`; a shelf that is empty is no file, and no failure."""
    text = site.config.read_text().replace('path = "out"\n', 'path = "out"\npolicy = "llm"\n')
    site.config.write_text(f"{text}\n{LLM}")
    tried = answer("rejected retry", "--all", "--config", site.config, code=1)
    found = {Path(each["file"]).name: each for each in tried["files"]}
    assert {name: (each["outcome"], each["run"]) for name, each in found.items()} == {
        "half.json": ("rejected", None),
        "large.json": ("not archived", None),
        "loss.json": ("archived", "20250101_000000"),
    }
    assert "only its beginning was kept" in found["large.json"]["said"]
    shutil.rmtree(site.archive / "rejected")
    assert answer("rejected retry", "--all", "--config", site.config)["files"] == []
