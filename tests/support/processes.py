"""Processes and ports of this machine, from /proc."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LISTENING = "0A"


def listening(pids: Iterable[int]) -> dict[tuple[Address, int], int]:
    """Return the listening (address, port) pairs of these processes, with a process id of each."""
    owners: dict[str, int] = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                owners[str(descriptor.readlink())] = pid
            except OSError:
                continue
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            owner = owners.get(f"socket:[{fields[9]}]")
            if fields[3] == LISTENING and owner is not None:
                address, _, port = fields[1].partition(":")
                found[_address(address), int(port, 16)] = owner
    return found


def _address(text: str) -> Address:
    """Convert an address of /proc/net/tcp: 4-byte words in the byte order of the machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def descendants(pid: int) -> set[int]:
    """Return the ids of a process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = {pid}, {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def processes(variable: str, value: str) -> list[int]:
    """Return the ids of processes with this environment variable.

    A variable identifies a container's processes, because a container in a PID namespace cannot report its
    process ids on this machine.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{variable}={value}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def ended(child: int) -> bool:
    """Return whether a process is a zombie without threads. Such a process has no open files."""
    leader = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return leader == "Z" and len(list(Path(f"/proc/{child}/task").iterdir())) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
