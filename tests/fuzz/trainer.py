"""A trainer played by chance against a real daemon, and the model of what must come of it.

The rule: the model knows bytes, names and who was running, and nothing of how the daemon works. It holds three sets:
what must be in the archive, because it stood whole and still while a daemon ran; what may be, because a running daemon
could have seen it; and all else, which must not.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import IO, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from invariants import assert_archive_whole, assert_nothing_half_made, sha256, snapshot
from processes import Daemon, destination, index_of, make_site, modelwarden, outbox_of, running_daemon
from summaries import GOOD, encoded, flat_summary

NOWHERE: Final = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "REJECTED")
"""A destination of a daemon without a courier: rows are owed, nothing is sent."""

PATIENCE: Final = 25.0
"""Seconds until what stands must have been dealt with; less than the pause between scans, so that events are proven."""

STEPS_TO_A_PAUSE: Final = 6
"""After so many steps the daemon is given time: chance alone would leave it down for most of a game."""

SIZE: Final = 640
"""Bytes of every summary: one can be written over another without a trace in the size."""


def _summary(number: int) -> bytes:
    """A summary; every third of them wants the same name in the archive."""
    timestamp = "20241224_153000" if number % 3 == 0 else f"202401{number + 1:02d}_120000"
    summary = flat_summary({f"SYM{number}": GOOD}, timestamp=timestamp, run_name=f"run {number}", note="")
    return encoded({**summary, "note": "x" * (SIZE - len(encoded(summary)))})


SUMMARIES: Final = tuple(map(_summary, range(9)))
REFUSED: Final = (b'{"models": []}', b'{"models": [{"symbol": "A", "final_pf": "high"}]}', b"[]", b"not JSON", b"{}x")
"""What is no summary: objects that are refused at sight, and what is waited for before it is."""

CONTENTS: Final = st.sampled_from(SUMMARIES) | st.sampled_from(SUMMARIES) | st.sampled_from(REFUSED)

FOLDERS: Final = ("out", "out/a", "out/a/b", "out/c", "elsewhere", "elsewhere/d")
NAMES: Final = ("x.json", "y.json", "z.json")
TEMPORARY: Final = (".x.json", "x.json.tmp", "x.json.part")
PLACES: Final = st.builds(
    "{}/{}".format,
    st.sampled_from((*FOLDERS[:4], *FOLDERS)),
    st.sampled_from((*NAMES, *NAMES, *NAMES, *TEMPORARY)),
)
"""Most places are watched; some are hidden, temporary or outside."""

PICKS: Final = st.integers(0, 999)
"""Which of the files that are there, by its number among them."""

MOVABLE: Final = ("out/a", "out/a/b", "out/c", "out/.hidden", "elsewhere/d", "elsewhere/e")
"""Folders that are moved to one another's place."""


@dataclass(eq=False)
class Node:
    """A file on disk, whatever its names.

    Attributes:
        content: its bytes.
        writers: how many have it open and will write more.
        has_links: whether it ever had a second name.
        is_told: whether the kernel tells of it under a watched name. What is written by way of one name gives no event
            at another; the next scan finds it, which is a start in these games.
    """

    content: bytes
    writers: int = 0
    has_links: bool = False
    is_told: bool = True

    def written_as(self, name: str | None) -> None:
        """Note by way of which name its content came; None: of one that it may have lost."""
        self.is_told = not self.has_links or (name is not None and _is_watched(name))

    def named(self, name: str) -> None:
        """Note that it got a name."""
        self.is_told = self.is_told or _is_watched(name)


@dataclass
class Writer:
    """Somebody who writes a file in parts and has it open meanwhile.

    Attributes:
        node: the file.
        stream: open on it.
        rest: what is still to be written.
        offset: where.
    """

    node: Node
    stream: IO[bytes]
    rest: bytes
    offset: int = 0


@dataclass
class Expected:
    """What the model says of one kind of outcome: runs, or rejected files.

    Attributes:
        must: bytes that stood still when a daemon had the time to deal with them.
        may: bytes that a running daemon may have seen.
    """

    must: set[bytes] = field(default_factory=set)
    may: set[bytes] = field(default_factory=set)


