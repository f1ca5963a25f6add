"""File systems as a program may find them, in a mount namespace of its own."""

from __future__ import annotations

import ctypes
import os

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_RECURSIVE, _PRIVATE = 0x4000, 0x40000


def own_namespace() -> None:
    """Have mounts from now on be seen by this process and its children only.

    Raises
    ------
    OSError
        Where neither root may do that here, nor anybody.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if user == 0:
        _check(libc.unshare(_NEW_MOUNTS))
    else:
        _check(libc.unshare(_NEW_USER | _NEW_MOUNTS))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _check(libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))


def mount_tmpfs(folder: str, options: str) -> None:
    """Hide a folder behind an empty file system in memory; options as of mount(8)."""
    libc = ctypes.CDLL(None, use_errno=True)
    read_only = 1 if options == "ro" else 0
    data = None if read_only else options.encode()
    _check(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", read_only, data))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
