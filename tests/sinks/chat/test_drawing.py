"""A picture is drawn by a process that ends; what becomes of that process costs the picture and nothing else."""

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from modelwarden.archive.histories import read_histories
from modelwarden.sinks.chat import drawing
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.drawing import NotDrawn, draw_apart
from processes import destination, drop, is_running, make_site, outbox_of, running_daemon, until
from servers import http_server
from summaries import GOOD, encoded, flat_summary, judged_run

PNG = b"\x89PNG\r\n\x1a\n"
RISING = [0.5, 0.7, 0.8, 0.9, 0.91]
RUN = "20241224_153000"
SUMMARY = flat_summary({"ABC": {**GOOD, "fitness_history": RISING}})

pytestmark = pytest.mark.usefixtures("matplotlib")

HARM = """
import os, sys, time
def told(run, policy):
    return {"ABC": [0.5, 0.7, 0.8, 0.9, 0.91]}
def crash(run, policy):
    os.abort()
def end(run, policy):
    os._exit(0)
def prints(run, policy):
    print("a library's chatter", file=sys.stderr)
    return told(run, policy)
def hang(run, policy):
    with open(os.environ["NOTE"], "w") as note:
        note.write(str(os.getpid()))
    time.sleep(1000)
def environment(run, policy):
    raise ValueError(" ".join(sorted(os.environ)) + os.environ.get("PLAIN", ""))
def lengthy(run, policy):
    raise ValueError("x" * 100_000 + "\\n" + "last line" * 1000)
"""


@pytest.fixture
def harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Histories that end badly, in a module that both processes find."""
    (tmp_path / "harm_of_drawing.py").write_text(HARM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    yield import_module("harm_of_drawing")
    del sys.modules["harm_of_drawing"]


@pytest.fixture
def news() -> RunNews:
    """What the courier knows of a run: everything but the histories."""
    run, models = judged_run(SUMMARY)
    bare = [model._replace(history=()) for model in models]
    return RunNews(RUN, None, "trainer-7", "/report", run.counts, run.policy, bare)


def test_run_is_drawn_from_its_folder(tmp_path: Path, news: RunNews) -> None:
    """By a process that knows the archive, and that is gone with it."""
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "summary.json").write_bytes(encoded(SUMMARY))
    assert draw_apart(partial(read_histories, str(tmp_path)), news).startswith(PNG)


def test_run_without_a_history_has_no_picture(tmp_path: Path, news: RunNews) -> None:
    """Nothing went wrong: there is nothing to draw."""
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "summary.json").write_bytes(encoded(flat_summary({"ABC": GOOD})))
    assert draw_apart(partial(read_histories, str(tmp_path)), news) == b""


def test_run_that_is_gone_is_said(tmp_path: Path, news: RunNews) -> None:
    """In a line for the log."""
    with pytest.raises(NotDrawn, match=r"^FileNotFoundError: "):
        draw_apart(partial(read_histories, str(tmp_path)), news)


def test_process_that_crashes_is_no_picture(harm: ModuleType, news: RunNews) -> None:
    """Killed by a signal, or ended without a word: b"" is what a picture without lines is, and no more."""
    with pytest.raises(NotDrawn, match=f"the process ended with -{signal.SIGABRT.value}"):
        draw_apart(harm.crash, news)
    assert draw_apart(harm.end, news) == b""


def test_process_that_hangs_is_killed_in_time(harm: ModuleType, news: RunNews, tmp_path: Path) -> None:
    """And nothing of it stays."""
    with pytest.raises(NotDrawn, match="not drawn within 3 s"):
        draw_apart(harm.hang, news, 3.0)
    assert not is_running(int((tmp_path / "note").read_text()))


def test_process_whose_courier_was_killed_ends_by_itself(harm: ModuleType, news: RunNews, tmp_path: Path) -> None:
    """Whatever hangs in it: nobody else would end it."""
    program = (
        "import pickle, sys\n"
        "from modelwarden.sinks.chat.drawing import draw_apart\n"
        "draw_apart(*pickle.load(sys.stdin.buffer), 3.0)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", program], stdin=subprocess.PIPE) as courier:
        assert courier.stdin is not None
        courier.stdin.write(pickle.dumps((harm.hang, news._replace(counts=dict(news.counts), changed={}))))
        courier.stdin.close()
        note = tmp_path / "note"
        drawer = int(until(lambda: note.exists() and note.read_text(), "the drawer to hang"))
        courier.kill()
    assert is_running(drawer)
    until(lambda: not is_running(drawer), "the drawer's own end")


def test_process_of_another_version_draws_nothing(
    harm: ModuleType, news: RunNews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade under a running courier: what it was asked is not even read."""
    monkeypatch.setattr(drawing, "_VERSION", (0, 0, 0))
    with pytest.raises(NotDrawn, match="another version is installed"):
        draw_apart(harm.told, news)


def test_process_is_given_no_secret(harm: ModuleType, news: RunNews, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, no credential, no URL; what else there is it has."""
    for name in ("MODELWARDEN_NOTIFY__DESTINATION", "modelwarden_log__level", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@proxy")
    monkeypatch.setenv("PLAIN", "plain-value")
    monkeypatch.setattr(drawing, "_LONGEST_REASON", 100_000)
    with pytest.raises(NotDrawn) as caught:
        draw_apart(harm.environment, news)
    said = str(caught.value)
    assert "plain-value" in said
    for name in ("MODELWARDEN", "modelwarden_log", "CREDENTIALS", "NOTIFY_SOCKET", "HTTPS_PROXY"):
        assert name not in said


def test_reason_is_one_short_line(harm: ModuleType, news: RunNews) -> None:
    """Whatever a library says, and what it says beside its work is no reason."""
    with pytest.raises(NotDrawn) as caught:
        draw_apart(harm.lengthy, news)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
    assert draw_apart(harm.prints, news).startswith(PNG)


def test_courier_that_sent_a_picture_never_loaded_what_draws(tmp_path: Path) -> None:
    """Its memory is that of before."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url("x"), "APPROVED"))
        with running_daemon("--config", site.config, log=site.log) as daemon:
            (started,) = daemon.wait_for("courier_started")
            drop(encoded(SUMMARY), site.out)
            daemon.wait_for("message_delivered")
            (message,) = server.accepted
            assert len(json.loads(message.body)["attachments"]) == 1
            mapped = Path(f"/proc/{started['pid']}/maps").read_text()
            assert "jiter" in mapped
            assert "matplotlib" not in mapped
            assert "numpy" not in mapped
        assert [row["status"] for row in outbox_of(site.state)] == ["delivered"]