class Trainer(RuleBasedStateMachine):
    """The rules: what a trainer, an operator and a kernel do to the files, and to the daemon.

    Args:
        folder: where this game has a folder of its own.
        product: the package's parent to run instead of the installed one; None: that.
        patience: seconds (see PATIENCE).
    """

    def __init__(self, folder: Path, product: Path | None = None, patience: float = PATIENCE) -> None:
        super().__init__()
        self._site = make_site(Path(mkdtemp(dir=folder)), NOWHERE)
        self._env = {} if product is None else {"PYTHONPATH": str(product)}
        self._patience = patience
        self._daemon: Daemon | None = None
        self._stack = ExitStack()
        self._starts = 0
        self._steps = 0
        self._sentinels = 0
        self._files: dict[str, Node] = {}
        self._writers: list[Writer] = []
        self._runs = Expected()
        self._rejected = Expected()
        self._runs_before: set[str] = set()
        self._rejected_before: set[str] = set()
        self._swept_by_nobody = False
        self._was_killed = False
        self._processing: Mapping[str, tuple[int, int, str]] = {}
        for name in FOLDERS:
            self._path(name).mkdir(parents=True, exist_ok=True)
        self._has_index = self._has_state = False
        self._is_sound = True

    # -- What a trainer does ------------------------------------------------------------------------------------------

    @rule(place=PLACES, content=CONTENTS)
    def write(self, place: str, content: bytes) -> None:
        """Write a file under its final name, over what is there."""
        self._make_room(place)
        self._path(place).write_bytes(content)
        self._put(place, content)

    @rule(place=PLACES, content=CONTENTS)
    def rename_into_place(self, place: str, content: bytes) -> None:
        """Write under a hidden name, then rename to the final one, over what is there."""
        self._make_room(place)
        temporary = self._path(place).with_name(".being-written")
        temporary.write_bytes(content)
        temporary.rename(self._path(place))
        self._files[place] = Node(content)
        self._changed()

    @rule(place=PLACES, content=CONTENTS)
    def begin_to_write(self, place: str, content: bytes) -> None:
        """Write the first half and keep the file open."""
        self._make_room(place)
        stream = self._path(place).open("wb", buffering=0)
        self._put(place, b"")
        writer = Writer(self._files[place], stream, content)
        writer.node.writers += 1
        self._writers.append(writer)
        self._write_part(writer, len(content) // 2)

    @precondition(lambda self: self._writers)
    @rule(pick=PICKS, parts=st.integers(1, 2))
    def go_on_writing(self, pick: int, parts: int) -> None:
        """Write the next part of one, or all of it; with the last the file is closed."""
        writer = self._writers[pick % len(self._writers)]
        self._write_part(writer, len(writer.rest) // parts)
        if not writer.rest:
            self._end(writer)

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, tail=st.sampled_from((b"\n", b" ", b"}", b"x")))
    def append(self, pick: int, tail: bytes) -> None:
        """Write behind what is there."""
        name, node = self._picked(pick)
        with self._path(name).open("ab") as stream:
            stream.write(tail)
        node.content += tail
        node.written_as(name)
        self._changed()

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, content=st.sampled_from(SUMMARIES))
    def rewrite_with_the_old_time(self, pick: int, content: bytes) -> None:
        """Write over what is there and put the modification time back; where the size was the same, it stays so."""
        name, node = self._picked(pick)
        path = self._path(name)
        before = path.stat()
        if len(node.content) > len(content):
            os.truncate(path, len(content))
            node.content = node.content[: len(content)]
            self._changed()
        with path.open("r+b", buffering=0) as stream:
            stream.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        node.content = content
        node.written_as(name)
        self._changed()

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, seconds=st.sampled_from((None, 0, 1_700_000_000, 4_102_444_800)))
    def touch(self, pick: int, seconds: int | None) -> None:
        """Give a file another time: now, long ago, or to come."""
        name, _ = self._picked(pick)
        os.utime(self._path(name), None if seconds is None else (seconds, seconds))
        self._changed()

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, place=PLACES)
    def rename(self, pick: int, place: str) -> None:
        """Move a file: to another name or folder, over another file, out of sight or into it."""
        name, node = self._picked(pick)
        self._make_room(place)
        self._path(name).rename(self._path(place))
        if self._files.get(place) is not node:  # two names of one file: rename(2) does nothing
            self._files[place] = self._files.pop(name)
            node.named(place)
        self._changed()

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, place=PLACES)
    def hard_link(self, pick: int, place: str) -> None:
        """Give a file a second name, where none has it."""
        name, node = self._picked(pick)
        if place not in self._files:
            self._make_room(place)
            self._path(place).hardlink_to(self._path(name))
            self._files[place] = node
            node.has_links = True
            node.named(place)
            self._changed()

    @precondition(lambda self: self._files)
    @rule(pick=PICKS, place=PLACES)
    def copy(self, pick: int, place: str) -> None:
        """Write the same bytes elsewhere, over what is there."""
        _, node = self._picked(pick)
        self.write(place, node.content)

    @precondition(lambda self: self._files)
    @rule(pick=PICKS)
    def delete(self, pick: int) -> None:
        """Remove a name."""
        name, _ = self._picked(pick)
        self._path(name).unlink()
        del self._files[name]
        self._changed()

    @rule(place=st.sampled_from(MOVABLE), to=st.sampled_from(MOVABLE))
    def move_folder(self, place: str, to: str) -> None:
        """Rename a folder with all that is in it: inside, outside, in, out, and to a hidden name."""
        if not self._path(place).is_dir() or self._path(to).exists() or to.startswith(f"{place}/"):
            return
        self._path(to).parent.mkdir(parents=True, exist_ok=True)
        self._path(place).rename(self._path(to))
        for name in [name for name in self._files if name.startswith(f"{place}/")]:
            moved = to + name.removeprefix(place)
            self._files[moved] = self._files.pop(name)
            self._files[moved].named(moved)
        self._changed()

    # -- What happens to the daemon -----------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """The daemon runs at first."""
        self.start()

    @precondition(lambda self: self._daemon is None)
    @rule()
    def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        self._is_sound = False
        self._starts += 1
        arguments = ("--no-courier", "--config", self._site.config)
        running = running_daemon(*arguments, log=self._log_file(), env=self._env, ready=None)
        self._daemon = self._stack.enter_context(running)
        self._changed()  # before it is ready it may look already
        for node in self._files.values():
            node.is_told = True
        self._daemon.wait_for("ready")
        self._has_index = self._has_state = True
        self._is_sound = True

    @precondition(lambda self: self._daemon is not None)
    @rule()
    def stop(self) -> None:
        """Ask the daemon to end; it does, and says that all is well."""
        code = self._running().stop()
        assert code == 0, f"asked to stop, the daemon ended with {code}\n{self._log()}"
        self._ended()

    @precondition(lambda self: self._daemon is not None)
    @rule()
    def kill(self) -> None:
        """End the daemon without a warning."""
        self._running().stop(signal.SIGKILL)
        self._was_killed = True
        self._ended()

    @precondition(lambda self: self._daemon is not None)
    @rule(contents=st.lists(st.sampled_from(SUMMARIES), min_size=2, max_size=4, unique=True))
    def kill_amid_a_burst(self, contents: list[bytes]) -> None:
        """Several files at once, and the end as soon as the first of any kind is a run more."""
        runs = self._run_folders()
        for number, content in enumerate(contents):
            self.rename_into_place(f"out/c/burst-{number}.json", content)
        end = time.monotonic() + 0.2  # they may all be archived already
        while self._run_folders() == runs and time.monotonic() < end:
            time.sleep(0.001)
        self.kill()

    @precondition(lambda self: self._has_index)
    @rule()
    def delete_index(self) -> None:
        """Somebody deletes index.json."""
        (self._site.archive / "index.json").unlink(missing_ok=True)
        self._has_index = False

    @precondition(lambda self: self._daemon is None and self._has_state)
    @rule()
    def delete_state(self) -> None:
        """Somebody deletes the state directory of a daemon that does not run."""
        shutil.rmtree(self._site.state)
        self._has_state = False
        self._runs_before, self._rejected_before = self._archived(), self._kept()
        self._swept_by_nobody |= self._was_killed

    @invariant()
    def time_passes(self) -> None:
        """Every so many steps nobody does anything for a while: a daemon that is down is started, and may settle."""
        self._steps += 1
        if self._steps % STEPS_TO_A_PAUSE == 0:
            if self._daemon is None:
                self.start()
            self.settle()

    @precondition(lambda self: self._daemon is not None)
    @rule()
    def settle(self) -> None:
        """Leave the daemon the time to deal with all that stands; then everything must hold."""
        self._is_sound = False
        self._sentinels += 1
        sentinel = encoded(flat_summary({"SENTINEL": GOOD}, timestamp=None, run_name=f"sentinel {self._sentinels}"))
        self.rename_into_place("out/sentinel.json", sentinel)
        self._all_that_stands_must_be_dealt_with()
        self._wait_until_dealt_with()
        self._check()
        self._has_index = True
        # The sentinel came last and is archived: what was seen before it and is not in yet was never read.
        visible = {node.content for name, node in self._files.items() if _is_watched(name)}
        self._runs.may &= (
            self._runs.must | visible | {each for each in self._runs.may if sha256(each) in self._archived()}
        )
        self._path("out/sentinel.json").unlink()
        del self._files["out/sentinel.json"]
        self._changed()
        self._is_sound = True

    def teardown(self) -> None:
        """The end of a game: all is closed and settled, and one more start has nothing to do."""
        try:
            if self._is_sound:
                self._finish()
        finally:
            for writer in self._writers:
                writer.stream.close()
            self._stack.close()
        if self._is_sound:
            shutil.rmtree(self._site.folder)

    def _finish(self) -> None:
        for writer in list(self._writers):
            self._write_part(writer, len(writer.rest))
            self._end(writer)
        if self._daemon is not None:
            self.stop()
        self._is_sound = False
        self._starts += 1
        self._look_once()
        for node in self._files.values():
            node.is_told = True
        self._all_that_stands_must_be_dealt_with()
        for expected in (self._runs, self._rejected):
            expected.may |= expected.must
        missing = self._missing()
        assert missing is None, missing
        self._check()
        if not self._swept_by_nobody:
            assert_nothing_half_made(self._site.archive)
        self._is_sound = True

    def _look_once(self) -> None:
        """Run the daemon until nothing is undecided."""
        result = modelwarden("run", "--once", "--no-courier", "--config", self._site.config, env=self._env)
        self._log_file().write_text(result.stderr, encoding="utf-8")
        assert result.returncode in {0, 1}, f"run --once ended with {result.returncode}\n{self._log()}"

    def _all_that_stands_must_be_dealt_with(self) -> None:
        files = [node for name, node in self._files.items() if _is_watched(name)]
        standing = {node.content for node in files if node.is_told and not node.writers}
        self._runs.must |= {content for content in standing if _is_summary(content)}
        self._rejected.must |= {content for content in standing if not _is_summary(content)}

    # -- The model ----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Note what a running daemon may see from now on, and how the sources are to stay."""
        if self._daemon is not None:
            for name, node in self._files.items():
                if _is_watched(name):
                    (self._runs if _is_summary(node.content) else self._rejected).may.add(node.content)
        self._processing = self._snapshot()

    def _snapshot(self) -> Mapping[str, tuple[int, int, str]]:
        return {
            f"{top}/{name}": each for top in ("out", "elsewhere") for name, each in snapshot(self._path(top)).items()
        }

    def _wait_until_dealt_with(self) -> None:
        end = time.monotonic() + self._patience
        while (missing := self._missing()) is not None:
            assert self._running().process.poll() is None, f"the daemon ended:\n{self._log()}"
            assert time.monotonic() < end, f"{missing}; the files: {sorted(self._files)}\n{self._log()}"
            time.sleep(0.02)

    def _missing(self) -> str | None:
        """What must be in the archive, or be owed, and is not yet; None: all is there."""
        archived = {entry["sha256"] for entry in index_of(self._site.archive)}
        for content in self._runs.must:
            if sha256(content) not in archived:
                return f"not archived: {content!r}"
        kept = self._kept()
        for content in self._rejected.must:
            if sha256(content)[:16] not in kept:
                return f"not rejected: {content!r}"
        events = {f"run:{digest[:16]}" for digest in archived - self._runs_before}
        events |= {_rejection(content) for content in self._rejected.must} - self._rejections_before()
        unannounced = events - {row["event"] for row in outbox_of(self._site.state)}
        return f"not announced: {sorted(unannounced)}" if unannounced else None

    def _rejections_before(self) -> set[str]:
        return {f"rejected:{identity}" for identity in self._rejected_before}

    def _check(self) -> None:
        """Nothing that must not be is; what is, is whole; nothing is owed twice or again; the sources are untouched."""
        owed = [row["event"] for row in outbox_of(self._site.state)]
        archived, kept = self._archived(), self._kept()
        extra = archived - {sha256(content) for content in self._runs.may}
        assert not extra, f"archived, though no daemon can have seen it whole: {sorted(extra)}\n{self._log()}"
        extra = kept - {sha256(content)[:16] for content in self._rejected.may}
        assert not extra, f"rejected, though no daemon can have seen it: {sorted(extra)}\n{self._log()}"
        entries = assert_archive_whole(self._site.archive)
        assert {entry["sha256"] for entry in entries} == archived
        assert len(owed) == len(set(owed)), "owed twice"
        runs = {event for event in owed if event.startswith("run:")}
        assert runs == {f"run:{digest[:16]}" for digest in archived - self._runs_before}, "owed, and old or no run"
        rejected = {f"rejected:{identity}" for identity in kept} - self._rejections_before()
        assert set(owed) - runs <= rejected, "owed, and an old rejection or none"
        assert self._snapshot() == self._processing, "the daemon changed the trainer's files"

    def _archived(self) -> set[str]:
        """The digests of all runs, from their folders."""
        return {sha256((folder / "summary.json").read_bytes()) for folder in self._run_folders()}

    def _run_folders(self) -> set[Path]:
        return set(self._site.archive.glob("2*"))

    def _kept(self) -> set[str]:
        """The identities of all rejected files that are whole."""
        return {file.parent.name for file in self._site.archive.glob("rejected/*/reason.json")}

    # -- Small things -------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self._site.folder / name

    def _make_room(self, place: str) -> None:
        self._path(place).parent.mkdir(parents=True, exist_ok=True)

    def _put(self, place: str, content: bytes) -> None:
        """The file at the place, new or truncated, has this content."""
        self._rejected.may.add(b"")  # between truncating and writing it is empty, for a machine that stalls long enough
        node = self._files.setdefault(place, Node(b""))
        node.content = content
        node.written_as(place)
        self._changed()

    def _write_part(self, writer: Writer, length: int) -> None:
        part, writer.rest = writer.rest[:length], writer.rest[length:]
        writer.stream.write(part)
        content = writer.node.content.ljust(writer.offset, b"\0")  # somebody may have truncated it meanwhile
        writer.offset += len(part)
        writer.node.content = content[: writer.offset - len(part)] + part + content[writer.offset :]
        self._changed()

    def _end(self, writer: Writer) -> None:
        writer.stream.close()
        writer.node.writers -= 1
        writer.node.written_as(None)
        self._writers.remove(writer)

    def _picked(self, pick: int) -> tuple[str, Node]:
        name = sorted(self._files)[pick % len(self._files)]
        return name, self._files[name]

    def _running(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    def _ended(self) -> None:
        self._stack.close()
        self._daemon = None

    def _log_file(self) -> Path:
        """Where the daemon of this start logs."""
        return self._site.folder / f"log-{self._starts}"

    def _log(self) -> str:
        """The end of it."""
        return "\n".join(self._log_file().read_text(encoding="utf-8").splitlines()[-40:])


def _rejection(content: bytes) -> str:
    """The event of a rejected file."""
    return f"rejected:{sha256(content)[:16]}"


def _is_watched(name: str) -> bool:
    """Whether a file of this name is to be found: below the watched folder, named as a summary, nothing hidden."""
    top, *parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part.endswith((".tmp", ".part")) for part in parts)
    return top == "out" and name.endswith(".json") and not hidden


def _is_summary(content: bytes) -> bool:
    """Whether it is one. Two writers of one file may make a summary that neither meant."""
    try:
        document = json.loads(content)
    except ValueError:
        return False
    models = document.get("models", []) if isinstance(document, dict) else []
    return bool(models) and all(isinstance(model["final_pf"], float) for model in models)
