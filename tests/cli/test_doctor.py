"""`doctor`: what is wrong with a machine is said with what to do, and no secret with it."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from answers import answer
from invariants import snapshot
from modelwarden.sinks.chat.destinations import Destination
from processes import Site, destination, drop, make_site, modelwarden
from servers import HttpServer, http_server, unused_port
from summaries import encoded, flat_summary

CANARY = "c4nary0c4nary0c4nary0c4n"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that takes everything."""
    with http_server() as server:
        yield server


def doctor(site: Site, *options: str) -> tuple[int, list[str]]:
    """The exit code, and what is said."""
    done = modelwarden("doctor", *options, "--config", site.config)
    return done.returncode, done.stdout.splitlines()


def test_machine_as_it_must_be_is_good(tmp_path: Path, server: HttpServer) -> None:
    """Before the first start and after it; asking changes nothing and sends nothing."""
    site = make_site(tmp_path, destination("team", server.url(CANARY), "APPROVED"))
    before = snapshot(tmp_path)
    code, said = doctor(site)
    assert (code, [line for line in said if not line.startswith("good")]) == (0, [])
    assert snapshot(tmp_path) == before

    drop(encoded(flat_summary()), site.out)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    code, said = doctor(site)
    assert code == 0
    assert any("1 run," in line for line in said)
    assert any(f"127.0.0.1:{server.port} answers" in line for line in said)
    assert server.requests == []
    assert CANARY not in "\n".join(said)


def test_test_message_is_sent_only_if_it_is_asked_for(tmp_path: Path, server: HttpServer) -> None:
    """With --send each destination gets one, and what came of it is said."""
    site = make_site(tmp_path, destination("team", server.url("x"), "APPROVED"))
    assert doctor(site, "--send")[0] == 0
    assert len(server.accepted) == 1
    server.answer = 500
    code, said = doctor(site, "--send")
    assert code == 1
    assert any("500" in line for line in said)


def test_each_thing_that_is_wrong_is_said_with_what_to_do(tmp_path: Path) -> None:
    """A folder that is not there, an archive that is another, a destination that nobody answers for."""
    site = make_site(
        tmp_path,
        destination("team", f"json://127.0.0.1:{unused_port()}/{CANARY}", "APPROVED"),
        watch='state_dir = "state"\n[[watch]]\npath = "out"\n[[watch]]\npath = "gone"\n',
    )
    drop(encoded(flat_summary()), site.out)
    modelwarden("run", "--once", "--no-courier", "--config", site.config)
    site.archive.rename(tmp_path / "away")
    site.archive.mkdir()

    code, said = doctor(site)

    wrong = {
        line.split(": ")[0].removeprefix("WRONG "): said[at + 1] for at, line in enumerate(said) if "WRONG" in line
    }
    assert code == 1
    assert set(wrong) == {f"watched folder {tmp_path / 'gone'}", f"archive {site.archive}", 'destination "team"'}
    assert all(hint.strip() for hint in wrong.values())
    assert CANARY not in "\n".join(said)


