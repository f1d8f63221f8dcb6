"""Wrong settings by the dozen: each is told once, where it stands, in plain words, and without what may be a secret."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import command
from modelwarden.config import loading
from modelwarden.config.loading import load_settings
from modelwarden.config.telling import looks_secret
from modelwarden.config.toml_file import MOST_FAULTS, read_toml
from modelwarden.errors import StopService
from processes import clean_environment, modelwarden

pytestmark = pytest.mark.usefixtures("no_settings")

SECRET = "slack://T0KENA/T0KENB/T0KENC"
DESTINATION = '[[notify.destination]]\nname = "team"\nurl = "json://host"\n'


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder of its own."""
    monkeypatch.setenv("HOME", "/home/warden")
    monkeypatch.chdir(tmp_path)


def complaints(text: str | bytes, path: str = "c.toml") -> list[str]:
    """The lines that tell what is wrong with a file of this text; none if nothing is."""
    Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        load_settings(path, asks_apprise=True, urls="all")
    except StopService as error:
        first, *told, last = str(error).splitlines()
        assert first == f"{path}: the settings are wrong:"
        assert last == loading.HINT
        assert all(line.startswith("  ") for line in told)
        return [line.removeprefix("  ") for line in told]
    return []


GATE = "[[policy.gate]]\nmetric = 'x'\napprove = 2\nreview = 1\n"

POLICY = "[[policy]]\nname = 'p'\nhistory = 'x'\n[[policy.gate]]\nmetric = 'x'\napprove = 2\nreview = 1\n"
OTHER = POLICY.replace("'x'", "'val_loss'")
FORMAT = "[[format]]\nname = 'own'\nfiles = ['a']\nreader = 'json'\nprogram = '.'\n"
BACKTESTS = "[[watch]]\npath = 'x'\nformat = 'bt'\npolicy = 'p'\n"
OF_OWN = f"[[watch]]\npath = 'x'\nformat = 'own'\npolicy = 'p'\n{POLICY}{FORMAT}"

