"""What kind of file system a folder lies on, as far as it matters for a database.

SQLite's write-ahead log keeps its index in memory that all processes share, which a network file
system cannot offer; a rollback journal needs only locks. Where not even locks work, two machines
would write over each other.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/howtocorrupt.html section 2.1.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import psutil

#: File systems of other machines, or of the host of a virtual one.
_REMOTE = frozenset({
    "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2",
    "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav",
})  # fmt: skip

#: Object stores dressed up as folders: no locks, and a changed file is a new upload.
_OBJECTS = ("blobfuse", "gcsfuse", "goofys", "mountpoint-s3", "rclone", "s3fs")

#: Mount options that keep locks from other machines.
_DEAF = frozenset({"nolock", "nobrl", "local_lock=all", "local_lock=posix"})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a folder lies.

    Attributes
    ----------
    kind
        The system's name for the file system, empty when it is not known.
    remote
        It is a network's or otherwise shares no memory.
    lockless
        Locks do not reach other machines, or do not exist.
    """

    kind: str = ""
    remote: bool = False
    lockless: bool = False


def place_of(folder: Path) -> Place:
    """Return what `folder` lies on; a local disk where that cannot be found out."""
    try:
        mounts = psutil.disk_partitions(all=True)
        path = folder.resolve()
    except (OSError, psutil.Error, RuntimeError):
        return Place()
    if str(path).startswith("\\\\"):  # a Windows share by its own name
        return Place(kind="smb", remote=True)
    above = {str(each) for each in (path, *path.parents)}
    # Of two mounts on one folder the later covers the earlier.
    found = [mount for mount in mounts if mount.mountpoint in above]
    if not found:
        return Place()
    mount = max(enumerate(found), key=lambda each: (len(each[1].mountpoint), each[0]))[1]
    return judge(mount.fstype, mount.opts, mount.device)


def judge(kind: str, options: str, device: str = "") -> Place:
    """Return what a file system of this kind, mounted so, means for a database."""
    kind = kind.lower()
    said = set(options.lower().split(","))
    objects = any(name in f"{kind} {device.lower()}" for name in _OBJECTS)
    remote = kind in _REMOTE or kind.startswith("fuse") or "remote" in said or objects
    if kind in {"fuseblk", "fusectl"}:  # a local disk in a foreign format
        remote = False
    return Place(kind=kind, remote=remote, lockless=objects or (remote and bool(_DEAF & said)))
