"""Adding a decision to the archive: the one writer of `reviews/`.

The rule: a decision counts from the moment its file has its name and the folder is synced; the file was whole before.
It is added under the archive's lock, behind the last one there is, and no number is given twice, also if somebody
removed the file that had it.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from modelwarden import durable
from modelwarden.archive.decisions import (
    HEAD_FILE,
    REVIEWS,
    Head,
    Kept,
    Known,
    encode_decision,
    encode_head,
    read_all,
    read_head,
    read_kept,
    read_news,
)
from modelwarden.archive.numbered import add_numbered
from modelwarden.archive.publishing import Archive
from modelwarden.errors import RetryLater
from modelwarden.gate.decision import Decision


def add_decision(
    archive: Archive, run: str, known: Known, make: Callable[[Sequence[Kept], Head], Decision | None]
) -> Decision | None:
    """Add a decision, on disk before this returns.

    Args:
        archive: which it is about; trusted.
        run: the run's name.
        known: what the state knows of all decisions.
        make: from the decisions about the run, and the end of the chain, to the decision; None if there is nothing to
            add. Called while nobody can take the run away.

    Raises:
        NotTheArchive: the folder holds another archive, or none.
        RetryLater: the lock could not be had, or the disk refused; nothing was decided.
    """
    archive.tree.enter_staging()
    with archive.locked() as root:
        end = _end(root, known)
        decision = make(list(read_kept(root, run)), end)
        if decision is None:
            return None
        data = encode_decision(decision)
        try:
            add_numbered(archive.tree, root, f"{REVIEWS}/{decision.run}", decision.number, data)
        except FileExistsError:
            raise RetryLater(
                f"decision {decision.number} is there already",
                where=archive.root,
                hint="another host decides: try again",
            ) from None
        with suppress(RetryLater):  # it follows from the files: the next start writes it, or the next decision
            _write_head(archive, root, Head(decision.number, hashlib.sha256(data).hexdigest()))
    return decision


def _end(root: str, known: Known, news: Sequence[Kept] | None = None) -> Head:
    """What the next decision follows: the last one there is, or was.

    State, head and file say the same of it, unless somebody altered some of them. Then one that is not what the file
    says now is what it was, or shows at least that it was another: the file itself is believed last.
    """
    head = read_head(root) or Head()
    differs = head.number == known.end.number and head != known.end
    if differs:
        kept: Sequence[Kept] = read_all(root)
    else:
        kept = read_news(root, known.looks, time.time()).kept if news is None else news
    last = Head(kept[-1].number, kept[-1].digest) if kept else Head()
    highest = max(known.end.number, head.number, last.number)
    return next((each for each in (known.end, head) if each.number == highest and each != last), last)


def mend_head(archive: Archive, known: Known, news: Sequence[Kept] | None = None, *, forgets: bool = False) -> None:
    """Write the head again if it is behind, or missing; see `add_decision` for what it raises.

    Args:
        archive: whose.
        known: what the state knows of all decisions: what it saw and is not there any more leaves its mark here.
        news: the files in the folders that changed since, if they were read already.
        forgets: whether it is also to let go of decisions that are not there any more.
    """
    if not os.path.isdir(os.path.join(archive.root, REVIEWS)) and not known.end.number:
        return
    if not forgets and read_head(archive.root) == _end(archive.root, known, news):
        return
    with archive.locked() as root:
        if forgets:
            kept = read_all(root)
            end = Head(kept[-1].number, kept[-1].digest) if kept else Head()
        else:
            end = _end(root, known)
        if read_head(root) != end:
            archive.tree.enter_staging()
            durable.make_folder(os.path.join(root, REVIEWS))
            _write_head(archive, root, end)


def _write_head(archive: Archive, root: str, head: Head) -> None:
    draft = archive.tree.private(HEAD_FILE)
    durable.remove_if_there(draft)
    durable.write_new_file(draft, encode_head(head))
    durable.rename_over(draft, os.path.join(root, REVIEWS, HEAD_FILE))
    durable.sync_folder(os.path.join(root, REVIEWS))
