"""Adding a decision to the archive: the one writer of `reviews/`.

The rule: a decision counts from the moment its file has its name and the folder is synced; the file was whole before.
It is added under the archive's lock, behind the last one there is, and no number is given twice, also if somebody
removed the file that had it.
"""

import os
from collections.abc import Callable

from modelwarden import durable
from modelwarden.archive.decisions import (
    HEAD_FILE,
    REVIEWS,
    Head,
    Kept,
    encode_decision,
    encode_head,
    file_name,
    read_all,
    read_head,
)
from modelwarden.archive.publishing import Archive
from modelwarden.errors import RetryLater
from modelwarden.gate.decision import Decision


def add_decision(archive: Archive, make: Callable[[list[Kept], Head], Decision | None]) -> Decision | None:
    """Add a decision, on disk before this returns.

    Args:
        archive: which it is about; trusted.
        make: from all decisions there are, and the end of the chain, to the decision; None if there is nothing to add.

    Raises:
        NotTheArchive: the folder holds another archive, or none.
        RetryLater: the lock could not be had, or the disk refused; nothing was decided.
    """
    archive.tree.enter_staging()
    with archive.locked() as root:
        kept, head = read_all(root), read_head(root)
        end = chain_end(kept, head)
        decision = make(kept, end)
        if decision is None:
            if kept and head != end:  # whoever added the last one did not come so far
                _write_head(archive, root, end)
            return None
        data = encode_decision(decision)
        folder = os.path.join(root, REVIEWS, decision.run)
        durable.make_folder(folder)
        draft = archive.tree.private("decision.json")
        durable.remove_if_there(draft)
        durable.write_new_file(draft, data)
        try:
            durable.rename_new(draft, os.path.join(folder, file_name(decision.number)))
        except FileExistsError:
            raise RetryLater(
                f"decision {decision.number} is there already",
                where=archive.root,
                hint="another host decides: try again",
            ) from None
        durable.sync_folder(folder)
        _write_head(archive, root, chain_end(read_all(root), read_head(root)))
    return decision


def chain_end(kept: list[Kept], head: Head | None) -> Head:
    """What the next decision follows: the last one, as the head says it was written, also if it was removed since."""
    last = Head(kept[-1].number, kept[-1].digest) if kept else Head()
    return head if head is not None and head.number >= last.number else last


def mend_head(archive: Archive, *, forgets: bool = False) -> None:
    """Write the head again if it is behind the files, or missing; see `add_decision` for what it raises.

    Args:
        archive: whose.
        forgets: whether it is also to let go of decisions that are not there any more.
    """
    if not os.path.isdir(os.path.join(archive.root, REVIEWS)):
        return
    with archive.locked() as root:
        kept, head = read_all(root), read_head(root)
        end = chain_end(kept, None if forgets else head)
        if (kept or forgets) and head != end:
            archive.tree.enter_staging()
            _write_head(archive, root, end)


def _write_head(archive: Archive, root: str, head: Head) -> None:
    draft = archive.tree.private(HEAD_FILE)
    durable.remove_if_there(draft)
    durable.write_new_file(draft, encode_head(head))
    durable.rename_over(draft, os.path.join(root, REVIEWS, HEAD_FILE))
    durable.sync_folder(os.path.join(root, REVIEWS))
