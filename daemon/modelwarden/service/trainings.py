"""Trainers' files on their way to be summaries: which are worth reading, and the worker that is asked about them.

The rule: nobody waits for the worker. A thread asks it about one run after another, and rings when there is an answer;
whatever a file takes, summaries go on, and a stop does not wait for it. What waits to be asked is bounded.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.filesystems import show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats import sandbox
from modelwarden.formats.finality import Look
from modelwarden.formats.normalising import NotFinal, Torn
from modelwarden.gate.policy import Policy
from modelwarden.intake.settling import Settling
from modelwarden.log import log
from modelwarden.pipeline.groups import Changed, Group, group_at, group_of
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.trainers import Question, Translated, answer_to, question_about, question_about_group
from modelwarden.pipeline.walk import Found
from modelwarden.service.endings import Endings

MOST_ASKED: Final = 32
"""Most runs that are read and not answered yet."""

MOST_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of them, but for the last."""

CHANGED_SECONDS: Final = 1.0
"""Pause before files are looked at again that changed while they were read."""

FAULT_SECONDS: Final = 60.0
"""Pause before a file is asked about again at which this program failed."""


@dataclass
class _Queued:
    """A file, or a group of them, that is to be looked at.

    Attributes:
        folder: that it was taken from.
        paths: the files that are due.
    """

    folder: JudgedFolder
    paths: list[str] = field(default_factory=list)


class _Asked(NamedTuple):
    """What the worker is asked.

    Attributes:
        folder: that it was taken from.
        found: what was read.
        group: the files, if it is a group.
        asks: whether it counts only once its program says that the training ended.
        answer: what the worker makes of it.
    """

    folder: JudgedFolder
    found: Found
    group: Group | None
    asks: bool
    answer: "Future[Translated | NotFinal]"


Reject = Callable[[Found, RejectSummary], None]


