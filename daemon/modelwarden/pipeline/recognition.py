"""Whether the archive in sight is the one that the state knows.

The rule: a state that knows an archive believes no other, and makes none. What it does not know yet it adopts only
if that can be a first start, or if the archive has a run that the catalog has.
"""

from modelwarden.archive.identity import IDENTITY_FILE, difference, new_id, stranger
from modelwarden.archive.publishing import Archive
from modelwarden.durable import make_folder
from modelwarden.errors import UnknownRun
from modelwarden.filesystems import show_path
from modelwarden.log import log
from modelwarden.state.catalog import Catalog
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.decided import Decided


def recognise(
    archive: Archive, catalog: Catalog, database: Database, *, may_make: bool = True, mends: bool = True
) -> None:
    """See to it that the folder holds the archive that the state knows; the archive is trusted from then on.

    Args:
        archive: as it is in sight; not trusted yet, or still the one that was.
        catalog: the runs that the state knows.
        database: knows which archive that is.
        may_make: whether a first start may make an archive if there is none.
        mends: whether an identity that is missing may be made, or made again; else nothing is written at all.

    Raises:
        NotTheArchive: it does not; nothing was changed.
        RetryLater: the disk, the lock or the state file refused.
    """
    known = database.archive_id()
    if known is None and not len(catalog) and may_make and mends:
        make_folder(archive.root)
    found = archive.identity()
    if known is None:
        if len(catalog) and not _has_some_run(archive, catalog):
            raise stranger(archive.root, f"it has none of the {len(catalog)} runs that this state knows")
        if not found and not may_make and not len(catalog):
            raise stranger(archive.root, f"it has no {IDENTITY_FILE}, and create_archive = false")
        if mends:
            known = found or archive.make_identity(new_id())
            database.remember_archive(known)
            log.info("archive_known", archive=show_path(archive.root), archive_id=known)
    elif found != known:
        if found or not mends or not _has_all_runs(archive, catalog):
            raise stranger(archive.root, difference(found, known))
        archive.make_identity(known)
        log.warning("archive_identity_restored", archive=show_path(archive.root), file=IDENTITY_FILE, archive_id=known)
    if known is not None:
        archive.trust(known)


def adopt(archive: Archive, catalog: WritableCatalog, database: Database) -> str:
    """Make what is in the folder the archive that the state knows, whatever that is; return its id.

    The folder and an identity are made if they are missing.

    Raises:
        RetryLater: the disk, the lock or the state file refused.
    """
    make_folder(archive.root)
    found = archive.identity()
    if not found:
        known = database.archive_id()  # an archive that lost its file is still the one that other states know
        found = archive.make_identity(known if known is not None and _has_some_run(archive, catalog) else new_id())
    if found != database.archive_id():
        with database.transaction():  # what was decided and pruned in another archive is none of this one's concern
            Decided(database).forget_all()
            catalog.forget_pruned(catalog.pruned())
    database.remember_archive(found)
    archive.trust(found)
    return found


def _has_some_run(archive: Archive, catalog: Catalog) -> bool:
    there = set(archive.tree.run_names())
    return any(_is_same(archive, run.timestamp, run.sha256) for run in catalog.runs() if run.timestamp in there)


def _has_all_runs(archive: Archive, catalog: Catalog) -> bool:
    """Whether every run is there; an archive that the state saw nothing in can't be told from an empty folder."""
    runs = catalog.runs()
    there = set(archive.tree.run_names())
    return (
        bool(runs)
        and all(run.timestamp in there for run in runs)
        and _is_same(archive, runs[-1].timestamp, runs[-1].sha256)
    )


def _is_same(archive: Archive, name: str, sha256: str) -> bool:
    try:
        return archive.read(name)[0].sha256 == sha256
    except (ValueError, UnknownRun):
        return False