WRONG: dict[str, tuple[str, list[str]]] = {
    # Formats
    "format that there is not": (
        f"[[watch]]\npath = 'x'\nformat = 'hf-trainr'\npolicy = 'p'\n{POLICY}",
        ['line 3: watch[0].format: there is no format "hf-trainr"; did you mean "hf-trainer"?'],
    ),
    "format by the name of a library": (
        '[[watch]]\npath = "out"\nformat = "XGBoost"\n',
        ['line 3: watch[0].format: there is no format "XGBoost"; did you mean "evals-json" or "xgb-cv"?'],
    ),
    "list whose one entry is wrong": (
        '[[watch]]\npath = "out"\n[[notify.destination]]\nname = "a"\nurl = "json://x"\non = ["APROVED"]\n',
        ["line 6: notify.destination[0].on[0]: give one of APPROVED, REVIEW, DROP, CHANGED"],
    ),
    "format with the default policy": (
        "[[watch]]\npath = 'x'\nformat = 'hf-trainer'",
        ["line 3: watch[0].format: needs a policy of its own: default gates fitness, and hf-trainer has none"],
    ),
    "final that is none": (
        f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\nfinal = ['parses', 'soon']\n{POLICY}",
        ['line 5: watch[0].final[1]: give "parses", "complete", "quiet:30m" or "marker:NAME"'],
    ),
    "final without a format": (
        "[[watch]]\npath = 'x'\nfinal = 'parses'",
        ["line 3: watch[0].final: is of a folder with a format: say which, or leave this out"],
    ),
    "best of a summary": (
        "[[watch]]\npath = 'x'\nmodels = 'best'",
        ["line 3: watch[0].models: is of a folder with a format: say which, or leave this out"],
    ),
    "saved without a format": (
        f"[[watch]]\npath = 'x'\npolicy = 'p'\n{POLICY}".replace("\nhistory", "\njudge_at = 'saved'\nhistory"),
        ['lines 3 and 6: policy[0].judge_at: judge_at = "saved" is for folders with a format'],
    ),
    "gate the other way round": (
        f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\n{OTHER}",
        ["lines 3 and 9: policy[0].gate[0].metric: val_loss of keras is better lower, and this gate says higher"],
    ),
    "group that is no folder above": (
        f"[[watch]]\npath = 'x'\nformat = 'own'\ngroup = 'up'\npolicy = 'p'\n{POLICY}{FORMAT}",
        ['line 4: watch[0].group: give "." for the folder that the files lie in, ".." for the one above'],
    ),
    "group without a format": (
        "[[watch]]\npath = 'x'\ngroup = '.'",
        ["line 3: watch[0].group: is of a folder with a format: say which, or leave this out"],
    ),
    "group that never ends": (
        f"[[watch]]\npath = 'x'\nformat = 'own'\ngroup = '.'\npolicy = 'p'\n{POLICY}{FORMAT}",
        ['line 4: watch[0].group: is final when no more files come: set final = "quiet:30m"'],
    ),
    "group of what is together": (
        f"[[watch]]\npath = 'x'\nformat = 'ultralytics'\ngroup = '.'\nfinal = 'quiet:1m'\npolicy = 'p'\n{POLICY}",
        ["line 4: watch[0].group: ultralytics reads several files as one already: leave this out"],
    ),
    "group of what is together, with its own end": (
        f"[[watch]]\npath = 'x'\nformat = 'ultralytics'\ngroup = '.'\npolicy = 'p'\n{POLICY}",
        ["line 4: watch[0].group: ultralytics reads several files as one already: leave this out"],
    ),
    "two formats of one file": (
        f"{BACKTESTS}{BACKTESTS.replace('bt', 'vectorbt')}{POLICY}",
        ["lines 2 and 6: watch[1].path: the same folder as watch[0].path, and both take stats.json: give each pat"],
    ),
    "one file with a format and without": (
        OF_OWN.replace("policy", "patterns = ['b']\npolicy", 1) + "[[watch]]\npath = 'x'\npatterns = ['a', 'b']\n",
        ["lines 2 and 19: watch[1].path: the same folder as watch[0].path, and both take b: give each pat"],
    ),
    "group above a folder that is not looked into": (
        OF_OWN.replace("policy", "group = '..'\nrecursive = false\nfinal = 'quiet:1m'\npolicy", 1),
        ["line 4: watch[0].group: is above a file that lies in a folder below: set recursive = true"],
    ),
    "format of files that no path ends with": (
        FORMAT.replace("'a'", "'/abs/a.json', '../b'"),
        [
            "line 3: format[0].files[0]: is the end of a path",
            "line 3: format[0].files[1]: is the end of a path",
        ],
    ),
    "format without what it needs": (
        "[[format]]\nname = 'own'",
        ["line 1: format[0]: needs files and reader and program, or a format that it is like"],
    ),
    "format of a name that is taken": (
        FORMAT.replace("own", "keras"),
        ['line 2: format[0].name: a format "keras" comes with modelwarden: give this one another name'],
    ),
    "two formats of a name": (
        FORMAT + FORMAT,
        ['line 7: format[1].name: a format "own" is there already: give this one another name'],
    ),
    "format like none": (
        "[[format]]\nname = 'own'\nlike = 'kers'",
        ['line 3: format[0].like: there is no format "kers"; did you mean "keras"?'],
    ),
    "reader that there is not": (
        FORMAT.replace("json", "xml"),
        ["line 4: format[0].reader: there is no reader of this name; there are json, jsonl"],
    ),
    "program that does not compile": (
        FORMAT.replace("'.'", "'.['"),
        ["line 5: format[0].program: the program does not compile: jq: error: syntax error"],
    ),
    "checkpoint without its place": (
        FORMAT + "kept = ['x.pt']",
        ["line 6: format[0].kept[0]: a path from the file's folder with one {} in its last part"],
    ),
    "domain that is none": (
        FORMAT + "[[format.metric]]\nname = 'x'\nleast = 1.0\nmost = 0.0",
        ["line 6: format[0].metric[0]: least = 1.0 is above most = 0.0"],
    ),
    "file of a format that is not there": (
        "[[format]]\nfile = 'nope.toml'",
        ["line 2: format[0].file: "],
    ),
    "number for the name of one that another is like": (
        OF_OWN.replace("'own'", "'other'", 1).replace("'own'", "5") + "[[format]]\nname = 'other'\nlike = 'own'\n",
        ["line 13: format[0].name: give text in quotes, not 5"],
    ),
    "number for a format's name": (
        OF_OWN.replace("name = 'own'", "name = 5"),
        ["line 13: format[0].name: give text in quotes, not 5"],
    ),
    "text for a format's files": (
        OF_OWN.replace("['a']", "'a'"),
        ["line 14: format[0].files: give a list in [ ], not text of 1 character"],
    ),
    "number for a format's reader": (
        OF_OWN.replace("'json'", "5"),
        ["line 15: format[0].reader: give text in quotes, not 5"],
    ),
    "list for a format's program": (
        OF_OWN.replace("'.'", "['.']"),
        ["line 16: format[0].program: give text in quotes, not a list"],
    ),
    "number for the format that one is like": (
        OF_OWN.replace(FORMAT, "[[format]]\nname = 'own'\nlike = 5\n"),
        ["line 14: format[0].like: give text in quotes, not 5"],
    ),
    "number for the file of a format": (
        OF_OWN.replace(FORMAT, "[[format]]\nfile = 5\n"),
        ["line 13: format[0].file: give text in quotes, not 5"],
    ),
    "text for all formats": (
        "format = 'own'\n" + OF_OWN.replace(FORMAT, ""),
        ["line 1: format: give a list in [ ], not text of 3 characters"],
    ),
    "text for a format": (
        "format = ['own']\n" + OF_OWN.replace(FORMAT, ""),
        ["line 1: format[0]: give a table, not text of 3 characters"],
    ),
    "number for the end of a format whose files are a group": (
        OF_OWN.replace("policy", "group = '.'\npolicy", 1) + "final = 5\n",
        ["line 18: format[0].final: give a list in [ ], not 5"],
    ),
    "number for a format's last line": (
        FORMAT + "last_line = 5\ngoal = '([0-9]+)'\n",
        ["line 6: format[0].last_line: give text in quotes, not 5"],
    ),
    "number for a format's goal": (
        FORMAT + "last_line = '([0-9]+)'\ngoal = 5\ngoal_in = 'a.yaml'\n",
        ["line 7: format[0].goal: give text in quotes, not 5"],
    ),
    "number for a metric's name": (
        OF_OWN + "[[format.metric]]\nname = 5\n",
        ["line 18: format[0].metric[0].name: give text in quotes, not 5"],
    ),
    "format like one that is wrong": (
        OF_OWN.replace("'own'", "'other'", 1).replace("'json'", "5") + "[[format]]\nname = 'other'\nlike = 'own'\n",
        ["line 15: format[0].reader: give text in quotes, not 5"],
    ),
    "format of files that are text beside other summaries": (
        OF_OWN.replace("['a']", "'a'") + "[[watch]]\npath = 'x'\n",
        ["line 14: format[0].files: give a list in [ ], not text of 1 character"],
    ),
    "goal without a number": (
        FORMAT + "last_line = '([0-9]+)'\ngoal = 'x'\n",
        ["line 7: format[0].goal: put the number in brackets"],
    ),
    "file of a format and more": (
        "[[format]]\nfile = 'nope.toml'\nreader = 'json'",
        ["line 3: format[0].reader: stands in the file: name the file alone, or write all of it here"],
    ),
    # Types
    "number for text": ("archive_dir = 5", ["line 1: archive_dir: give text in quotes, not 5"]),
    "date for text": ("\narchive_dir = 2024-12-24", ["line 2: archive_dir: give text in quotes, not a date or a time"]),
    "list for text": ("archive_dir = ['a']", ["line 1: archive_dir: give text in quotes, not a list"]),
    "table for text": ("[state_dir]\na = 1", ["line 1: state_dir: give text in quotes, not a table"]),
    "text for number": (
        "[intake]\nsettle_seconds = '2'",
        ["line 2: intake.settle_seconds: give a number, not text of"],
    ),
    "boolean for number": (
        "[intake]\nsettle_seconds = true",
        ["line 2: intake.settle_seconds: give a number, not true"],
    ),
    "boolean for whole": ("[intake]\nmax_bytes = false", ["line 2: intake.max_bytes: give a whole number, not false"]),
    "fraction for whole": (
        "[notify]\ndigest_above = 5.5",
        ["line 2: notify.digest_above: give a whole number, not 5.5"],
    ),
    "text for boolean": (
        "[[watch]]\npath = 'x'\ncreate = 'yes'",
        ["line 3: watch[0].create: give true or false, without"],
    ),
    "number for boolean": ("[[watch]]\npath = 'x'\nrecursive = 1", ["line 3: watch[0].recursive: give true or false,"]),
    "text for list": (
        "[[watch]]\npath = 'x'\npatterns = '*'",
        ["line 3: watch[0].patterns: give a list in [ ], not text"],
    ),
    "number in a list": (
        "[[watch]]\npath = 'x'\npatterns = [\n  '*',\n  5,\n]",
        ["line 5: watch[0].patterns[1]: give text in quotes, not 5"],
    ),
    "number for table": ("log = 3", ["line 1: log: give a table, not 3"]),
    "list for table": ("[[log]]\nlevel = 'info'", ["line 1: log: give a table, not a list"]),
    "table for list": ("[watch]\npath = 'x'", ["line 1: watch: give a list; a table of it has its heading in double"]),
    "number for list of tables": ("watch = 5", ["line 1: watch: give a list in [ ], not 5"]),
    "number in a list of tables": ("watch = [5]", ["line 1: watch[0]: give a table, not 5"]),
    "text for destinations": (
        "[notify]\ndestination = 'x'",
        ["line 2: notify.destination: give a list in [ ], not text"],
    ),
    "table for choice": ("[log.level]", ["line 1: log.level: give one of debug, info, warning, error, not a table"]),
    # Values
    "empty text": ("archive_dir = ''", ["line 1: archive_dir: give some text, not empty text"]),
    "empty list": (
        "[[watch]]\npath = 'x'\npatterns = []",
        ["line 3: watch[0].patterns: give at least one, not an empty"],
    ),
    "nothing watched": ("watch = []", ["line 1: watch: at least one folder must be watched"]),
    "pattern of a path without a format": (
        "[[watch]]\npath = 'x'\npatterns = ['*.json', 'runs/*.json', '!old.json']",
        [
            "line 3: watch[0].patterns[1]: is of the file's name alone, since the folder has no format: write it",
            "line 3: watch[0].patterns[2]: is of the file's name alone, since the folder has no format: write it",
        ],
    ),
    "pattern of no path": (
        f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\npatterns = ['/a.csv', '../a.csv', 'a']\n{POLICY}",
        [
            "line 5: watch[0].patterns[0]: is the end of a path, such as result.json or logs/*.csv: it begins with",
            "line 5: watch[0].patterns[1]: is the end of a path, such as result.json or logs/*.csv: it begins with",
        ],
    ),
    "patterns that only take away": (
        f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\npatterns = ['!a.csv']\n{POLICY}",
        ["line 5: watch[0].patterns: take all away: name at least one pattern of a file"],
    ),
    "end that the format never says": (
        f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\nfinal = ['complete and quiet:1m']\n{POLICY}",
        ['line 5: watch[0].final: keras does not say that a training ended: give "quiet:30m", or "marker:NAME"'],
    ),
    "end that a format like it never says": (
        f"format = [{{name='f',like='sb3',final='complete'}}]\n[[watch]]\npath='x'\nformat='f'\npolicy='p'\n{POLICY}",
        ["line 4: watch[0].format: f does not say that a training ended: give"],
    ),
    "time that never comes": (
        "[notify]\nsend_timeout_seconds = 1e11\ndeadline_hours = 1e300\nkeep_delivered_days = 36501",
        [
            "line 2: notify.send_timeout_seconds: give at most 3153600000, not 1",
            "line 3: notify.deadline_hours: give at most 876000, not 1e+300",
            "line 4: notify.keep_delivered_days: give at most 36500, not 36501",
        ],
    ),
    "time that never comes, in days": (
        "[[watch]]\npath = 'x'\nexpect_every = '99999999d'",
        ["line 3: watch[0].expect_every: give a time of at most 36500d"],
    ),
    "negative": ("[intake]\nsettle_seconds = -1", ["line 2: intake.settle_seconds: give a number above 0, not -1"]),
    "not a number": (
        "[intake]\nsettle_seconds = nan",
        ["line 2: intake.settle_seconds: give a number that is finite, not"],
    ),
    "infinite": (
        "[notify]\ndeadline_hours = inf",
        ["line 2: notify.deadline_hours: give a number that is finite, not inf"],
    ),
    "too small": ("[notify]\ndigest_above = 0", ["line 2: notify.digest_above: give at least 1, not 0"]),
    "huge": (
        "[notify]\ndigest_above = -1" + "0" * 99,
        ["line 2: notify.digest_above: give at least 1, not a number of"],
    ),
    "huge number for text": (
        "archive_dir = 1" + "0" * 99,
        ["line 1: archive_dir: give text in quotes, not a number of"],
    ),
    "no time": ("[[watch]]\npath = 'x'\nexpect_every = 'soon'", ["line 3: watch[0].expect_every: give a time such as"]),
    "choice": (
        "[log]\nformat = 'xml'",
        ["line 2: log.format: give one of auto, json, console, not text of 3 characters"],
    ),
    "close to a choice": (
        "[log]\nlevel = 'warn'",
        ["line 2: log.level: give one of debug, info, warning, error, not text"],
    ),
    "choice in capitals": (
        "[log]\nlevel = 'INFO'",
        ["line 2: log.level: give one of debug, info, warning, error, not tex"],
    ),
    "topic": (
        f"{DESTINATION}on = ['DROP', 'approve']",
        ["line 4: notify.destination[0].on[1]: give one of APPROVED, REVIEW, DROP, "],
    ),
    # Policies
    "policy without a gate": (
        "[[policy]]\nname = 'a'",
        ["line 1: policy[0].gate: a policy needs a gate: a metric with"],
    ),
    "policy without a name": (f"[[policy]]\n{GATE}", ["line 1: policy[0].name: name is missing"]),
    "policy called default": (
        f"[[policy]]\nname = 'default'\n{GATE}",
        ['line 2: policy[0].name: "default" is the policy that [gate] sets: give this one another name'],
    ),
    "two policies of a name": (
        f"[[policy]]\nname = 'a'\n{GATE}[[policy]]\nname = 'a'\n{GATE}",
        ['line 8: policy[1].name: there is a policy "a" already'],
    ),
    "watch of no policy": (
        f"[[watch]]\npath = 'x'\npolicy = 'langage'\n[[policy]]\nname = 'language'\n{GATE}",
        ['line 3: watch[0].policy: there is no policy "langage"; did you mean "language"?'],
    ),
    "review stricter than approve": (
        "[[policy]]\nname = 'a'\n[[policy.gate]]\nmetric = 'x'\napprove = 1\nreview = 2",
        ["line 6: policy[0].gate[0].review: review = 2.0 of x is stricter than approve = 1.0"],
    ),
    "which way is not known": (
        "[[policy]]\nname = 'a'\n[[policy.gate]]\nmetric = 'x'\napprove = 1\nreview = 2\nbetter = 'Lower'",
        ["line 7: policy[0].gate[0].better: give one of higher, lower, not text of 5 characters; did you mean lower?"],
    ),
    "bound outside its domain": (
        "[[policy]]\nname = 'a'\n[[policy.gate]]\nmetric = 'x'\napprove = 95\nreview = 0.5\nmost = 1.0",
        ["line 5: policy[0].gate[0].approve: approve = 95.0 of x is above 1, the most that it can be: is it a perc"],
    ),
    "bound that is text": (
        "[[policy]]\nname = 'a'\n[[policy.gate]]\nmetric = 'x'\napprove = '1'\nreview = 2",
        ["line 5: policy[0].gate[0].approve: give a number, not text of 1 character"],
    ),
    "gate without a bound": (
        "[[policy]]\nname = 'a'\n[[policy.gate]]\nmetric = 'x'\nreview = 2",
        ["line 3: policy[0].gate[0].approve: approve is missing"],
    ),
    "two gates of a metric": (
        f"[[policy]]\nname = 'a'\n{GATE}{GATE}",
        ["line 8: policy[0].gate[1].metric: x has a gate already"],
    ),
    "history without a direction": (
        f"[[policy]]\nname = 'a'\nhistory = 'y'\n{GATE}",
        ["line 3: policy[0].history: no gate says which way y improves: give better ="],
    ),
    "override of no gate": (
        f"[[policy]]\nname = 'a'\n{GATE}[[policy.override]]\nsymbols = ['A*']\napprove = {{ y = 1 }}",
        ["line 9: policy[0].override[0].approve: y has no gate that could be overridden"],
    ),
    "override that contradicts": (
        f"[[policy]]\nname = 'a'\n{GATE}[[policy.override]]\nsymbols = ['A*']\napprove = {{ x = 0 }}",
        ["line 9: policy[0].override[0].approve: review = 1.0 of x is stricter than approve = 0.0"],
    ),
    "one table for policies": (
        "[policy]\nname = 'a'",
        ["line 1: policy: give a list; a table of it has its heading in double brackets, [[policy]]"],
    ),
    "name": (
        "[[notify.destination]]\nname = 'te/am'\nurl = 'json://a'",
        ["line 2: notify.destination[0].name: give a name that begins with a letter"],
    ),
    # Unknown keys
    "unknown": ("colour = 'red'", ["line 1: colour: there is no such setting"]),
    "misspelt": (
        "[intake]\nsetle_seconds = 2",
        ["line 2: intake.setle_seconds: there is no such setting; did you mean set"],
    ),
    "misspelt table": ("[nottify]\nx = 1", ["line 1: nottify: there is no such setting; did you mean notify?"]),
    "misspelt list of tables": (
        "[[watched]]\npath = 'x'",
        ["line 1: watched: there is no such setting; did you mean w"],
    ),
    "of another table": ("level = 'x'", ["line 1: level: there is no such setting here; it belongs to [log]"]),
    "of the top": (
        "[[watch]]\npath = 'x'\nstate_dir = 'y'",
        ["line 3: watch[0].state_dir: there is no such setting here;"],
    ),
    "dotted": ("log.levl = 'info'", ["line 1: log.levl: there is no such setting; did you mean level?"]),
    "quoted": ('log."lev\\u0065ll" = "info"', ["line 1: log.levell: there is no such setting; did you mean level?"]),
    "in an inline table": (
        "log = { levl = 'info' }",
        ["line 1: log.levl: there is no such setting; did you mean level?"],
    ),
    "key of a stranger": ('"a b c" = 1', ["line 1: (a key of 5 characters): there is no such setting"]),
    # Missing
    "no path": ("[log]\n[[watch]]", ["line 2: watch[0].path: path is missing"]),
    "misspelt path is not also missing": (
        "[[watch]]\npaht = 'x'",
        ["line 2: watch[0].paht: there is no such setting; did"],
    ),
    "no name": ("[[notify.destination]]\nurl = 'json://a'", ["line 1: notify.destination[0].name: name is missing"]),
    "no URL": (
        "[[notify.destination]]\nname = 'a'",
        ["line 1: notify.destination[0]: needs one of url, url_file and ur"],
    ),
    "two URLs": (
        f"{DESTINATION}url_file = 'x'",
        ["lines 3 and 4: notify.destination[0].url: needs one of url, url_file"],
    ),
    "misspelt url is not also missing": (
        f"[[notify.destination]]\nname = 'a'\nurls = '{SECRET}'",
        ["line 3: notify.destination[0].urls: there is no such setting; did you mean url?"],
    ),
    "no file of a URL": (
        "[[notify.destination]]\nname = 'a'\nurl_file = 'gone'",
        ['line 3: notify.destination[0].url_file: destination "a": its URL can\'t be read from'],
    ),
    # Paths
    "variable": ("archive_dir = '$HOME/a'", ["line 1: archive_dir: variables such as $HOME are not replaced"]),
    "variable in braces": (
        "[[watch]]\npath = '/srv/${USER}'",
        ["line 2: watch[0].path: variables such as $HOME are not"],
    ),
    "unknown user": (
        "archive_dir = '~nobody-there/a'",
        ["line 1: archive_dir: the home folder of ~nobody-there is not"],
    ),
    "zero byte": ('state_dir = "a\\u0000b"', ["line 1: state_dir: a path can't hold a zero byte"]),
    "URL for a path": (f"archive_dir = '{SECRET}'", ["line 1: archive_dir: this is a URL, not a path"]),
    "file for a watched folder": ("[[watch]]\npath = 'c.toml'", ["line 2: watch[0].path: "]),
    "file for the archive": ("archive_dir = 'c.toml'", ["line 1: archive_dir: "]),
    # Contradictions
    "watched archive": (
        "archive_dir = 'a'\nwatch = [{path = 'b/../a'}]",
        ["lines 1 and 2: watch[0].path: the same folder a"],
    ),
    "watched state": (
        "state_dir = 's'\nwatch = [{path = 's/x'}]",
        ["lines 1 and 2: watch[0].path: the same folder as stat"],
    ),
    "watched run": (
        "archive_dir = 'a'\nwatch = [{path = 'a/20240101_000000'}]",
        ["lines 1 and 2: watch[0].path: a folder that modelwarden makes in archive_dir"],
    ),
    "watched twice": (
        "[[watch]]\npath = 'x'\n[[watch]]\npath = './x/'",
        ["lines 2 and 4: watch[1].path: the same folder as"],
    ),
    "bounds": (
        "[gate]\nreview_min_pf = 1.9\n\napproved_min_pf = 1.5",
        ["lines 2 and 4: gate.review_min_pf: review_min_pf = 1.9 is stricter than approved_min_pf = 1.5"],
    ),
    "bound against a default": (
        "[gate]\nreview_min_pf = 9",
        ["line 2: gate.review_min_pf: review_min_pf = 9.0 is stricter"],
    ),
    "percent": (
        "[gate]\napproved_min_consistency = 85",
        ["line 2: gate.approved_min_consistency: approved_min_consistency"],
    ),
    "wrong bound contradicts nothing": (
        "[gate]\nreview_min_pf = 9\napproved_min_pf = 'x'",
        ["line 3: gate.approved_min_pf: give a number, not text of 1 character"],
    ),
    "two of a name": (
        f"{DESTINATION}{DESTINATION}",
        ["lines 2 and 5: notify.destination[1].name: also the name of desti"],
    ),
    "fallback to nobody": (
        f"{DESTINATION}fallback = 'mail'",
        ["line 4: notify.destination[0].fallback: there is no other"],
    ),
    "fallback to itself": (
        f"{DESTINATION}fallback = 'team'",
        ["lines 2 and 4: notify.destination[0].fallback: the destina"],
    ),
    "ring of fallbacks": (
        f"{DESTINATION}fallback = 'b'\n{DESTINATION.replace('team', 'b')}fallback = 'team'",
        ["lines 4 and 8: notify.destination[0].fallback: a ring of fallbacks, team -> b -> team"],
    ),
    "two bad URLs": (
        "\n".join(f"[[notify.destination]]\nname = '{name}'\nurl = 'nosuch://T0KEN/{name}'" for name in "ab"),
        [
            'line 3: notify.destination[0].url: destination "a": its URL is not one',
            'line 6: notify.destination[1].url: destination "b": its URL is not one',
        ],
    ),
    # Metrics
    "metrics of no name for node_exporter": (
        "[metrics]\nfile = '/run/m.txt'",
        ["line 2: metrics.file: node_exporter reads files whose name ends in .prom"],
    ),
    "metrics to a folder": ("[metrics]\nfile = 'made.prom'", ["line 2: metrics.file: "]),
    "metrics for everybody": (
        "[metrics]\nlisten = '0.0.0.0:9464'",
        ["line 2: metrics.listen: others could ask there, and no password is asked for: write "],
    ),
    "metrics for everybody by IPv6": ("[metrics]\nlisten = '[::]:9464'", ["line 2: metrics.listen: others could"]),
    "metrics on a network": ("[metrics]\nlisten = '192.168.1.5:9464'", ["line 2: metrics.listen: others could ask"]),
    "metrics at a name": ("[metrics]\nlisten = 'localhost:9464'", ["line 2: metrics.listen: names are not looked up"]),
    "metrics without a port": ("[metrics]\nlisten = '127.0.0.1'", ["line 2: metrics.listen: this is no address with"]),
    "metrics at a port alone": ("[metrics]\nlisten = ':9464'", ["line 2: metrics.listen: this is no address with"]),
    "metrics at a number": ("[metrics]\nlisten = 9464", ["line 2: metrics.listen: give text in quotes, not 9464"]),
    "metrics at port 0": ("[metrics]\nlisten = '127.0.0.1:0'", ["line 2: metrics.listen: a port is 1 to 65535"]),
    "metrics at a port too far": ("[metrics]\nlisten = '127.0.0.1:65536'", ["line 2: metrics.listen: a port is 1 to"]),
    "IPv6 without brackets": (
        "[metrics]\nlisten = '::1:9464'",
        ["line 2: metrics.listen: an IPv6 address"],
    ),
    "metrics at a relative socket": (
        "[metrics]\nlisten = 'unix:s'",
        ["line 2: metrics.listen: the path after"],
    ),
    "metrics at a long socket": (
        f"[metrics]\nlisten = 'unix:/{'é' * 54}'",
        ["line 2: metrics.listen: the path of a socket has at most 107 bytes"],
    ),
    "metrics at a secret": (f"[metrics]\nlisten = '{SECRET}'", ["line 2: metrics.listen: this looks like a token"]),
    "metrics misspelt": ("[metrics]\nfiles = 'm.prom'", ["line 2: metrics.files: there is no such setting; did you m"]),
    # Not TOML
    "no quotes": ("archive_dir = data", ["line 1: not TOML: no value that can be read; text stands in quotes"]),
    "no value": ("archive_dir = ", ["line 1: not TOML: no value"]),
    "no closing quote": ("[log]\nlevel = 'info\n", ["line 2: not TOML: text without its closing quote"]),
    "no closing quotes": ("[log]\nlevel = '''info\n\n", ["line 2: not TOML: text without its closing quote"]),
    "no closing bracket": ("[log\nlevel = 'x'", ["line 1: not TOML: a heading without its closing ]"]),
    "unclosed list": ("watch = [\n{path = 'x'}\n[log]", ["line 3: not TOML: "]),
    "backslash": ('archive_dir = "C:\\data"', ["line 1: not TOML: a backslash that means nothing"]),
    "twice": ("[log]\nlevel = 'info'\nlevel = 'debug'", ["line 3: not TOML: set a second time"]),
    "table twice": ("[log]\n[intake]\n[log]\nlevel = 'x'", ["line 3: not TOML: set a second time"]),
    "not UTF-8": ("[log]\nlevel = '\udcff'", ["line 2: not TOML: it is not UTF-8 text"]),
    "prose": ("please watch my folder", ["line 1: not TOML: no = between key and value"]),
    "two lines and more": (
        "archive_dir = data\nstate_dir = 5\n[log]\nlevel = loud\nformat = 'xml'\n[gate]\nreview_min_pf = 9",
        [
            "line 1: not TOML: no value",
            "line 2: state_dir: give text in quotes, not 5",
            "line 4: not TOML: no value",
            "line 5: log.format: give one of",
            "line 7: gate.review_min_pf: review_min_pf = 9.0 is stricter",
        ],
    ),
    "name that can't be read is not also missing": (
        "[[notify.destination]]\nname = team\nurl = 'json://a'",
        ["line 2: not TOML: no value"],
    ),
    "too deep": ("watch = " + "[" * 5000, ["not TOML: it is nested too deeply"]),
    "too many digits": ("\nwatch = " + "1" * 5000, ["line 2: not TOML: a number of too many digits"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_setting_is_told_once_with_its_line(kind: str) -> None:
    """By path and line in the file, in plain words, and nothing that only follows from it."""
    text, expected = WRONG[kind]
    Path("made.prom").mkdir()
    told = complaints(text.encode(errors="surrogateescape"))
    assert len(told) == len(expected), told
    assert [line[: len(begin)] for line, begin in zip(told, expected, strict=True)] == expected
    assert not any(word in line for line in told for word in ("Input", "input", "pydantic", "T0KEN", "valid"))


@pytest.mark.parametrize("name", ["file", "listen"])
def test_metrics_without_their_package_are_refused_with_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts, with the line that asks for them; without that line the package is not missed."""
    monkeypatch.setattr("modelwarden.config.agreement.find_spec", lambda _: None)  # as if it were not there
    value = {"file": "m.prom", "listen": "127.0.0.1:9464"}[name]
    (told,) = complaints(f"[metrics]\n{name} = '{value}'")
    assert told.startswith(f"line 2: metrics.{name}: prometheus-client is not installed: `pip install")
    assert complaints("[metrics]") == []


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "127.1.2.3:1", "[::1]:65535", "unix:/run/a/b.sock"])
def test_address_of_this_host_alone_is_taken(listen: str) -> None:
    """Loopback by either version, and a socket in the file system."""
    assert complaints(f"[metrics]\nlisten = '{listen}'") == []


TOGETHER = """archive_dir = 5
colour = "red"
[[watch]]
path = "$HOME/x"
patern = "*.json"
[intake]
settle_seconds = "2"
max_bytes = many
[gate]
approved_min_fitness = true
review_min_pf = 9
[notify]
digest_above = 0
[[notify.destination]]
name = "team"
url = "nosuch://T0KENA/x"
[[notify.destination]]
name = "mail"
url = "slack://T0KENB/#x"
fallback = "tema"
[log]
level = "warn"
level = "info"
"""


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syntax, types, unknown keys, bounds, URLs and the environment in one message, each once."""
    monkeypatch.setenv("MODELWARDEN_LOG_FORMAT", "json")
    monkeypatch.setenv("MODELWARDEN_INTAKE__AFTER_ARCHIVE", "move")
    told = complaints(TOGETHER)
    numbers = [int(found[1]) for line in told if (found := re.match(r"line (\d+): ", line))]
    assert numbers == [1, 2, 4, 5, 7, 8, 10, 11, 13, 16, 19, 20, 22, 23]
    assert sorted(line.partition(":")[0] for line in told[len(numbers) :]) == [
        "MODELWARDEN_INTAKE__AFTER_ARCHIVE",
        "MODELWARDEN_LOG_FORMAT",
    ]
    assert "did you mean team?" in next(line for line in told if line.startswith("line 20"))
    assert "did you mean warning?" in next(line for line in told if line.startswith("line 22"))
    assert "T0KEN" not in "".join(told)


NOT_UNDERSTOOD = "[[notify.destination]]\nname = 'a'\nurl = 'nosuch://x'\n"
DELIVERING = [["config", "check"], ["run"], ["run", "--once"], ["courier"], ["notify-test"]]
"""The commands that deliver, or say whether one can: these ask whether a URL is understood."""

OTHERS = [
    ["config", "show"],
    ["check", "x.json"],
    ["verify"],
    ["reindex"],
    ["outbox"],
    ["outbox", "retry"],
    ["outbox", "drop", "1"],
    ["mute", "team", "--for", "1h"],
    ["status"],
    ["doctor"],
]
"""Other commands that the settings must be right for."""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        *(pytest.param(each, TOGETHER, id=f"all-{' '.join(each)}") for each in [*DELIVERING, *OTHERS]),
        *(pytest.param(each, NOT_UNDERSTOOD, id=f"url-{' '.join(each)}") for each in DELIVERING),
    ],
)
def test_every_command_gives_the_same_message(tmp_path: Path, words: list[str], text: str) -> None:
    """Whoever works by them: the same words, an exit code of its own, nothing on standard output and nothing made."""
    (tmp_path / "c.toml").write_text(text)
    if words == ["run"] and text is not TOGETHER:  # a courier of its own judges the URL
        result = modelwarden(*words, "--config", "c.toml", cwd=tmp_path)
        code, out, err = result.returncode, result.stdout, result.stderr
    else:
        code, out, err = command(*words, "--config", "c.toml")
    expected = command("config", "check", "c.toml").err
    assert len(expected.splitlines()) > 2
    assert (code, out) == (78 if words in (["run"], ["courier"]) else 2, "")
    if words == ["run", "--once"] and text is not TOGETHER:  # its courier writes to the process's own standard error
        return
    assert err == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.toml"]


@pytest.mark.parametrize("words", [["runs"], ["show"], ["approved"], ["history", "A"], ["rejected"]], ids=" ".join)
def test_question_gives_the_same_message_where_the_archive_is_in_doubt(tmp_path: Path, words: list[str]) -> None:
    """What can't be read may name the archive. What a question leaves alone: tests/config/test_whereabouts.py."""
    (tmp_path / "c.toml").write_text(TOGETHER)
    expected = command("config", "check", "c.toml").err.splitlines()
    done = command(*words, "--config", "c.toml")
    assert (done.code, done.out) == (2, "")
    told = done.err.splitlines()
    assert told[0] == expected[0]
    assert set(told) <= set(expected)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MODELWARDEN_LOG__LEVEL", "loud", "log.level: give one of debug, info, warning, error, not text of 4"),
        ("MODELWARDEN_LOG_LEVEL", "info", "there is no such setting; did you mean MODELWARDEN_LOG__LEVEL?"),
        ("MODELWARDEN_LOG__LEVL", "info", "there is no such setting; did you mean MODELWARDEN_LOG__LEVEL?"),
        ("MODELWARDEN_CONFG", "x", "there is no such setting; did you mean MODELWARDEN_CONFIG?"),
        ("MODELWARDEN_WATCH", "/srv/in", "give JSON, such as "),
        ("MODELWARDEN_WATCH", '"/srv/in"', "watch: give a list in [ ], not text of 7 characters"),
        ("MODELWARDEN_WATCH", '[{"path": 5}]', "watch[0].path: give text in quotes, not 5"),
        ("MODELWARDEN_WATCH", "[" * 50_000, "give JSON, such as "),
        ("MODELWARDEN_WATCH__0__PATH", "x", "there is no such setting"),
        ("MODELWARDEN_LOG", "debug", "give JSON, such as "),
        ("MODELWARDEN_INTAKE__MAX_BYTES", "many", "intake.max_bytes: give a whole number, not text of 4 characters"),
        ("MODELWARDEN_INTAKE__SETTLE_SECONDS", "-1", "intake.settle_seconds: give a number above 0, not -1"),
        ("MODELWARDEN_GATE__REVIEW_MIN_PF", "9", "gate.review_min_pf: review_min_pf = 9.0 is stricter than"),
        ("MODELWARDEN_ARCHIVE_DIR", "$HOME/x", "archive_dir: variables such as $HOME are not replaced"),
        ("MODELWARDEN_ARCHIVE_DIR", "", "archive_dir: give some text, not empty text"),
    ],
)
def test_variable_that_is_wrong_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """A setting of the environment has no line: the variable is what has to be changed."""
    monkeypatch.setenv(name, value)
    (line,) = complaints("")
    assert line.startswith(f"{name}: {told}")


