"""The worker: whatever a program or a file does costs that file, with its reason, and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.formats import sandbox
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import NotFinal, Torn
from modelwarden.formats.sandbox import complaint_about, translate
from modelwarden.formats.worker import Order
from processes import until

Starts = Callable[[str], None]

SUMMARY = '{models: [{symbol: "A", metrics: {x: %s}}]}'
PLAIN = Format("plain", "Plain", ("*.json",), "json", SUMMARY % ".x")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starts]:
    """Let the next worker run this."""

    def starts(code: str) -> None:
        sandbox.rest()
        monkeypatch.setattr(sandbox, "_FOUND", code)

    yield starts
    sandbox.rest()


def made(program: str, data: bytes = b'{"x": 1}', path: str = "/runs/one/file.json", **fields: Any) -> Any:
    """What the program makes of the bytes, as JSON."""
    answer = translate(Order(replace(PLAIN, program=program, **fields), path), data)
    assert isinstance(answer, bytes)
    return json.loads(answer)


def worker_pid() -> int:
    """The worker's that answered last."""
    process = sandbox._shared._process
    assert process is not None
    return process.pid


def figure(program: str, data: bytes = b'{"x": 1}') -> Any:
    """The only figure of the only model."""
    return made(SUMMARY % program, data)["models"][0]["metrics"]["x"]


def refusal(program: str, data: bytes = b'{"x": 1}', **fields: Any) -> str:
    """Why nothing comes of it."""
    with pytest.raises(RejectSummary) as error:
        made(program, data, **fields)
    return str(error.value)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"NaN", "[nan]"),
        (b"Infinity", "[inf]"),
        (b"-Infinity", "[-inf]"),
        (b"1.7976931348623157e308", "[inf]"),
        (b"-1e999", "[-inf]"),
        (b"null", "[None]"),
        (b"true", "[None]"),
        (b'"text"', "[None]"),
        (b"0.1", "[0.1]"),
        (b"9007199254740993", "[9007199254740992.0]"),
        (b"5e-324", "[5e-324]"),
    ],
)
def test_figure_comes_back_as_it_was_written(written: bytes, shown: str) -> None:
    """Through jq, which knows neither NaN nor infinity on its way out; what is no number is missing, never guessed."""
    assert repr(figure(".x", b'{"x": %s}' % written)) == shown


def test_environment_is_empty() -> None:
    """`env` shows a program nothing, whatever the daemon was started with."""
    sandbox.rest()
    with patch.dict(os.environ, {"MODELWARDEN_SECRET": "s3cr3t"}):
        assert "s3cr3t" not in json.dumps(made(f"{SUMMARY % '.x'} | .run_name = ($ENV | tojson)"))
        assert made(f'{SUMMARY % ".x"} | .run_name = ($ENV | keys | join(","))').get("run_name") is None
        assert Path(f"/proc/{worker_pid()}/environ").read_bytes() == b""


def test_input_is_the_file_alone() -> None:
    """There is nothing else that `input` could read."""
    assert "says: break" in refusal("input")
    assert refusal("[inputs] | .[0]").startswith("the format's program puts out null")


def test_no_module_is_read_from_disk() -> None:
    """A program is what the settings hold, and nothing beside."""
    assert "does not compile" in refusal('import "/etc/passwd" as $x; .')
    assert "does not compile" in refusal('include "x"; .')


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (".[", "does not compile"),
        ('error("no")', "the format's program says: no"),
        (".a.b.c[0] | error", "the format's program says"),
        ("empty", "puts out 0 values, not one object"),
        ("1, 2", "puts out 2 values"),
        ("[]", "puts out a list"),
        ("{}", "puts out no list of models"),
        ("{models: [1]}", "puts out no list of models"),
        ("{models: []}", "there is no model in it that ended"),
        ("{models: [{}]}", "no object of metrics"),
        ("halt", "puts out 0 values"),
    ],
)
def test_program_that_makes_no_summary_is_told(program: str, words: str) -> None:
    """In one sentence that says whose fault it is."""
    assert words in refusal(program)


