"""What every command prints, made by the commands themselves: daemon/COMMANDS.md, and the picture of a terminal.

    python tests/screens.py

writes both anew. `tests/test_screens.py` makes them again and compares. Moments, ids, paths and hosts, which are others
on each machine, are replaced by ones that stand for them.
"""

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

from commands import command
from terminals import at_a_terminal

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "daemon" / "COMMANDS.md"
PICTURE: Final = ROOT / "tests" / "pictures" / "terminal.svg"
DATA: Final = ROOT / "tests" / "data"
_WITHOUT_SETTINGS: Final = ("config init", "config example", "config schema", "man", "completion", "service")
HOME: Final = "/srv/models"
"""What stands for the folder in which the commands ran."""

MOST_LINES: Final = 14
"""Of an answer that is longer so many lines are shown, and `...`."""

_LINES: Final = {"doctor": 1, "notify-test": 0, "man": 1, "completion": 1, "service": 0}
"""The others say something else on each machine."""

CONFIG: Final = (
    'archive_dir = "archive"\n[[watch]]\npath = "in"\n[notify]\nsend_timeout_seconds = 2.0\n'
    '[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:9/hook"\non = ["REVIEWED"]\n'
)


class Shown(NamedTuple):
    """A command, and what is said of it above what it prints."""

    command: str
    words: str


SHOWN: Final = (
    Shown("run --once --no-courier", "Archive what is there, and end; without `--once` it goes on watching."),
    Shown("runs", "The archived runs."),
    Shown("show latest", "Every model of a run."),
    Shown("show 2024-12-24 ETHUSD", "One model: its figures between their bounds, its flags in words, its course."),
    Shown("approved", "What a deploy script gets."),
    Shown("history MSFT", "One model over the runs."),
    Shown("diff", "What changed since the run before."),
    Shown("explain HIGH_DRAWDOWN", "What a word means, and where its bound comes from."),
    Shown("check in/training_summary_20241225_153000.json", "Judge a file without archiving it."),
    Shown("review", "What waits for a person."),
    Shown('review 20241224 AMZN --approve --reason "checked by hand" --by ada', "Decide."),
    Shown("audit", "The record of decisions."),
    Shown("regate --set approved_min_pf=2.0", "What another bound would make of the archive."),
    Shown("regate --sweep approved_min_fitness=0.5:0.9:0.1", "The counts along a bound."),
    Shown("formats", "The trainers whose own files are read."),
    Shown("rejected", "What was no summary."),
    Shown("rejected show 2", "All that is wrong with it."),
    Shown("rejected retry --all", "Judge it once more, after a mend."),
    Shown("archive old", "Bring old summaries in."),
    Shown("prune --keep-last 1 --keep-reviewed --dry-run", "Which runs no rule keeps."),
    Shown("export models.csv", "The catalog for a notebook; it says nothing in a pipe."),
    Shown("verify", "Whether the archive is what it says."),
    Shown("reindex", "Make index.json and the catalog again."),
    Shown("adopt", "Take what is there for the archive."),
    Shown("status", "What the daemon is doing."),
    Shown("doctor", "Whether this machine is as the settings need it."),
    Shown("outbox", "What is owed."),
    Shown("outbox drop 1", "Give a message up."),
    Shown("outbox retry", "Try the dead again."),
    Shown("mute team --for 2h", "Leave a destination in peace."),
    Shown("notify-test team", "Send a test message."),
    Shown("courier --drain", "Deliver what is owed, and end."),
    Shown("config check", "Whether the settings are right."),
    Shown("config show", "Each setting, and where it comes from."),
    Shown("config init new.toml", "A config file for what is here."),
    Shown("config example", "Every setting, explained."),
    Shown("config schema", "For editors."),
    Shown("man", "The manual page, for `man -l -`."),
    Shown("completion bash", "What makes a shell complete."),
    Shown("service install --dry-run", "What would be done to run it as a service, here."),
)

