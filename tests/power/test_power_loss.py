"""Power cuts: on ext4, xfs and btrfs, whatever the disk had and had not written when the power went.

The rule: the states come from the record of a real process on a real file system, and the real start-up code is what
looks at them. A mutant that leaves a sync out proves that the states show it.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from rigs.disk_images import FILE_SYSTEMS, needs_file_system
from rigs.mutants import PACKAGE, Mutant
from rigs.namespaces import run_privately
from rigs.power_cuts import Result

pytestmark = pytest.mark.power

STATES = 160
"""Cuts of each of a file system's two recordings of runs that come one by one."""

BACKLOG_STATES = 100
"""Cuts of its recording of a backlog, each of which takes thrice as long to check."""

PEOPLE_STATES = 60
"""Cuts of its recording of decisions and of runs that were pruned."""

MUTANT_STATES = 60

SECONDS = 300.0
"""Until a recording's cuts must all have been tried, on a machine with other work."""

_SYNC = "os.fsync(descriptor)"
"""The one call by which everything but SQLite reaches the disk."""

MUTANTS = (
    Mutant("no_file_or_folder_is_synced", "durable.py", _SYNC, "None"),
    Mutant(
        "the_runs_files_are_not_synced",
        "durable.py",
        _SYNC,
        f'None if os.path.basename(path) in {{"summary.json", "model_assessments.json", "recommendations.md"}} '
        f"else {_SYNC}",
    ),
    Mutant(
        "the_index_is_not_synced",
        "durable.py",
        _SYNC,
        f'None if os.path.basename(path) == "index.json" else {_SYNC}',
    ),
    Mutant("the_commit_point_is_not_synced", "archive/tree.py", "durable.sync_folder(self.root)", "pass"),
    Mutant(
        "the_rename_of_the_index_is_not_synced",
        "archive/index_file.py",
        "        durable.sync_folder(os.path.dirname(self.path))\n",
        "",
    ),
    Mutant(
        "acknowledged_before_it_is_synced",
        "durable.py",
        _SYNC,
        # Eight calls late rather than some time late: how fast the machine is decides nothing. Only in the process
        # whose power is cut: descriptors kept by the one that tries the cuts would keep its disk mounted.
        # Not of what is leased: a copy would keep the lease, and the next reader wait for its end.
        f'{_SYNC} if "rigs.power_subject" not in __import__("sys").orig_argv '
        'or __import__("fcntl").fcntl(descriptor, __import__("fcntl").F_GETLEASE) != __import__("fcntl").F_UNLCK else '
        '((late := globals().setdefault("_late", [])).append(os.dup(descriptor)), '
        "[(os.fsync(oldest), os.close(oldest)) for oldest in [late.pop(0)]] if len(late) > 8 else None)",
    ),
    Mutant(
        "written_in_place",
        "archive/tree.py",
        "        durable.rename_new(folder, self.path_of(name))\n",
        "        os.mkdir(self.path_of(name))\n"
        "        for file in os.listdir(folder):\n"
        '            with open(os.path.join(folder, file), "rb") as staged:\n'
        "                durable.write_new_file(os.path.join(self.path_of(name), file), staged.read())\n"
        "        self.discard(folder)\n",
    ),
    Mutant("the_state_is_not_synced", "state/database.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF"),
    Mutant(
        "a_start_believes_the_index",
        "archive/publishing.py",
        "if name not in self._index and self._read_into_index(name, lines.get(name))",
        "if rebuild and name not in self._index and self._read_into_index(name, lines.get(name))",
    ),
)


def cut(file_system: str, workload: str, folder: Path, product: Path, *options: str) -> Result:
    """Record a workload and start from its cuts."""
    needs_file_system(FILE_SYSTEMS[file_system])
    answer = run_privately("rigs.power_cuts", folder, file_system, workload, *options, product=product, seconds=SECONDS)
    return Result(**answer)


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("options", [(), ("--neighbour",)], ids=["in_peace", "beside_a_neighbour"])
@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_run_that_was_acknowledged_survives_a_power_cut(
    file_system: str, options: tuple[str, ...], tmp_path: Path, tried: Callable[[str, float], None]
) -> None:
    """Runs archived one by one, a few at once, and after a restart: none is lost, torn, doubled or announced twice."""
    result = cut(file_system, "alone", tmp_path / "lab", PACKAGE.parent, "--states", str(STATES), *options)

    assert result.violations == []
    assert sum(result.states.values()) == STATES
    tried(f"power loss, {file_system}: states", STATES)
    assert result.turns > 0, "the index's spare was never swapped in"


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_backlog_survives_a_power_cut(file_system: str, tmp_path: Path, tried: Callable[[str, float], None]) -> None:
    """A backlog staged by workers and committed in groups, and runs behind it: what was committed stays, once."""
    result = cut(
        file_system, "backlog", tmp_path / "lab", PACKAGE.parent, "--states", str(BACKLOG_STATES), "--neighbour"
    )

    assert result.violations == []
    assert sum(result.states.values()) == BACKLOG_STATES
    tried(f"power loss, {file_system}: states", BACKLOG_STATES)
    assert result.turns > 0, "the index's spare was never swapped in"


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_what_people_did_survives_a_power_cut(
    file_system: str, tmp_path: Path, tried: Callable[[str, float], None]
) -> None:
    """A decision that was acknowledged is there, whole and in its chain; what was pruned is gone, and stays so."""
    result = cut(file_system, "people", tmp_path / "lab", PACKAGE.parent, "--states", str(PEOPLE_STATES))

    assert result.violations == []
    assert sum(result.states.values()) == PEOPLE_STATES
    tried(f"power loss, {file_system}: states", PEOPLE_STATES)


PEOPLE_MUTANTS = (
    Mutant(
        "a_decision_is_not_synced",
        "archive/numbered.py",
        "    durable.write_new_file(draft, data)\n",
        '    if where.startswith("reviews/"):\n'
        '        with open(draft, "wb") as stream:\n            stream.write(data)\n'
        "    else:\n        durable.write_new_file(draft, data)\n",
    ),
    Mutant(
        "what_is_pruned_is_not_recorded",
        "archive/pruned.py",
        "    add_numbered(tree, root, PRUNED, number, _encode(number, at, host, runs))\n",
        "",
    ),
)


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("mutant", PEOPLE_MUTANTS, ids=lambda mutant: mutant.name)
def test_rig_catches_the_mutant_of_what_people_did(mutant: Mutant, tmp_path: Path) -> None:
    """On one file system at least, a decision is lost or half, or a run that was pruned is back."""
    product = mutant.make(tmp_path / "product")
    for file_system in reversed([*FILE_SYSTEMS]):
        lab = tmp_path / file_system
        if cut(file_system, "people", lab, product, "--states", str(PEOPLE_STATES), "--first").violations:
            return
    pytest.fail(f"{mutant.name} survived on {', '.join(FILE_SYSTEMS)}")


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_rig_catches_the_mutant(mutant: Mutant, tmp_path: Path) -> None:
    """On one file system at least, a product with this fault breaks a promise."""
    product = mutant.make(tmp_path / "product")
    for file_system in reversed([*FILE_SYSTEMS]):  # btrfs forgives least
        lab = tmp_path / file_system
        if cut(file_system, "alone", lab, product, "--states", str(MUTANT_STATES), "--first").violations:
            return
    pytest.fail(f"{mutant.name} survived on {', '.join(FILE_SYSTEMS)}")
