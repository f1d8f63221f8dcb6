"""The daemon as it is put together: what it will need is there before its first file comes."""

import json
import subprocess
import sys
from pathlib import Path

from processes import clean_environment
from summaries import encoded, flat_summary

LIFE = """
import json, os, sys
from modelwarden.config import load_settings
from modelwarden.wiring.service import open_service

settings, _ = load_settings("c.toml")
with open_service(settings, (), courier=False) as service:
    before = set(sys.modules)
    for name in os.listdir("ready"):
        os.rename(f"ready/{name}", f"out/{name}")
    service.run_once()
    print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_daemon_imports_nothing_more_when_a_file_comes(tmp_path: Path) -> None:
    """Its code is what it was started with, whatever is installed meanwhile, or can't be read any more."""
    (tmp_path / "ready").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "ready" / "good.json").write_bytes(encoded(flat_summary()))
    (tmp_path / "ready" / "bad.json").write_bytes(b'{"models": []}')
    (tmp_path / "c.toml").write_text('[intake]\nsettle_seconds = 0.05\n[[watch]]\npath = "out"\n')
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIFE],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in json.loads(done.stdout.splitlines()[-1]) if name.startswith("modelwarden")] == []
    archive = tmp_path / "training_archives"
    assert (
        len(list(archive.glob("2*/model_assessments.json"))) == len(list(archive.glob("rejected/*/reason.json"))) == 1
    )
