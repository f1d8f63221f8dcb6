"""The service on a booted Debian 12: installed by the README's own lines, with the units as they are shipped."""

import json
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processes import until
from rigs.booted_host import BootedHost, booted_host
from summaries import BAD, GOOD, encoded, flat_summary
from trainers import FILES, TRAINERS

pytestmark = [pytest.mark.boot, pytest.mark.timeout(600)]

INCOMING = "srv/modelwarden/incoming"
ARCHIVES = "srv/modelwarden/archives"
CONFIG = "etc/modelwarden/config.toml"
ENCRYPTED = "etc/modelwarden/credentials/team.cred"
ARCHIVE_OF_SCHEMA_1 = Path(__file__).parents[1] / "data" / "archive_of_schema_1.tar.xz"
HOOK = """
import http.server, sys
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(sys.argv[2], "ab") as log:
            log.write(body + b"\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedHost]:
    """A host on which the service was installed as systemd/README.md says, and two trainers with accounts."""
    with booted_host(tmp_path_factory.mktemp("host")) as host:
        text = (host.root / "src" / "systemd" / "README.md").read_text()
        block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
        assert block is not None
        host.do(f"export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; cd /src\n{block[1]}", seconds=500)
        for trainer in ("alice", "bob"):
            host.do(f"useradd --create-home --groups modelwarden-drop {trainer}")
        (host.root / "root" / "hook.py").write_text(HOOK)
        yield host


@pytest.fixture(autouse=True)
def _both_run(host: BootedHost) -> None:
    """Each test begins with both units running."""
    host.do("systemctl reset-failed; systemctl start modelwarden modelwarden-courier")


_names = iter(range(1, 1_000_000))


def made_by_trainer(host: BootedHost, name: str, data: bytes) -> None:
    """A file that every user there may copy."""
    folder = host.root / "opt" / "made"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / name).write_bytes(data)
    (folder / name).chmod(0o644)


def leave(
    host: BootedHost, user: str = "alice", *, umask: str = "077", models: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Let a trainer leave a new summary, by writing and renaming in the shared folder; return its run_name."""
    name = f"run{next(_names)}"
    summary = encoded(flat_summary(models or {"AAPL": GOOD, "MSFT": BAD}, run_name=name))
    made_by_trainer(host, name, summary)
    host.do(f"umask {umask}; cd /{INCOMING}; cp /opt/made/{name} .{name}.tmp; mv .{name}.tmp {name}.json", user=user)
    return name


def leave_many(host: BootedHost, word: str, count: int) -> set[str]:
    """Write so many summaries into the shared folder at once; return their run_names, which begin with the word."""
    names = {f"{word}{number}" for number in range(count)}
    for name in names:
        summary = encoded(flat_summary({"AAPL": GOOD}, run_name=name))
        (host.root / INCOMING / f"{name}.json").write_bytes(summary)
    return names


def archived(host: BootedHost) -> set[str]:
    """The run_name of each run that is in the index."""
    try:
        runs = json.loads((host.root / ARCHIVES / "index.json").read_bytes())["runs"]
    except FileNotFoundError:
        return set()
    return {run["run_name"] for run in runs}


def is_archived(host: BootedHost, name: str) -> None:
    until(lambda: name in archived(host), f"{name} in the archive\n{host.say('journalctl -n 50 --no-pager')}", 60)


def restarts(host: BootedHost, unit: str = "modelwarden") -> int:
    return int(host.shows(unit, "NRestarts") or 0)


def drop_in(host: BootedHost, unit: str, lines: str) -> None:
    """Put a drop-in there that a reboot forgets."""
    host.do(
        f"mkdir -p /run/systemd/system/{unit}.service.d; cat > /run/systemd/system/{unit}.service.d/x.conf <<'END'\n"
        f"{lines}\nEND\nsystemctl daemon-reload"
    )