@pytest.mark.parametrize("kind", ["slack bot", "slack secret", "github", "hex"])
def test_variable_whose_name_holds_a_token_is_not_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever slipped behind the prefix: that there is such a variable is told, and how long its name is."""
    name = "MODELWARDEN_" + TOKENS[kind].replace("-", "_")
    monkeypatch.setenv(name, "x")
    (line,) = complaints("")
    assert line.startswith(f"MODELWARDEN_* ({len(name)} characters): there is no such setting")


def test_file_of_another_kind_is_told_briefly() -> None:
    """What is no TOML at all is not told line by line for pages, and that the rest was not looked at is said."""
    told = complaints("some prose\n" * 1000)
    assert len(told) == MOST_FAULTS
    assert told[-1].endswith("the rest can't be looked at before this is right")


def test_empty_name_of_a_config_file_is_told() -> None:
    """`--config "$UNSET"` is a mistake, not the current folder and not the defaults."""
    done = command("runs", "--config", "")
    assert done.code == 2
    assert done.err.startswith("modelwarden: --config: the settings are wrong:\n  can't be read (No such file")


def test_variable_and_line_that_contradict_one_another_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has to choose sees where either stands."""
    monkeypatch.setenv("MODELWARDEN_GATE__APPROVED_MIN_PF", "1.4")
    (line,) = complaints("[gate]\nreview_min_pf = 1.5")
    assert line.startswith("line 2 and MODELWARDEN_GATE__APPROVED_MIN_PF: gate.review_min_pf: ")