INTRODUCTION: Final = (
    "Made by the commands themselves (`tests/screens.py`), on the two summaries in `tests/data`, one after the",
    "other; a test makes it again. Here they print into a pipe: at a terminal there are colours, ages for times, and",
    "tables as wide as it is. Moments, ids, hosts and paths stand for yours. [README](../README.md#ask-it) ·",
    "[reference](README.md)",
)

_STANDS_FOR: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d(?= \"modelwarden )"), "2024-12-25"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "2024-12-25T15:30:05Z"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "2024-12-25T15:30:05.000000Z"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC"), "2024-12-25 15:30 UTC"),
    (re.compile(r"\d\d-\d\d \d\d:\d\d(?= )"), "12-25 15:30"),
    (re.compile(r"(?<=Z by )\S+|(?<=ago by )\S+|(?<=just now by )\S+"), "trainer-7"),
    (re.compile(r"archived (?:just now|\d+ \w+ ago)"), "archived 3 h ago"),
    (re.compile(r"archived \d.* ago$"), "archived 3 h ago"),
    (re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b"), "0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    (re.compile(r"[\d.]+ [kMGT]B(?: \(\d+%\))?"), "120 GB (60%)"),
    (re.compile(r"in \d+\w"), "in 1m"),
)


@contextmanager
def place() -> Iterator[Path]:
    """A folder as the page has it: two runs, a file that is no summary, and an old summary."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for each in ("in", "old"):
            (folder / each).mkdir()
        for data in sorted(DATA.glob("training_summary_2024*.json")):
            shutil.copy(data, folder / "in")
        shutil.copy(DATA / "training_summary_flat.json", folder / "old" / "training_summary_20241220_120000.json")
        (folder / "in" / "notes.json").write_text('{"models": [{"symbol": "A", "final_pf": "high"}]}\n')
        (folder / "config.toml").write_text(CONFIG)
        (folder / "config.toml").chmod(0o600)
        yield folder


def answers(folder: Path) -> Iterator[tuple[Shown, list[str]]]:
    """What each command prints there, one after the other; long answers are cut."""
    for each in SHOWN:
        words = shlex.split(each.command)
        where = [] if each.command.startswith(_WITHOUT_SETTINGS) else ["--config", "config.toml"]
        with chdir(folder):
            done = command(*words, *where)
        lines = [line for line in (done.out + done.err).splitlines() if not line.startswith('{"')]
        shown = [_standing_for(line, folder).rstrip() for line in lines]
        most = _LINES.get(words[0], MOST_LINES)
        yield each, shown if len(shown) <= most else [*shown[:most], "..."]


def _standing_for(line: str, folder: Path) -> str:
    line = line.replace(str(folder), HOME)
    for pattern, by in _STANDS_FOR:
        line = pattern.sub(by, line)
    return "─" * 40 if set(line) == {"─"} else line


def page(folder: Path) -> str:
    """daemon/COMMANDS.md."""
    parts = [
        "# Every command, with what it prints",
        "",
        *INTRODUCTION,
        "",
    ]
    for each, lines in answers(folder):
        parts += [each.words, "", "```console", f"$ modelwarden {each.command}", *lines, "```", ""]
    return "\n".join(parts).rstrip() + "\n"


def picture(folder: Path) -> str:
    """The terminal as an SVG: two questions and their answers."""
    console = Console(record=True, width=80, file=StringIO())
    for words in (["runs"], ["show", "20241224", "MSFT"]):
        shown = at_a_terminal(*words, "--archive", folder / "archive").replace("\r", "")
        text = "\n".join(_standing_for(line, folder) for line in shown.splitlines())
        text = re.sub(r"archived {2,}", "archived  ", re.sub(r"(?:\d+ \w+ ago|just now) *(?= n)", "3 h ago  ", text))
        console.print(Text.from_ansi(f"\x1b[1m$ modelwarden {' '.join(words)}\x1b[0m\n{text}\n"))
    return console.export_svg(title="modelwarden", unique_id="modelwarden")


def main() -> None:
    """Write both."""
    with place() as folder:
        PAGE.write_text(page(folder), encoding="utf-8")
        PICTURE.write_text(picture(folder), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n{PICTURE}\n")


if __name__ == "__main__":
    main()
