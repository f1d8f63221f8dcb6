"""A state that knows an archive believes no other, and what it does not know yet it adopts only where it may."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from modelwarden.archive.identity import IDENTITY_FILE
from modelwarden.archive.publishing import Archive
from modelwarden.errors import NotTheArchive
from modelwarden.pipeline.recognition import adopt, recognise
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.rows import model_rows
from summaries import flat_summary, judged_run, run_folder

NAME = "20241224_153000"
ID = "0123456789abcdef" * 2


class State:
    """A state file with one run in its catalog, and archives in sight of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.root = folder / "archive"
        self.database = stack.enter_context(closing(Database(str(folder / "state"), "2024-12-24T15:30:00Z")))
        self.catalog = WritableCatalog(self.database)
        self._stack = stack

    def knows_the_run(self) -> None:
        """Put the run into the catalog."""
        run, assessments = judged_run(flat_summary(), timestamp=NAME)
        with self.database.transaction():
            self.catalog.add(run, model_rows(assessments), announced=True)

    def has(self, *, run: bool = False, identity: str | None = None) -> None:
        """Make what lies at the archive's path."""
        self.root.mkdir(exist_ok=True)
        if run:
            run_folder(self.root, flat_summary(), NAME)
        if identity is not None:
            (self.root / IDENTITY_FILE).write_text(f'{{"schema_version": 1, "archive_id": "{identity}"}}')

    def archive(self) -> Archive:
        """What lies there, as a start opens it."""
        archive = Archive(str(self.root), "0f1e2d3c", make=False)
        self._stack.callback(archive.close)
        return archive

    def recognise(self, *, may_make: bool = True, mends: bool = True) -> str | None:
        """Recognise it; return the id that it has from then on."""
        archive = self.archive()
        recognise(archive, self.catalog, self.database, may_make=may_make, mends=mends)
        return archive.identity()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state that knows nothing yet, and no archive."""
    with ExitStack() as stack:
        yield State(tmp_path, stack)


def test_first_start_makes_an_archive_and_knows_it(state: State) -> None:
    """The id that it writes is the one that it remembers, and the next start finds it."""
    made = state.recognise()
    assert made
    assert state.database.archive_id() == made == state.recognise()


def test_first_start_takes_an_archive_that_is_there(state: State) -> None:
    """A second daemon of one archive makes no second identity."""
    state.has(run=True, identity=ID)
    assert state.recognise() == ID == state.database.archive_id()


def test_first_start_that_may_make_none_makes_none(state: State) -> None:
    """An empty mount point stays empty, and the state learns nothing of it."""
    state.has()
    with pytest.raises(NotTheArchive, match="create_archive = false"):
        state.recognise(may_make=False)
    assert list(state.root.iterdir()) == []
    assert state.database.archive_id() is None


@pytest.mark.parametrize("mends", [True, False])
def test_archive_with_another_id_is_refused(state: State, mends: bool) -> None:
    """Even if it has every run: another disk is another archive, and neither side is changed."""
    state.knows_the_run()
    state.database.remember_archive(ID)
    state.has(run=True, identity="f" * 32)
    with pytest.raises(NotTheArchive):
        state.recognise(mends=mends)
    assert state.archive().identity() == "f" * 32
    assert state.database.archive_id() == ID


def test_identity_that_is_missing_is_made_again_only_with_all_runs(state: State) -> None:
    """With its runs it is the archive and gets its own id back; without them the folder may be an empty mount point."""
    state.knows_the_run()
    state.database.remember_archive(ID)
    state.has()
    with pytest.raises(NotTheArchive):
        state.recognise()
    assert list(state.root.iterdir()) == []

    state.has(run=True)
    with pytest.raises(NotTheArchive):
        state.recognise(mends=False)
    assert state.recognise() == ID


def test_state_without_an_id_takes_only_an_archive_with_its_runs(state: State) -> None:
    """A state of an earlier version knows runs and no id: a folder that has none of them is a stranger."""
    state.knows_the_run()
    state.has()
    with pytest.raises(NotTheArchive, match="none of the 1 runs"):
        state.recognise()
    state.has(run=True)
    assert state.recognise() == state.database.archive_id() is not None


def test_adopted_folder_is_the_archive_from_then_on(state: State) -> None:
    """A person's word counts more than what the state knew; an archive that lost its id and has a run keeps it."""
    state.knows_the_run()
    state.database.remember_archive(ID)
    state.has(identity="f" * 32)
    assert adopt(state.archive(), state.catalog, state.database) == "f" * 32 == state.recognise()

    (state.root / IDENTITY_FILE).unlink()
    state.has(run=True)
    assert adopt(state.archive(), state.catalog, state.database) == "f" * 32