def test_variables_of_ours_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting by its variable, numbers as text, a table as JSON, and the variable of the config file."""
    Path("c.toml").write_text("[log]\nlevel = 'error'\n")
    monkeypatch.setenv("MODELWARDEN_CONFIG", "c.toml")
    monkeypatch.setenv("MODELWARDEN_LOG", '{"level": "debug", "format": "json"}')
    monkeypatch.setenv("MODELWARDEN_LOG__FORMAT", "console")
    monkeypatch.setenv("modelwarden_intake__max_bytes", "10")
    monkeypatch.setenv("MODELWARDEN_INTAKE__SETTLE_SECONDS", ".5")
    found, _ = load_settings()
    assert (found.log.level, found.log.format) == ("debug", "console")
    assert (found.intake.max_bytes, found.intake.settle_seconds) == (10, 0.5)


def test_option_that_is_wrong_is_told_by_its_name() -> None:
    """What was typed has no line either."""
    Path("file").write_text("")
    done = command("run", "--watch", "file", "--archive", "$HOME/x")
    assert done.code == 78
    assert "\n  --watch: watch[0].path: " in done.err
    assert "\n  --archive: archive_dir: variables" in done.err


def test_missing_file_is_told_beside_a_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start, one message."""
    monkeypatch.setenv("MODELWARDEN_LOG__LEVEL", "loud")
    done = command("config", "check", "gone.toml")
    assert done.code == 2
    assert "can't be read (No such file or directory)" in done.err


