"""Paths as the system has them: shown in one line of text, and local or on a network as the kernel's mounts say."""

import io
from pathlib import Path

import pytest

from modelwarden import filesystems
from modelwarden.filesystems import doubt_of_locks, network_file_system, show_path


def mounts(*lines: str) -> bytes:
    """The text of mountinfo, from `mount point|type` (the point escaped as the kernel does)."""
    rows = [
        f"{20 + number} 1 0:{number} / {point} rw,relatime shared:{number} - {kind} source rw"
        for number, (point, kind) in enumerate(line.rsplit("|", 1) for line in lines)
    ]
    return "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape")


def see(monkeypatch: pytest.MonkeyPatch, table: bytes) -> None:
    """Let the kernel list these mounts."""
    monkeypatch.setattr(filesystems, "open", lambda *_: io.BytesIO(table), raising=False)


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "9p", "virtiofs", "fuse", "fuse.sshfs", "fuse.glusterfs"]
)
def test_path_on_a_network_mount_gives_its_type(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A shared file system is recognised, FUSE included: what is behind it can change without an event."""
    see(monkeypatch, mounts("/|ext4", f"/mnt/share|{kind}"))

    assert network_file_system("/mnt/share/runs") == kind


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"])
def test_path_on_a_local_mount_is_local(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A local disk is not mistaken for a network."""
    see(monkeypatch, mounts("/|nfs4", f"/mnt/disk|{kind}"))

    assert network_file_system("/mnt/disk/runs") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/share", "nfs4"),
        ("/mnt/share/a/b", "nfs4"),
        ("/mnt/share/scratch", None),
        ("/mnt/share/scratch/a", None),
        ("/mnt/share2", None),
        ("/mnt", None),
        ("/", None),
    ],
)
def test_nearest_mount_above_a_path_decides(monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None) -> None:
    """The deepest mount that holds the path counts, and `/mnt/share2` is not below `/mnt/share`."""
    see(monkeypatch, mounts("/|ext4", "/mnt/share/scratch|xfs", "/mnt/share|nfs4"))

    assert network_file_system(path) == kind


def test_last_mount_on_a_point_is_the_one_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted over another hides it."""
    see(monkeypatch, mounts("/|ext4", "/data|ext4", "/data|cifs"))

    assert network_file_system("/data/x") == "cifs"


@pytest.mark.parametrize(
    ("point", "path"),
    [
        (r"/mnt/our\040runs", "/mnt/our runs/x"),
        (r"/mnt/tab\011here", "/mnt/tab\there/x"),
        (r"/mnt/back\134slash", r"/mnt/back\slash/x"),
        (r"/mnt/back\134040", r"/mnt/back\040/x"),
        (r"/mnt/line\012break", "/mnt/line\nbreak/x"),
        (r"/mnt/hash\043", "/mnt/hash#/x"),
        ("/mnt/r\u00e9sultats", "/mnt/r\u00e9sultats/x"),
        ("/mnt/\udcff", "/mnt/\udcff/x"),
    ],
)
def test_escaped_mount_point_is_recognised(monkeypatch: pytest.MonkeyPatch, point: str, path: str) -> None:
    """Mount points with blanks, backslashes or bytes that are no UTF-8 count like any other."""
    see(monkeypatch, mounts("/|ext4", f"{point}|nfs4"))

    assert network_file_system(path) == "nfs4"


def test_path_that_is_not_there_yet_counts_by_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The archive's place is judged before the archive is made."""
    see(monkeypatch, mounts("/|ext4", f"{tmp_path.resolve()}|nfs"))

    assert network_file_system(str(tmp_path / "not" / "yet")) == "nfs"


def test_link_onto_a_network_counts_as_what_it_points_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A link in the home folder does not hide that the archive is elsewhere."""
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    see(monkeypatch, mounts("/|ext4", f"{tmp_path.resolve() / 'share'}|nfs"))

    assert network_file_system(str(tmp_path / "link" / "runs")) == "nfs"


def test_path_counts_as_local_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nothing breaks; the answer chooses a default and never whether a run is kept."""

    def refuse(*_: object) -> io.BytesIO:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(filesystems, "open", refuse, raising=False)

    assert network_file_system("/anywhere") is None


def test_real_mounts_of_this_machine_can_be_read(tmp_path: Path) -> None:
    """The kernel's own list is understood: a temporary folder has a type, or none at all."""
    kind = network_file_system(str(tmp_path))

    assert kind is None or kind


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/out/summary.json", "/out/summary.json"),
        ("/out/r\u00e9sum\u00e9 1.json", "/out/r\u00e9sum\u00e9 1.json"),
        ("/out/\udcff.json", "/out/\\xff.json"),
        ("/out/a\nb\x1b[31m.json", "/out/a\\u000ab\\u001b[31m.json"),
        ("/out/\u202egnp.json", "/out/\\u202egnp.json"),
    ],
)
def test_path_is_shown_as_one_line_that_any_terminal_can_hold(path: str, shown: str) -> None:
    """A name on disk is bytes: no line break, no escape and no turned direction reaches a log."""
    assert show_path(path) == shown
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("kind", "options", "doubt"),
    [
        ("ext4", "rw", None),
        ("nfs4", "rw,vers=4.2,local_lock=none", None),
        ("nfs", "rw,nolock,local_lock=none", "nfs mounted with nolock"),
        ("nfs", "rw,local_lock=all", "nfs mounted with local_lock=all"),
        ("nfs4", "rw,local_lock=flock", "nfs4 mounted with local_lock=flock"),
        ("lustre", "rw,flock", None),
        ("lustre", "rw,localflock", "lustre mounted without flock"),
        ("cifs", "rw", "cifs may keep locks to this host"),
        ("fuse.sshfs", "rw", "fuse.sshfs may keep locks to this host"),
        ("ceph", "rw", None),
    ],
)
def test_lock_that_other_hosts_may_not_see_is_doubted(
    monkeypatch: pytest.MonkeyPatch, kind: str, options: str, doubt: str | None
) -> None:
    """Two hosts that both believe to hold the lock would write over each other's index: it is said at start."""
    see(monkeypatch, mounts("/|ext4", f"/mnt/share|{kind}").replace(b"source rw", b"source " + options.encode()))

    assert doubt_of_locks("/mnt/share/runs") == doubt