def test_readmes_lines_make_two_running_units(host: BootedHost) -> None:
    """They run, are enabled, and say what they do."""
    for unit in ("modelwarden", "modelwarden-courier"):
        assert host.do(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == ["active", "enabled"]
    assert "watching" in host.shows("modelwarden", "StatusText")


def test_trainer_under_any_umask_is_archived(host: BootedHost) -> None:
    """A trainer of another user leaves a file in the shared folder; the folder's ACL lets the service read it."""
    for umask in ("077", "022", "007"):
        is_archived(host, leave(host, umask=umask))


def test_trainer_reads_only_what_is_its_own(host: BootedHost) -> None:
    """Not the settings: tokens are nobody's but the service's; no other team's summaries, nothing of the archive."""
    name = leave(host, "bob")
    is_archived(host, name)
    for path in (f"/{CONFIG}", f"/{INCOMING}/{name}.json", f"/{ARCHIVES}/index.json"):
        assert host.run(f"cat {path}", user="alice").returncode != 0, path
    for path in ("/etc/modelwarden", f"/{ARCHIVES}", "/var/lib/modelwarden"):
        assert host.run(f"ls {path}", user="alice").returncode != 0, path
    assert host.run(f"rm /{INCOMING}/{name}.json", user="alice").returncode != 0


def test_file_that_stays_unreadable_is_said_with_its_reason(host: BootedHost) -> None:
    """0600 on purpose, as `tempfile.mkstemp` makes it: the journal has it as a warning."""
    name = leave(host)
    host.do(f"setfacl -b /{INCOMING}/{name}.json; chmod 600 /{INCOMING}/{name}.json; touch /{INCOMING}/{name}.json")
    host.do(f"cp /{INCOMING}/{name}.json /tmp/x; echo ' ' >> /tmp/x; install -m 600 /tmp/x /{INCOMING}/closed.json")
    query = "journalctl -p warning -o cat MODELWARDEN_EVENT=unreadable"
    until(lambda: "closed.json" in host.say(query), "the warning", 60)
    assert "Permission denied" in host.say(query)
    host.do(f"rm /{INCOMING}/closed.json")


def test_journal_has_priorities_and_fields(host: BootedHost) -> None:
    """A run is found by its name, and no good news is a warning."""
    name = leave(host)
    is_archived(host, name)
    lines = host.do("journalctl -u modelwarden -o json MODELWARDEN_EVENT=run_archived").splitlines()
    found = [json.loads(line) for line in lines]
    assert {line["PRIORITY"] for line in found} == {"6"}
    assert found[-1]["MODELWARDEN_APPROVED"] == "1"
    assert host.say("journalctl -u modelwarden -p warning MODELWARDEN_EVENT=run_archived -o cat") == ""


def test_backlog_of_500_is_archived_by_workers_in_the_sandbox(host: BootedHost) -> None:
    """Worker processes may be started, and as many as are needed."""
    host.do("systemctl stop modelwarden")
    names = leave_many(host, "backlog", 500)
    host.do("systemctl start modelwarden")
    until(lambda: names <= archived(host), "500 runs", 120)
    assert host.say("journalctl -u modelwarden -o cat MODELWARDEN_EVENT=worker_lost") == ""


def test_stop_under_2000_waiting_files_leaves_nothing_half_made(
    host: BootedHost, record_property: Callable[[str, object], None]
) -> None:
    """Within the unit's time, and what was not archived is archived later, each once."""
    host.do("systemctl stop modelwarden")
    names = leave_many(host, "waiting", 2000)
    host.do("systemctl start modelwarden")
    until(lambda: names & archived(host), "the first of them", 60)
    began = time.monotonic()
    host.do("systemctl stop modelwarden")
    stopped = f"stopped after {time.monotonic() - began:.1f} s with {len(names & archived(host))} of 2000 archived"
    assert host.shows("modelwarden", "Result") == "success", stopped
    record_property("stop", stopped)
    host.do("systemctl start modelwarden")
    until(lambda: names <= archived(host), "all of them", 120)
    runs = json.loads((host.root / ARCHIVES / "index.json").read_bytes())["runs"]
    assert len({run["sha256"] for run in runs}) == len(runs)
    checked = host.do(
        "setpriv --reuid=modelwarden --regid=modelwarden --clear-groups "
        f"/opt/modelwarden/bin/modelwarden verify --config /{CONFIG}",
        seconds=300,
    )
    assert checked


def test_killed_service_comes_back(host: BootedHost) -> None:
    """And archives what was left meanwhile."""
    before = restarts(host)
    host.do("systemctl kill --kill-whom=main --signal=KILL modelwarden")
    name = leave(host)
    is_archived(host, name)
    assert restarts(host) == before + 1


@pytest.mark.parametrize("unit", ["modelwarden", "modelwarden-courier"])
def test_service_that_stands_still_is_started_again(host: BootedHost, unit: str) -> None:
    """A stopped process is no running service: systemd hears nothing of it and starts another."""
    drop_in(host, unit, "[Service]\nWatchdogSec=4")
    host.do(f"systemctl restart {unit}")
    try:
        process = host.shows(unit, "MainPID")
        host.do(f"systemctl kill --kill-whom=main --signal=STOP {unit}")
        until(lambda: host.shows(unit, "MainPID") not in {process, "0"}, "another process", 60)
        assert "watchdog" in host.say(f"journalctl -u {unit} -n 20 -o cat --no-pager")
    finally:
        host.do(f"rm /run/systemd/system/{unit}.service.d/x.conf; systemctl daemon-reload; systemctl restart {unit}")


def test_working_service_feeds_the_watchdog(host: BootedHost) -> None:
    """Idle or not: with a watchdog of four seconds it lives for three times as long."""
    drop_in(host, "modelwarden", "[Service]\nWatchdogSec=8")
    host.do("systemctl restart modelwarden")
    try:
        process, end = host.shows("modelwarden", "MainPID"), time.monotonic() + 20
        until(lambda: time.monotonic() > end, "20 seconds", 30, tick=1.0)
        assert host.shows("modelwarden", "MainPID") == process
    finally:
        host.do("rm /run/systemd/system/modelwarden.service.d/x.conf; systemctl daemon-reload")


def test_reload_takes_right_settings_and_refuses_wrong_ones(host: BootedHost) -> None:
    """The process stays, the status tells, and what is left meanwhile is archived."""
    process, settings = host.shows("modelwarden", "MainPID"), (host.root / CONFIG).read_text()
    try:
        (host.root / CONFIG).write_text(settings + "\nnonsense = 1\n")
        host.do("systemctl reload modelwarden")
        until(lambda: "refused" in host.shows("modelwarden", "StatusText"), "the status", 30)
        is_archived(host, leave(host))
        (host.root / CONFIG).write_text(settings + '\n[[watch]]\npath = "/srv/modelwarden/more"\ncreate = true\n')
        host.do("install -d -o modelwarden -m 755 /srv/modelwarden/more; systemctl reload modelwarden")
        more = encoded(flat_summary({"AAPL": GOOD}, run_name="after the reload"))
        (host.root / "srv/modelwarden/more/x.json").write_bytes(more)
        is_archived(host, "after the reload")
        assert host.shows("modelwarden", "MainPID") == process
        assert "refused" not in host.shows("modelwarden", "StatusText")
    finally:
        (host.root / CONFIG).write_text(settings)
        host.do("systemctl reload modelwarden")


def test_wrong_settings_at_a_start_stay_a_failed_unit(host: BootedHost) -> None:
    """No ten starts a minute for ever: `systemctl --failed` names it until somebody mends them."""
    settings = (host.root / CONFIG).read_text()
    try:
        (host.root / CONFIG).write_text("nonsense = 1\n")
        host.run("systemctl restart modelwarden")
        until(lambda: host.shows("modelwarden", "ActiveState") == "failed", "the failure", 30)
        assert host.shows("modelwarden", "ExecMainStatus") == "78"
        assert "modelwarden.service" in host.do("systemctl --failed --no-legend --plain")
    finally:
        (host.root / CONFIG).write_text(settings)


def test_trainers_own_files_are_read_in_the_sandbox(host: BootedHost) -> None:
    """By jq, NumPy and YAML, each in a process of its own with limits; the unit as it is, and nothing refused."""
    settings = (host.root / CONFIG).read_text()
    host.do("cd /src && /opt/modelwarden/bin/pip install -q '.[formats]'", seconds=500)
    program = "{models: [{symbol: stem, metrics: {x: .x}}]}"
    tables = [f"\n[[format]]\nname = 'own'\nfiles = ['own.json']\nreader = 'json'\nprogram = '{program}'\n"]
    for name, metric, better in OF_TRAINERS:
        tables.append(
            f"[[watch]]\npath = '/srv/modelwarden/{name}'\nformat = '{name}'\npolicy = '{name}'\nfinal = 'parses'\n"
            f"[[policy]]\nname = '{name}'\n[[policy.gate]]\nmetric = '{metric}'\nbetter = '{better}'\n"
            "approve = 0.0\nreview = 0.0\n"
        )
    names = " ".join(f"/srv/modelwarden/{name}" for name, _, _ in OF_TRAINERS)
    try:
        (host.root / CONFIG).write_text(settings + "\n".join(tables))
        host.do(f"install -d -o modelwarden -m 755 {names}; systemctl restart modelwarden")
        for name, _, _ in OF_TRAINERS:
            folder = host.root / "srv/modelwarden" / name
            if name == "own":
                (folder / "own.json").write_text('{"x": 1}')
                continue
            source = TRAINERS / FILES[name][0]
            inner = folder / source.parent.name
            inner.mkdir()
            for each in (*source.parent.glob("*.yaml"), source):
                shutil.copyfile(each, inner / each.name)
        wanted = {name for name, _, _ in OF_TRAINERS}

        def formats() -> set[object]:
            runs = (host.root / ARCHIVES).glob("*/model_assessments.json")
            return {json.loads(each.read_bytes()).get("format") for each in runs}

        try:
            until(lambda: wanted <= formats(), "a run of each", 60)
        except AssertionError as error:
            pytest.fail(f"{error}: {formats()}\n{host.say('journalctl -u modelwarden -n 30 --no-pager')}")
        assert host.say("journalctl -u modelwarden -o cat MODELWARDEN_EVENT=summary_rejected | grep /own/") == ""
        (host.root / "srv/modelwarden/own/own.json").write_text('{"x": 2}')
        until(lambda: "supersedes" in host.say(f"cat /{ARCHIVES}/*/model_assessments.json"), "the next of its path", 60)
    finally:
        (host.root / CONFIG).write_text(settings)
        host.do("systemctl restart modelwarden")


OF_TRAINERS = (
    ("hf-trainer", "eval_loss", "lower"),
    ("own", "x", "higher"),
    ("sb3", "mean_reward", "higher"),
    ("ultralytics", "val/box_loss", "lower"),
)


def test_courier_delivers_by_a_credential_and_its_rotation(host: BootedHost) -> None:
    """With a plot, drawn under MemoryDenyWriteExecute; the next URL counts from a restart on; then an encrypted one."""
    settings = (host.root / CONFIG).read_text()
    host.do("systemd-run --quiet --unit=one python3 /root/hook.py 8101 /root/one.log")
    host.do("systemd-run --quiet --unit=two python3 /root/hook.py 8102 /root/two.log")
    host.do("systemd-run --quiet --unit=three python3 /root/hook.py 8103 /root/three.log")
    table = '\n[[notify.destination]]\nname = "team"\nurl_credential = "team"\non = ["APPROVED"]\n'
    credential = host.root / "etc/modelwarden/credentials/team"
    try:
        (host.root / CONFIG).write_text(settings + table)
        credential.write_text("json://127.0.0.1:8101/\n")
        credential.chmod(0o600)
        drop_in(host, "modelwarden-courier", "[Service]\nLoadCredential=team:/etc/modelwarden/credentials/team")
        host.do("systemctl reload modelwarden; systemctl restart modelwarden-courier")
        until(lambda: "team" in host.say("journalctl -u modelwarden-courier -n 3 -o cat"), "the courier", 30)
        course = [0.5, 0.6, 0.7, 0.8, 0.9]
        leave(host, models={"AAPL": {**GOOD, "fitness_history": [*course, GOOD["final_fitness"]]}})
        first = host.root / "root/one.log"
        until(lambda: first.exists() and first.read_bytes().endswith(b"\n"), "the message", 60)
        message = json.loads(first.read_bytes().splitlines()[0])
        assert message["title"].startswith("APPROVED 1")
        assert [each["filename"].rpartition(".")[2] for each in message["attachments"]] == ["png"], "the plot"
        credential.write_text("json://127.0.0.1:8102/\n")
        host.do("systemctl restart modelwarden-courier")
        leave(host)
        second = host.root / "root/two.log"
        until(lambda: second.exists() and second.read_bytes().endswith(b"\n"), "the next message", 60)
        assert len(first.read_bytes().splitlines()) == 1
        credential.unlink()  # from now on it lies there encrypted alone, as the README has it
        host.do(f"echo json://127.0.0.1:8103/ | systemd-creds encrypt --name=team - /{ENCRYPTED}")
        assert b"8103" not in (host.root / ENCRYPTED).read_bytes()
        unit = f"[Service]\nLoadCredential=\nLoadCredentialEncrypted=team:/{ENCRYPTED}"
        drop_in(host, "modelwarden-courier", unit)
        host.do("systemctl restart modelwarden-courier")
        leave(host)
        third = host.root / "root/three.log"
        until(lambda: third.exists() and third.read_bytes().endswith(b"\n"), "the message by the encrypted one", 60)
    finally:
        (host.root / CONFIG).write_text(settings)
        host.do("rm -r /run/systemd/system/modelwarden-courier.service.d; systemctl daemon-reload")
        host.do("systemctl reload modelwarden; systemctl restart modelwarden-courier; systemctl stop one two three")


def test_readmes_line_tries_a_destination_with_its_credential(host: BootedHost) -> None:
    """As the service's user, who can't read the file itself; the settings are checked in the same way."""
    text = (host.root / "src" / "systemd" / "README.md").read_text()
    block = re.search(r"^systemd-run .*?(?=^```)", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    settings = (host.root / CONFIG).read_text()
    credential = host.root / "etc/modelwarden/credentials/team"
    host.do("systemd-run --quiet --unit=tried python3 /root/hook.py 8103 /root/tried.log")
    try:
        table = '\n[[notify.destination]]\nname = "team"\nurl_credential = "team"\non = ["APPROVED"]\n'
        (host.root / CONFIG).write_text(settings + table)
        credential.write_text("json://127.0.0.1:8103/\n")
        credential.chmod(0o600)
        checked = host.do(block[0].replace("notify-test team", "config check"))
        assert f"/{CONFIG}: right" in checked
        until(lambda: host.run("exec 3<>/dev/tcp/127.0.0.1/8103").returncode == 0, "the hook", 30)
        assert "team: sent" in host.do(block[0])
        assert (host.root / "root/tried.log").read_bytes().count(b"\n") == 1
        assert host.run(f"/opt/modelwarden/bin/modelwarden config check /{CONFIG}").returncode == 2
    finally:
        (host.root / CONFIG).write_text(settings)
        host.do("systemctl stop tried")


ASKING = """
import socket, sys
kind, at = sys.argv[1:3]
with socket.socket(getattr(socket, kind)) as caller:
    caller.connect(at if kind == "AF_UNIX" else ("127.0.0.1", int(at)))
    caller.sendall(b"GET %s HTTP/1.0\\r\\n\\r\\n" % sys.argv[3].encode())
    print(caller.makefile().read())
"""


def answers(host: BootedHost, command: str) -> bool:
    """Whether what is asked says that it is well."""
    return "well" in host.say(command)


def test_metrics_are_told_if_they_are_asked_for(host: BootedHost) -> None:
    """By the units as they are: in a file that others read, on loopback, and at a socket for the service's group."""
    settings = (host.root / CONFIG).read_text()
    file, sock = "/run/modelwarden/modelwarden.prom", "/run/modelwarden-courier/metrics.sock"
    hook = '\n[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:9/x"\non = ["APPROVED"]\n'
    (host.root / "root" / "ask.py").write_text(ASKING)
    host.do("cp /root/ask.py /opt/ask.py; chmod 644 /opt/ask.py")
    host.do("cd /src; /opt/modelwarden/bin/pip install -q '.[plots,metrics]'", seconds=300)
    ways = {"127.0.0.1:9464": "AF_INET 9464", f"unix:{sock}": f"AF_UNIX {sock}"}
    try:
        for listen, way in ways.items():
            table = f'\n[metrics]\nfile = "{file}"\nlisten = "{listen}"\n'
            (host.root / CONFIG).write_text(settings + hook + table)
            host.do("systemctl restart modelwarden modelwarden-courier")
            ask = f"python3 /opt/ask.py {way}"
            until(partial(answers, host, f"{ask} /healthz"), "the courier's answer", 30)
            assert 'process="courier"' in host.do(f"{ask} /metrics")
        assert host.run(f"python3 /opt/ask.py AF_UNIX {sock} /metrics", user="alice").returncode != 0
        is_archived(host, leave(host))
        counted = 'outcome="archived",process="daemon"} 1.0'
        until(lambda: counted in host.do(f"cat {file}", user="alice"), "the count", 30)
        host.do("systemctl stop modelwarden")
        assert host.run(f"test -e {file}").returncode != 0
    finally:
        (host.root / CONFIG).write_text(settings)
        host.do("systemctl restart modelwarden modelwarden-courier")


def test_watcher_has_no_network_and_writes_nowhere_else(host: BootedHost) -> None:
    """Seen from its own namespaces, with its own rights."""
    inside = "nsenter --target $(systemctl show modelwarden --property=MainPID --value) --mount --net --"
    as_it = "setpriv --reuid=modelwarden --regid=modelwarden --clear-groups"
    for path in ("/etc/x", "/opt/modelwarden/x", "/usr/x", "/home/x", "/root/x"):
        assert host.run(f"{inside} {as_it} touch {path}").returncode != 0, path
    assert (
        host.run(f"{inside} {as_it} touch /srv/modelwarden/archives/.x && rm /srv/modelwarden/archives/.x").returncode
        == 0
    )
    connect = "import socket; socket.create_connection(('127.0.0.1', 22), 1)"
    assert "Network is unreachable" in host.run(f'{inside} python3 -c "{connect}"').stderr


def test_full_disk_holds_up_no_boot(host: BootedHost) -> None:
    """The service is ready, says what is wrong, and goes on once there is room."""
    host.do("mkdir -p /srv/modelwarden/full; mount -t tmpfs -o size=256k tmpfs /srv/modelwarden/full")
    try:
        host.do(
            "cd /srv/modelwarden/full; install -d -o modelwarden incoming archives; "
            "head -c 1M /dev/zero > stone || true; "
            "sed 's#/srv/modelwarden/#/srv/modelwarden/full/#; s#/var/lib/modelwarden#/var/lib/modelwarden/full#' "
            "/src/systemd/config.toml > /etc/modelwarden/full.toml; "
            "timeout 30 systemctl start modelwarden@full"
        )
        assert host.say("systemctl is-active modelwarden@full") == "active"
        assert "waiting" in host.shows("modelwarden@full", "StatusText")
        host.do("rm /srv/modelwarden/full/stone")
        until(lambda: "watching" in host.shows("modelwarden@full", "StatusText"), "room", 60)
        summary = encoded(flat_summary({"AAPL": GOOD}))
        made_by_trainer(host, "x.json", summary)
        host.do("cp /opt/made/x.json /srv/modelwarden/full/incoming/x.json")
        until(lambda: host.say("ls -d /srv/modelwarden/full/archives/2*"), "the run", 30)
    finally:
        host.do("systemctl stop modelwarden@full; umount /srv/modelwarden/full")


def test_archive_and_state_of_the_version_before_go_on(host: BootedHost) -> None:
    """An upgrade on a host with 1,000 runs: the same index, nothing announced again, and the next run is archived."""
    place = host.root / "srv/modelwarden/old"
    with tarfile.open(ARCHIVE_OF_SCHEMA_1) as tar:
        tar.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    index = (place / "archive/index.json").read_bytes()
    try:
        host.do(
            "cd /srv/modelwarden/old; mv archive archives; mkdir incoming; mv state /var/lib/modelwarden/old; "
            "chown -R modelwarden: . /var/lib/modelwarden/old; "
            "sed 's#/srv/modelwarden/#/srv/modelwarden/old/#; s#/var/lib/modelwarden#/var/lib/modelwarden/old#' "
            "/src/systemd/config.toml > /etc/modelwarden/old.toml; "
            "systemctl start modelwarden@old"
        )
        until(lambda: "1000 runs archived" in host.shows("modelwarden@old", "StatusText"), "the old runs", 60)
        assert (place / "archives/index.json").read_bytes() == index
        reconciled = json.loads(host.do("journalctl -u modelwarden@old -o json MODELWARDEN_EVENT=reconciled | tail -1"))
        assert reconciled["MODELWARDEN_MESSAGES_OWED"] == "0"
        made_by_trainer(host, "next.json", encoded(flat_summary({"AAPL": GOOD})))
        host.do("cp /opt/made/next.json /srv/modelwarden/old/incoming/next.json")
        until(lambda: "1001 runs archived" in host.shows("modelwarden@old", "StatusText"), "the next run", 60)
    finally:
        host.do("systemctl stop modelwarden@old")


def test_member_of_the_group_may_ask_and_root_may_not_write(host: BootedHost) -> None:
    """Questions need no right to write; a command that writes tells root who may, and leaves nothing of root's."""
    is_archived(host, leave(host))
    host.do("id carol || useradd --create-home --groups modelwarden carol")
    command, config = "/opt/modelwarden/bin/modelwarden", f"--config /{CONFIG}"
    for question in ("runs", "show", "approved", "history AAPL", "show --report"):
        assert host.do(f"{command} {question} {config}", user="carol"), question
    for words in ("run --once", "reindex", "verify", "adopt", "outbox retry", "courier --drain"):
        done = host.run(f"{command} {words} {config}")
        assert done.returncode == 2, words
        assert "belongs to modelwarden" in done.stderr, words
    others = "find /srv/modelwarden/archives /var/lib/modelwarden ! -user modelwarden"
    assert host.do(others) == ""


def test_removed_service_leaves_what_it_kept_and_comes_back(host: BootedHost) -> None:
    """`service remove` stops both units and takes away what install wrote; installed again, it goes on as before."""
    is_archived(host, leave(host))
    before, index = (host.root / CONFIG).read_bytes(), (host.root / ARCHIVES / "index.json").read_bytes()
    command = "/opt/modelwarden/bin/modelwarden"
    again = host.do(f"{command} service install")
    assert "nothing to do: all is as it must be" in again
    places = "s#/srv/modelwarden/#/srv/modelwarden/extra/#; s#/var/lib/modelwarden#/var/lib/modelwarden/extra#"
    host.do(f"cd /etc/modelwarden; sed '{places}' config.toml > extra.toml")
    host.do("install -d -o modelwarden /srv/modelwarden/extra; systemctl enable --now modelwarden-courier@extra")
    try:
        said = host.do(f"{command} service remove")
        assert said.count("removed ") == 6, said
        for unit in ("modelwarden", "modelwarden-courier", "modelwarden-courier@extra"):
            assert host.say(f"systemctl is-active {unit}") != "active", unit
        assert host.do("find /etc/systemd /etc/sysusers.d /etc/tmpfiles.d -name '*modelwarden*'") == ""
        assert host.do("systemctl --failed --no-legend --plain") == ""
        assert (host.root / CONFIG).read_bytes() == before
        assert (host.root / ARCHIVES / "index.json").read_bytes() == index
        assert host.do("ls /var/lib/modelwarden/modelwarden.sqlite; id modelwarden")
        name = leave(host)  # the shared folder is there all the same
        assert "wrote " in host.do(f"{command} service install; systemctl enable --now modelwarden modelwarden-courier")
        is_archived(host, name)
    finally:
        host.run("rm -f /etc/modelwarden/extra.toml; rm -rf /srv/modelwarden/extra")
    assert host.do(f"stat -c '%U:%G %a' /{CONFIG}") == "root:modelwarden 640"


def test_reboot_changes_nothing(host: BootedHost) -> None:
    """Both units are back, and the archive is what it was."""
    is_archived(host, leave(host))
    index = (host.root / ARCHIVES / "index.json").read_bytes()
    host.reboot()
    until(lambda: "watching" in host.shows("modelwarden", "StatusText"), "the service", 60)
    assert host.say("systemctl is-active modelwarden-courier") == "active"
    assert (host.root / ARCHIVES / "index.json").read_bytes() == index
    is_archived(host, leave(host))


def test_user_without_root_runs_it(host: BootedHost) -> None:
    """By `systemctl --user`, as the README says."""
    text = (host.root / "src" / "systemd" / "README.md").read_text()
    block = re.search(r"## Without root\n\n```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    host.do("loginctl enable-linger bob; usermod -aG modelwarden-drop bob; chmod -R a+rX /src")
    until(lambda: host.say("ls -d /run/user/$(id -u bob)/systemd/private"), "bob's systemd", 30)
    host.do("cp -r /src /home/bob/src; chown -R bob: /home/bob/src; apt-get install -y -qq python3-venv >/dev/null")
    settings = 'archive_dir = "/home/bob/archive"\\n[[watch]]\\npath = "/home/bob/out"\\ncreate = true\\n'
    ours = f"printf '{settings}' > ~/.config/modelwarden/config.toml\n"
    lines = block[1].replace("systemctl --user enable", ours + "systemctl --user enable")
    environment = "export HOME=/home/bob XDG_RUNTIME_DIR=/run/user/$(id -u); umask 022; cd ~/src"
    host.do(f"{environment}\n{lines}", user="bob", seconds=300)
    (host.root / "home/bob/out").mkdir(exist_ok=True)
    made_by_trainer(host, "y.json", encoded(flat_summary({"AAPL": GOOD})))
    host.do("cp /opt/made/y.json /home/bob/out/y.json", user="bob")
    until(lambda: host.say("ls -d /home/bob/archive/2*"), "the run", 60)