TOKENS = {
    "slack URL": SECRET,
    "slack bot": "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "slack webhook": "T0XXXX/B0XXX/XXXX",
    "slack secret": "TIiajkdnlazkcOXrIdevi7FQ",
    "hex": "3f2a9c81d4e5b6a7c8d9e0f112233445",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "telegram": "123456789:AAEabcdefghijklmnopqrstuvwxyz012345",
    "mail": "warden:hunter22@mail.example.com",
}
FIELDS: dict[str, Callable[[str], str]] = {
    "name": lambda token: f'[[notify.destination]]\nname = "{token}"\nurl = "json://a"\n',
    "fallback": lambda token: f'{DESTINATION}fallback = "{token}"\n',
    "symbols": lambda token: f'{DESTINATION}symbols = ["BTC*", "{token}"]\n',
    "symbols without brackets": lambda token: f'{DESTINATION}symbols = "{token}"\n',
    "on": lambda token: f'{DESTINATION}on = ["{token}"]\n',
    "fallback_after": lambda token: f'{DESTINATION}fallback_after = "{token}"\n',
    "url_credential": lambda token: f'[[notify.destination]]\nname = "a"\nurl_credential = "{token}"\n',
    "url_file": lambda token: f'[[notify.destination]]\nname = "a"\nurl_file = "{token}"\n',
    "key": lambda token: f'{DESTINATION}"{token}" = 1\n',
    "table": lambda token: f'["{token}"]\nx = 1\n',
    "path": lambda token: f'[[watch]]\npath = "{token}"\n',
    "patterns": lambda token: f'[[watch]]\npath = "x"\npatterns = ["{token}"]\n',
    "expect_every": lambda token: f'[[watch]]\npath = "x"\nexpect_every = "{token}"\n',
    "archive_dir": lambda token: f'archive_dir = "{token}"\n',
    "state_dir": lambda token: f'state_dir = "{token}"\n',
    "after_archive": lambda token: f'[intake]\nafter_archive = "{token}"\n',
    "max_bytes": lambda token: f'[intake]\nmax_bytes = "{token}"\n',
    "gate": lambda token: f'[gate]\napproved_min_pf = "{token}"\n',
    "level": lambda token: f'[log]\nlevel = "{token}"\n',
    "no quotes": lambda token: f"[log]\nlevel = {token}\n",
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", TOKENS)
def test_token_in_the_wrong_place_is_refused_and_not_repeated(field: str, kind: str) -> None:
    """A hand slips: what is quoted in logs, lists and `config show` holds no token, and no message shows it."""
    told = complaints(FIELDS[field](TOKENS[kind]))
    assert told
    pieces = [TOKENS[kind], *(piece for piece in re.split(r"\W+", TOKENS[kind]) if len(piece) > 5)]
    assert not [piece for piece in pieces if piece in "".join(told) and piece != "example"]


@pytest.mark.parametrize(
    "text",
    [
        *("team", "risk desk", "quant-team.eu", "QuantitativeResearchDesk", "MODELS_2024", "ops2", "mail-of-the-desk"),
        *(
            "BTC*",
            "AAPL_1Hour_with_a_name_that_is_rather_long",
            "BTC/USDT",
            "日本*",
            "📈MOON",
            "*.json",
            "ES=F",
            "^GSPC",
        ),
        *("training20241224v2", "BTCUSDT_PERP", "result_*.summary", "EURUSD-15min", "[A-Z]*", "1000SHIBUSDT"),
        *("GOOGL240119C00150000", "1000000MOGUSDT", "FESX202503", "US0378331005"),
    ],
)
def test_plain_name_is_no_secret(text: str) -> None:
    """Names of teams, symbols and patterns as people write them are taken."""
    assert not looks_secret(text)


keys = st.sampled_from(
    ["watch", "path", "log", "level", "notify", "destination", "name", "url", "on", "gate", "a b", ""]
)
leaves = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.sampled_from(list(TOKENS.values())), st.text(max_size=8), st.none()
)
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


