"""The script a user would write instead: watchdog, json, one thread, the whole index rewritten for every run.

Usage: naive.py WATCHED ARCHIVE [--fsync]
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

BOUNDS = {
    "final_fitness": (0.70, 0.50),
    "final_pf": (1.8, 1.3),
    "final_consistency": (0.85, 0.65),
    "final_max_dd": (-0.08, -0.15),
}


def judge(model: dict[str, Any]) -> str:
    """The class of one model."""
    worst = "APPROVED"
    for name, (approve, review) in BOUNDS.items():
        value = -model[name] if name == "final_max_dd" else model[name]
        if value < review:
            return "DROP"
        if value < approve:
            worst = "REVIEW"
    return worst


class Handler(FileSystemEventHandler):
    """Archives every file that appears."""

    def __init__(self, archive: Path, *, fsync: bool) -> None:
        self.archive = archive
        self.fsync = fsync
        self.index: list[dict[str, Any]] = []

    def on_created(self, event: FileSystemEvent) -> None:
        """A file was renamed in."""
        data = Path(os.fsdecode(event.src_path)).read_bytes()
        summary = json.loads(data)
        folder = self.archive / summary["timestamp"]
        folder.mkdir()
        assessments = {model["symbol"]: judge(model) for model in summary["models"]}
        report = "".join(f"- {symbol}: {verdict}\n" for symbol, verdict in assessments.items())
        self.write(folder / "summary.json", data)
        self.write(folder / "model_assessments.json", json.dumps(assessments, indent=2).encode())
        self.write(folder / "recommendations.md", report.encode())
        self.index.append({"timestamp": summary["timestamp"], "models": len(assessments)})
        self.write(self.archive / "index.json.tmp", json.dumps({"runs": self.index}, indent=2).encode())
        os.rename(self.archive / "index.json.tmp", self.archive / "index.json")

    def write(self, path: Path, data: bytes) -> None:
        """Write a file, synced where asked for."""
        with path.open("wb") as stream:
            stream.write(data)
            if self.fsync:
                stream.flush()
                os.fsync(stream.fileno())


def main() -> None:
    """Watch until killed."""
    watched, archive = sys.argv[1:3]
    observer = Observer()
    observer.schedule(Handler(Path(archive), fsync="--fsync" in sys.argv), watched)
    observer.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
