"""Runs a command under the system call filter and the other limits of a systemd unit.

`confined.py UNIT COMMAND...`: what systemd does for `SystemCallFilter`, `MemoryDenyWriteExecute`,
`NoNewPrivileges` and `CapabilityBoundingSet=`, without systemd.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE, _PR_CAPBSET_DROP = 38, 65, 24
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def main(unit: str, command: list[str]) -> None:
    text = Path(unit).read_text()
    allowed: set[str] = set()
    for sign, names in re.findall(r"^SystemCallFilter=(~?)(.*)$", text, re.M):
        found = {call for name in names.split() for call in _expanded(name)}
        allowed = allowed - found if sign else allowed | found
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(41):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if "MemoryDenyWriteExecute=yes" in text and libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0):
        sys.exit(
            f"this kernel cannot deny memory that is writable and executable: {ctypes.get_errno()}"
        )
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _load(allowed)
    os.execvp(command[0], command)  # noqa: S606 - this script's purpose


def _expanded(name: str) -> Iterator[str]:
    """Yields the system calls of a group of systemd, which may contain other groups."""
    if not name.startswith("@"):
        yield name
        return
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.splitlines()[1:]:
        if line.strip() and not line.strip().startswith("#"):
            yield from _expanded(line.strip())


def _load(allowed: set[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_rule_add.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint)
    ]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    rules = seccomp.seccomp_init(_ERRNO | errno.EPERM)
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(rules, _ALLOW, number, 0)
    if seccomp.seccomp_load(rules):
        sys.exit("the filter could not be loaded")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
