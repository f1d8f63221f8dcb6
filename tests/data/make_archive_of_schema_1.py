"""Make archive_of_schema_1.tar.xz again: 1,000 runs, archived by the last version that wrote schema 1.

The rule: nothing in it is written by hand. That version's own code, from this repository's history, archives the runs,
owes and mutes messages, and answers the questions whose answers are kept beside them.

Run it in a clone that has the history: `python tests/data/make_archive_of_schema_1.py`.
"""

import json
import math
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

VERSION: Final = "47aa8e1854ff3f07f3f953d83bf73874f696f457"
"""The commit."""

RUNS: Final = 1000


def name_of(number: int) -> str:
    """What the run of that number is called."""
    return f"20240101_{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}"


SYMBOLS: Final = ("AAPL", "BTC-USD", "日経225", "a`b", "EUR/USD", "x<y>&z")
TARGET: Final = Path(__file__).with_name("archive_of_schema_1.tar.xz")
QUESTIONS: Final = (
    ("runs", "--limit", "2000"),
    ("approved", "20240101_000000"),
    *(("show", name_of(number)) for number in (0, 1, 7, 500)),
    *(("history", symbol) for symbol in SYMBOLS),
)


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = folder / "code"
        repository = Path(__file__).parents[2]
        _run("git", "-C", repository, "worktree", "add", "--detach", code, VERSION)
        try:
            _run(sys.executable, "-m", "venv", folder / "venv")
            _run(folder / "venv" / "bin" / "pip", "install", "--quiet", code)
            _make(folder, folder / "venv" / "bin" / "modelwarden")
        finally:
            _run("git", "-C", repository, "worktree", "remove", "--force", code)


def _make(folder: Path, command: Path) -> None:
    watched = folder / "in"
    watched.mkdir()
    for number in range(RUNS):
        # The name tells the run's timestamp, so that the archive is the same each time but for when it was made.
        (watched / f"summary_{name_of(number)}.json").write_text(json.dumps(_summary(number)), encoding="utf-8")
    (watched / "bad.json").write_text('{"models": [{"final_pf": "x"}]}')
    (folder / "config.toml").write_text(
        'archive_dir = "archive"\nstate_dir = "state"\n[[watch]]\npath = "in"\n[intake]\nsettle_seconds = 0.1\n'
        'reject_after_seconds = 0.1\n[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:9/"\n'
        'on = ["APPROVED", "REJECTED"]\n'
    )

    def ask(*words: str) -> str:
        return _run(command, *words, "--config", folder / "config.toml")

    _run(command, "run", "--once", "--no-courier", "--config", folder / "config.toml", codes={1})  # one is rejected
    ask("mute", "team", "--for", "100000h")
    answers = {" ".join(words): json.loads(ask(*words, "--json")) for words in QUESTIONS}
    (folder / "answers.json").write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    with tarfile.open(TARGET, "w:xz", preset=9) as tar:
        for part in ("archive", "state", "answers.json"):
            tar.add(folder / part, part, filter=_anonymous)


def _summary(number: int) -> dict[str, Any]:
    """What trainers write, odd figures included; the same for the same number."""
    chance = random.Random(number)
    models = [_model(chance, symbol) for symbol in chance.sample(SYMBOLS, chance.choice((1, 1, 2, 3)))]
    summary: dict[str, Any] = {"models": models, "validation_interval": 50}
    if number % 5 == 0:
        summary["run_name"] = f"sweep {number}"
    if number % 50 == 0:
        summary["reward_scale"] = 0.01
    return summary


def _model(chance: random.Random, symbol: str) -> dict[str, Any]:
    points = chance.randrange(1, 5)
    course = {
        "fitness_score": [round(chance.uniform(0.4, 1.0), 2) for _ in range(points)],
        "profit_factor": [round(chance.uniform(1.0, 3.0), 1) for _ in range(points)],
        "consistency": [round(chance.uniform(0.6, 1.0), 2) for _ in range(points)],
        "max_drawdown": [round(chance.uniform(0.01, 0.2), 2) for _ in range(points)],
    }
    if chance.random() < 0.1:
        course["profit_factor"][-1] = math.inf
    if chance.random() < 0.05:
        course[chance.choice([*course])][-1] = math.nan
    if chance.random() < 0.5:
        return {"symbol": symbol, "metrics": course}
    flat = {
        "symbol": symbol,
        "final_fitness": course["fitness_score"][-1],
        "final_pf": course["profit_factor"][-1],
        "final_consistency": course["consistency"][-1],
        "final_max_dd": course["max_drawdown"][-1],
        "fitness_history": course["fitness_score"],
    }
    if chance.random() < 0.05:
        del flat[chance.choice(["final_pf", "final_max_dd"])]
    return flat


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _run(*words: str | os.PathLike[str], codes: Collection[int] = (0,)) -> str:
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{words}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