@pytest.mark.parametrize("readable", [True, False], ids=["readable", "damaged"])
def test_clock_that_is_behind_the_latest_run_is_wrong(tmp_path: Path, readable: bool) -> None:
    """It was set back, or is wrong since the start; a latest run that can't be read says nothing of the clock."""
    site = make_site(tmp_path)
    drop(encoded(flat_summary()), site.out)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    (assessments,) = site.archive.glob("*/model_assessments.json")
    document = json.loads(assessments.read_bytes())
    later = datetime.fromisoformat(document["archived_at"]) + timedelta(hours=2)
    text = assessments.read_text().replace(document["archived_at"], later.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    assessments.write_text(text if readable else text[:-20])
    shutil.rmtree(site.state)
    (site.archive / "index.json").unlink()

    code, said = doctor(site)

    assert code == int(readable)
    assert any(line.startswith("good  archive") for line in said)
    assert any("1 run," in line for line in said)
    (clock,) = (line for line in said if "clock: it is" in line)
    assert (clock.startswith("WRONG") and clock.endswith("and a run was archived later")) is readable


def test_metrics_that_cannot_be_written_are_wrong(tmp_path: Path) -> None:
    """Until their folder is there; what the courier answers is looked for in its log."""
    site = make_site(tmp_path, '[metrics]\nfile = "run/m.prom"\nlisten = "127.0.0.1:9464"\n')
    code, said = doctor(site)
    assert code == 1
    (at,) = (at for at, line in enumerate(said) if line.startswith("WRONG"))
    assert said[at] == f"WRONG metrics {tmp_path / 'run' / 'm.prom'}: has no folder"
    assert "make " in said[at + 1]
    (tmp_path / "run").mkdir()
    code, said = doctor(site)
    assert code == 0
    assert sum(line.startswith("good  metrics") for line in said) == 2


def test_url_that_nobody_understands_is_wrong_and_the_others_are_tried(tmp_path: Path, server: HttpServer) -> None:
    """Each destination has a line of its own, without its URL, and the machine was looked at before."""
    site = make_site(
        tmp_path,
        destination("pager", f"nosuch://{CANARY}", "APPROVED") + destination("team", server.url("x"), "APPROVED"),
    )
    code, said = doctor(site)
    assert code == 1
    (at,) = (at for at, line in enumerate(said) if line.startswith("WRONG"))
    assert said[at].startswith('WRONG destination "pager": ')
    assert any(line.startswith('good  destination "team"') for line in said)
    assert any(line.startswith("good  clock") for line in said)
    assert CANARY not in "\n".join(said)


def test_wrong_settings_are_said_before_all_else(tmp_path: Path) -> None:
    """As `config check` does: all of them, and exit code 2."""
    site = make_site(tmp_path, "[gate]\nnonsense = 1\n")
    done = modelwarden("doctor", "--config", site.config)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folder_that_may_not_be_read_is_wrong(tmp_path: Path) -> None:
    """Also one that is below the watched one."""
    site = make_site(tmp_path)
    (site.out / "closed").mkdir(mode=0)
    code, said = doctor(site)
    assert code == 1
    assert any("1 place can't be read" in line for line in said)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (f"slack://T{CANARY[:8].upper()}/B{CANARY[:8].upper()}/{CANARY}/#models", ("hooks.slack.com", 443)),
        (f"discord://{CANARY}/{CANARY}", None),
        (f"tgram://123456789:{CANARY}_{CANARY}/12345", None),
        (f"pover://{CANARY}abcdef@{CANARY}abcdef", None),
        (f"mailtos://me:{CANARY}@mail.example.com:465?to=a@example.com", ("mail.example.com", 465)),
        (f"jsons://me:{CANARY}@deploy.example.com/{CANARY}", ("deploy.example.com", 443)),
        (f"json://deploy.example.com:8080/{CANARY}", ("deploy.example.com", 8080)),
    ],
)
def test_address_of_a_destination_has_no_token(url: str, address: tuple[str, int] | None) -> None:
    """What a plugin takes for its host may be a token: only a host is told, or none."""
    found = Destination("team", url, ("APPROVED",)).address()
    assert CANARY.lower() not in str(found).lower()
    assert CANARY[:8] not in str(found).lower()
    if address is not None:
        assert found == address


def test_answer_as_data_has_all_that_is_good_and_all_that_is_wrong(tmp_path: Path) -> None:
    """The same as the lines say, one document also if the answer is no."""
    site = make_site(tmp_path, watch='state_dir = "state"\n[[watch]]\npath = "out"\n[[watch]]\npath = "gone"\n')
    found = answer("doctor", "--config", site.config, code=1)
    code, said = doctor(site)
    assert code == 1
    assert found["settings"] == str(site.config)
    assert [line[6:].split(": ")[0] for line in said if line[:4].strip()] == [
        "settings",
        *(each["where"] for each in found["checks"]),
    ]
    (wrong,) = (each for each in found["checks"] if not each["good"])
    assert (wrong["where"], wrong["what"]) == (f"watched folder {tmp_path / 'gone'}", "not there")
    assert wrong["hint"]