def test_what_a_program_says_of_the_data_is_shown_short_and_printable() -> None:
    """The text is a stranger's: no control character of it reaches a log."""
    said = refusal("error(.x)", json.dumps({"x": "\x1b[31m" + "a" * 10_000}).encode())
    assert said.isprintable()
    assert len(said) < 300


def test_program_that_hangs_is_ended(starts: Starts) -> None:
    """After its share of the processor."""
    starts(f"{_WORKER}; worker.CPU_SECONDS = 1; {_FOUND}")
    assert "of processor time" in refusal("last(range(1e15))")


def test_worker_that_stands_still_is_ended(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, for it takes no time of the processor."""
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 0.5)
    starts("import signal; signal.pause()")
    assert "reading it took longer than 0.5 s" in refusal(".")


@pytest.mark.parametrize("program", ["[range(1e9)]", 'reduce range(60) as $i ("ab"; . + .)', "def f: [f]; f"])
def test_program_that_eats_memory_is_ended(program: str, starts: Starts) -> None:
    """At its share of the memory, or at a limit of jq's own."""
    starts(f"{_WORKER}; worker.MEMORY_BYTES = 200 * 2**20; {_FOUND}")
    assert any(words in refusal(program) for words in ("of memory", "ended by", "says"))


def test_yaml_that_unfolds_without_end_is_ended(starts: Starts) -> None:
    """Each alias doubles what is below it."""
    starts(f"{_WORKER}; worker.CPU_SECONDS = 2; {_FOUND}")
    lines = ["a0: &a0 [1, 2]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    said = refusal(SUMMARY % "1", "\n".join(lines).encode(), reader="yaml")
    assert "of memory" in said or "of processor time" in said


def test_worker_that_nobody_waits_for_is_ended(starts: Starts) -> None:
    """A daemon that is to stop does not wait for it, and rejects nothing."""
    starts("import signal; signal.pause()")
    with pytest.raises(RetryLater, match="the daemon stops"):
        translate(Order(PLAIN, "/x"), b"{}", waits=lambda: False)


def test_large_file_is_answered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked now and then whether it waits loses no byte of question or answer."""
    monkeypatch.setattr(sandbox, "_TURN_SECONDS", 0.001)
    turns: list[int] = []

    def waits() -> bool:
        turns.append(1)
        return True

    figures = list(range(200_000))
    data = json.dumps({"x": figures}).encode()
    answer = translate(Order(PLAIN, "/x"), data, waits=waits)
    assert isinstance(answer, bytes)
    assert json.loads(answer)["models"][0]["metrics"]["x"] == figures
    assert turns


def test_process_that_dies_costs_the_file(starts: Starts) -> None:
    """Whatever killed it; the next file is read by the same worker."""
    dies = "import os; worker.answer_one = lambda order, *_: os.kill(os.getpid(), 9) if order.path == '/dies' else "
    starts(f"{_WORKER}; real = worker.answer_one; {dies} real(order, *_); {_FOUND}")
    assert figure(".x") == [1.0]
    before = worker_pid()
    assert "was ended by SIGKILL" in refusal(".", path="/dies")
    assert figure(".x") == [1.0]
    assert worker_pid() == before
    starts(f"{_WORKER}; worker.answer_one = lambda *_: 3; {_FOUND}")
    assert "ended with 3" in refusal(".")
    starts(f"{_WORKER}; worker.answer_one = lambda *_: 0; {_FOUND}")
    assert "gave no answer" in refusal(".")


def test_worker_that_dies_is_started_anew(starts: Starts) -> None:
    """Between two files, or at one: that is asked once more, and costs the file if it happens again."""
    assert figure(".x") == [1.0]
    before = worker_pid()
    os.kill(before, signal.SIGKILL)
    assert figure(".x") == [1.0]
    assert worker_pid() != before
    starts("import os; os.kill(os.getpid(), 9)")
    assert "was ended by SIGKILL" in refusal(".")
    starts("raise SystemExit(3)")
    assert "ended with 3" in refusal(".")


def test_nothing_goes_on_for_who_was_killed() -> None:
    """Neither the worker nor the process that it forked for a file is left behind, whatever that was doing."""
    endless = "from modelwarden.formats.description import Format; from modelwarden.formats.worker import Order; "
    endless += "from modelwarden.formats.sandbox import translate; "
    endless += "translate(Order(Format('own', '', ('*',), 'json', 'last(repeat(1))'), '/x'), b'{}')"
    with subprocess.Popen([sys.executable, "-P", "-c", endless]) as asking:
        try:
            (worker,) = until(lambda: child_pids(asking.pid), "a worker")
            (reading,) = until(lambda: child_pids(worker), "the process of the file")
        finally:
            asking.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (worker, reading)), "both to end")


def child_pids(pid: int) -> list[int]:
    """The processes that its first thread started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_signals_for_the_daemon_do_not_end_the_worker() -> None:
    """They may be sent to all processes of a service: the file that is being read is not refused for that."""
    assert figure(".x") == [1.0]
    before = worker_pid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(before, number)
    assert figure(".x") == [1.0]
    assert worker_pid() == before


def test_nothing_of_one_file_is_there_for_the_next() -> None:
    """Neither its memory nor its time: a process reads one and ends."""
    hog = "[range(3e6)] | length"
    assert [figure(hog) for _ in range(5)] == [[3e6]] * 5
    status = Path(f"/proc/{worker_pid()}/status").read_text(encoding="ascii")
    [resident] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert resident < 100_000  # KiB; one of these takes more


def test_process_of_a_file_has_no_descriptor_but_question_and_answer(starts: Starts) -> None:
    """Not the channel that others are asked about by, nor a folder of anybody's."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    look = "', '.join(os.readlink(f'/dev/fd/{each}') for each in range(99) if os.path.exists(f'/dev/fd/{each}'))"
    said = f"json.dumps({{'what': {look} + ' in ' + os.getcwd(), 'where': '', 'hint': ''}}).encode()"
    starts(f"import json, os; {_WORKER}; worker.answer_to = lambda *_: {said}; {_FOUND}")
    try:
        found = refusal(".")
    finally:
        os.close(leak)
    assert re.fullmatch(r"/dev/null, /dev/null, /memfd:order \(deleted\), pipe:\[\d+\] in /", found), found


def test_file_that_is_torn_is_not_refused_for_good() -> None:
    """More may come."""
    with pytest.raises(Torn):
        made(".", b'{"x": ')


def test_program_says_that_the_training_goes_on() -> None:
    """And is asked only where it counts."""
    order = Order(replace(PLAIN, program=f"{PLAIN.program} + {{complete: .done}}"), "/x")
    asked = order._replace(wish=order.wish._replace(if_complete=True))
    assert isinstance(translate(asked, b'{"x": 1, "done": false}'), NotFinal)
    assert isinstance(translate(asked, b'{"x": 1, "done": true}'), bytes)
    assert isinstance(translate(order, b'{"x": 1, "done": false}'), bytes)


@pytest.mark.parametrize(
    ("path", "folder", "stem"),
    [("/a/b/c.json", "b", "c"), ("/c.json", "run", "c"), ("c", "run", "c"), ("/a/x.y/c.d.json", "x.y", "c.d")],
)
def test_path_gives_the_names(path: str, folder: str, stem: str) -> None:
    """Where there is no folder it is called run."""
    names = made('{run_name: "\\(folder(1)) \\(stem)", models: [{symbol: "A", metrics: {x: 1}}]}', path=path)
    assert names["run_name"] == f"{folder} {stem}"


def test_complaint_about_a_program_names_what_is_wrong() -> None:
    """It is compiled and never run."""
    assert complaint_about("[range(1e12)]") == ""
    assert complaint_about("def f: 1; f") == ""
    assert "syntax error" in complaint_about(".[")


_FOUND = sandbox._FOUND
_WORKER = "from modelwarden.formats import worker"