class Trainings:
    """The files that formats read.

    Args:
        settling: when files are looked at.
        endings: which are worth reading.
        policies: which folder is which, and what judges there.
        read: reads one file; None if it has no bytes, and settling knows.
        reject: keeps a file, or a group, with its reason.
        is_dealt_with: whether a file is known as it is.
        ring: ends the main loop's wait; called by the thread.
        max_bytes: cap on the bytes of a run.

    Attributes:
        waits: whether files are waited for until their training ends; else they are left alone.
    """

    def __init__(
        self,
        settling: Settling,
        endings: Endings,
        policies: Policies | None,
        read: Callable[[str], Found | None],
        reject: Reject,
        is_dealt_with: Callable[[str, Fingerprint], bool],
        ring: Callable[[], object],
        max_bytes: int,
    ) -> None:
        self._settling = settling
        self._endings = endings
        self._policies = policies
        self._read = read
        self._reject = reject
        self._is_dealt_with = is_dealt_with
        self._ring = ring
        self._max_bytes = max_bytes
        self._queue: dict[str, _Queued] = {}
        self._asked: dict[str, _Asked] = {}
        self._late: dict[str, str] = {}  # due while they, or their groups, were asked about: by path, what was asked
        self._thread: ThreadPoolExecutor | None = None
        self._in_haste = False
        self._was_quiet = True
        self.waits = True

    @property
    def has_work(self) -> bool:
        """Whether there is an answer, or something may be asked."""
        return any(each.answer.done() for each in self._asked.values()) or (bool(self._queue) and self._has_room())

    def hurry(self) -> None:
        """Nobody waits for an answer any longer; safe in a signal handler."""
        self._in_haste = True

    def close(self) -> None:
        """End the thread and the worker; what was not answered is asked at the next start."""
        self._in_haste = True
        self._end()

    def rest(self) -> None:
        """End them until they are needed, if they were not since this was called last."""
        was_quiet, self._was_quiet = self._was_quiet, not self._asked and not self._queue
        if was_quiet and self._was_quiet and self._thread is not None:
            self._end()

    def take(self, path: str, folder: JudgedFolder) -> None:
        """A file is due."""
        key = group_of(path, folder) if folder.group else path
        if key in self._asked:
            self._late[path] = key
        else:
            self._queue.setdefault(key, _Queued(folder)).paths.append(path)

    def go_on(self) -> Sequence[Found]:
        """Deal with what was answered, and ask what there is room for; the summaries that came of it."""
        made: list[Found] = []
        for key in [key for key, each in self._asked.items() if each.answer.done()]:
            found = self._conclude(self._asked.pop(key))
            if found is not None:
                made.append(found)
        while self._queue and self._has_room():
            key = next(iter(self._queue))
            queued = self._queue.pop(key)
            asked = self._ask_group(key, queued) if queued.folder.group else self._ask(key, queued.folder)
            if asked is not None:
                self._asked[key] = asked
        return made

    def see_late(self) -> None:
        """See what was due while it was asked about, once that is dealt with."""
        for path in [path for path, key in self._late.items() if key not in self._asked]:
            del self._late[path]
            try:
                fingerprint = Fingerprint.of(os.lstat(path))
            except OSError:
                self._settling.forget(path)
                continue
            if not self._is_dealt_with(path, fingerprint):
                self._settling.seen(path, fingerprint, hinted=True, now=time.monotonic())

    def _has_room(self) -> bool:
        size = sum(len(each.found.data) for each in self._asked.values())
        return not self._in_haste and len(self._asked) < MOST_ASKED and size < MOST_BYTES

    def _ask(self, path: str, folder: JudgedFolder) -> _Asked | None:
        look = self._endings.look(path, folder)
        if look is None and not self.waits:
            self._settling.forget(path)
        if look is None or (found := self._read(path)) is None or found.fingerprint is None:
            return None
        asks = look is Look.READ_IF_COMPLETE
        try:
            question = question_about(
                path,
                found.data,
                folder,
                self._policy_of(path),
                self._max_bytes,
                if_complete=asks,
                fingerprint=found.fingerprint,
            )
        except Changed as error:
            self._see_again(found, [path], error)
            return None
        except RejectSummary as error:
            self._refused(found, None, folder, error, asks=asks)
            return None
        return _Asked(folder, found._replace(data=question.data), None, asks, self._submit(question))

    def _ask_group(self, where: str, queued: _Queued) -> _Asked | None:
        folder, due = queued.folder, queued.paths
        group, found, asks = Group(where, ()), Found(due[-1], b"", None, folder=where), False
        try:
            group = group_at(where, folder, lambda path: self._folder_of(path) == folder)
            if not group.files:
                for path in due:
                    self._settling.forget(path)
                return None
            path, fingerprint = group.newest
            found = Found(path, _listing(group), fingerprint, folder=where, members=group.files)
            look = self._endings.look_at_group(group, folder, due)
            if look is None:
                for each in due if not self.waits else ():
                    self._settling.forget(each)
                return None
            asks = look is Look.READ_IF_COMPLETE
            question = question_about_group(group, folder, self._policy_of(path), self._max_bytes, if_complete=asks)
        except Changed as error:
            self._see_again(found, due, error)
            return None
        except RejectSummary as error:
            self._refused(found, group, folder, error, asks=asks)
            return None
        return _Asked(folder, found._replace(data=question.data), group, asks, self._submit(question))

    def _see_again(self, found: Found, due: Sequence[str], error: Changed) -> None:
        """What was read is of no one moment: look at it anew, which waits for its quiet, and read all of it again."""
        log.debug("changed_while_read", path=show_path(found.folder or found.path), file=error.where)
        for path in due:
            self._settling.again(path, time.monotonic() + CHANGED_SECONDS)

    def _submit(self, question: Question) -> "Future[Translated | NotFinal]":
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="formats")
        answer = self._thread.submit(answer_to, question, lambda: not self._in_haste)
        answer.add_done_callback(lambda _: self._ring())
        return answer

    def _conclude(self, asked: _Asked) -> Found | None:
        """What an answer means; the summary, if it is one."""
        found = asked.found
        try:
            made = asked.answer.result()
        except (RetryLater, CancelledError):  # it stands where it stood at the next start
            return None
        except RejectSummary as error:
            self._refused(found, asked.group, asked.folder, error, asks=asked.asks)
            return None
        except Exception:  # noqa: BLE001 - our fault at one file must not stop the others
            log.exception("translation_failed", path=show_path(found.path))
            self._settling.again(found.path, time.monotonic() + FAULT_SECONDS)
            return None
        if isinstance(made, NotFinal):
            self._goes_on(asked.folder, found, asked.group)
            return None
        if asked.group is None:
            self._endings.ended(found.path)
        else:
            self._endings.group_ended(asked.group)
        return found._replace(data=made.original, summary=made.summary, name=made.name)

    def _refused(
        self, found: Found, group: Group | None, folder: JudgedFolder, error: RejectSummary, *, asks: bool
    ) -> None:
        """Reject it, unless it may still become whole."""
        if asks and isinstance(error, Torn):  # nothing whole is in it yet
            self._goes_on(folder, found, group)
            return
        # What is still being written may look like anything; one that stands still does not change any more.
        may_change = asks or isinstance(error, Torn) or found.fingerprint is None
        if may_change and not self._is_given_up(found):
            return
        self._reject(found, error)

    def _is_given_up(self, found: Found) -> bool:
        if found.fingerprint is None:  # a folder that can't be seen whole: nothing is known of its files
            self._settling.again(found.path, time.monotonic() + FAULT_SECONDS)
            return False
        return self._settling.unfinished(found.path, found.fingerprint, time.monotonic())

    def _goes_on(self, folder: JudgedFolder, found: Found, group: Group | None) -> None:
        name = "" if folder.format is None else folder.format.name
        log.debug("not_final", path=show_path(found.folder or found.path), format=name)
        if group is not None:
            self._endings.group_goes_on(group, folder, [path for path, _ in group.files])
        elif found.fingerprint is not None:
            self._endings.goes_on(found.path, found.fingerprint, folder)

    def _folder_of(self, path: str) -> JudgedFolder | None:
        return None if self._policies is None else self._policies.folder_of(path)

    def _policy_of(self, path: str) -> Policy | None:
        return None if self._policies is None else self._policies.of_path(path)

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(cancel_futures=True)
        sandbox.rest()


def _listing(group: Group) -> bytes:
    """What is kept of a group that could not be read: its files' names."""
    return "".join(f"{group.name_of(path)}\n" for path, _ in group.files).encode()