def as_toml(value: Any) -> str:
    """An inline value; what TOML has no word for is a date."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(each):08x}" for each in value if not 0xD800 <= ord(each) < 0xE000) + '"'
        case None:
            return "2024-12-24T15:30:00Z"
        case _:
            return repr(value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(keys, documents, max_size=4))
def test_document_of_any_shape_is_taken_or_refused_without_a_secret(document: dict[str, Any]) -> None:
    """No traceback, no piece of any token, and the lines are those of the keys."""
    text = "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in document.items())
    told = "\n".join(complaints(text))
    assert not [token for token in TOKENS.values() if token in told]
    lines = read_toml(text.encode()).lines
    assert [lines[key,] for key in document] == list(range(1, len(document) + 1))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_file_that_is_damaged_anywhere_is_told_without_a_traceback(data: st.DataObject) -> None:
    """Bytes cut out, put in or doubled: each time taken, or told in lines that hold no piece of a URL."""
    whole = TOGETHER.encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    damaged = whole[:begin] + data.draw(st.binary(max_size=4)) + whole[end:]
    assert "T0KEN" not in "".join(complaints(damaged))


LAID_OUT = '''# a comment with = and [brackets]
archive_dir = """
two lines"""      # and one behind

a.b . "c d" = 1
watch = [  # a list
  { path = "x", patterns = [
     "*.json", 'a"b',
  ] },
]
[ notify ]
digest_above = 5
[[notify.destination]]
name = "a # b"
[[notify.destination]]
name = \'\'\'it\'s\'\'\'
[notify.destination.deep]
x = 2024-12-24 15:30:00
[log]
"level" = "info"
'''


def test_every_key_has_its_line_however_it_is_laid_out() -> None:
    """Comments, text of several lines, dotted and quoted keys, inline tables, arrays of tables."""
    expected = {
        ("archive_dir",): 2,
        ("a",): 5,
        ("a", "b"): 5,
        ("a", "b", "c d"): 5,
        ("watch",): 6,
        ("watch", 0): 7,
        ("watch", 0, "path"): 7,
        ("watch", 0, "patterns"): 7,
        ("watch", 0, "patterns", 0): 8,
        ("watch", 0, "patterns", 1): 8,
        ("notify",): 11,
        ("notify", "digest_above"): 12,
        ("notify", "destination"): 13,
        ("notify", "destination", 0): 13,
        ("notify", "destination", 0, "name"): 14,
        ("notify", "destination", 1): 15,
        ("notify", "destination", 1, "name"): 16,
        ("notify", "destination", 1, "deep"): 17,
        ("notify", "destination", 1, "deep", "x"): 18,
        ("log",): 19,
        ("log", "level"): 20,
    }
    for text in (LAID_OUT, LAID_OUT.replace("\n", "\r\n"), "\ufeff" + LAID_OUT):
        assert read_toml(text.encode()).lines == expected


def test_folder_inside_another_is_remarked_on_and_taken() -> None:
    """Its files are known by their paths, so each is handled once; that both look for the same is worth a word."""
    Path("c.toml").write_text("[[watch]]\npath = 'x'\n[[watch]]\npath = 'x/y'\n")
    done = command("config", "check", "c.toml")
    assert done.code == 0
    assert f"{Path.cwd()}/x/y: also watched as a part of {Path.cwd()}/x" in done.err


def test_question_without_destinations_does_not_load_apprise(tmp_path: Path) -> None:
    """What takes a quarter of a second is asked only if there is a URL to judge."""
    (tmp_path / "c.toml").write_text("[log]\nlevel = 'info'\n")
    body = (
        "import sys; from modelwarden.config.loading import load_settings\n"
        "load_settings(sys.argv[1], asks_apprise=True); assert 'apprise' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", body, tmp_path / "c.toml"], env=clean_environment(), timeout=60, check=True
    )


def test_format_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the daemon starts, and not with the first file."""
    monkeypatch.setattr("modelwarden.formats.sandbox.EXTRA", ("no_such_package",))
    policy = POLICY.replace("'x'", "'val_acc'")
    told = complaints(f"[[watch]]\npath = 'x'\nformat = 'keras'\npolicy = 'p'\n{policy}")
    assert told == [
        'line 3: watch[0].format: needs no_such_package, which is not installed: pip install "modelwarden[formats]"'
    ]
