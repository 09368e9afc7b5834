"""Run one command in new user, mount, PID, UTS and IPC namespaces. Standard library only.

If `kept` is set, the command starts only if the files that it writes can stay in the scratch folder. If
`network` is "own", the command gets a new network namespace that has a loopback interface only. If `network`
is the process ID of another command's supervisor, the command joins that supervisor's network namespace.

`namespaces.py` starts this program with a file descriptor as its argument, and the result of `layout` and the
command as JSON on standard input. The program becomes three processes:

    supervisor   outside, known to the cloud: forwards SIGTERM, kills everything inside on SIGUSR1
    init         process 1 inside: builds the file system, forwards SIGTERM, reaps; if it ends, all inside end
    command      the container's first process

The supervisor's exit code is the command's; for a signal it is 128 plus the signal's number. If the command
cannot be started, the reason is written to the descriptor. If the command starts, the descriptor is closed
without output.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

NOT_STARTED = 125
"""Exit code if the command was not started, as with Docker."""

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_CAPABILITIES_VERSION = 0x20080522
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1

_KEPT_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
"""Numbers of the capabilities that Docker leaves a container by default (see capabilities(7) for the names).
CAP_SYS_ADMIN is not among them: with it the command could make its read-only mounts writable."""

FOLDERS = {"/dev": 0o755, "/proc": 0o555, "/root": 0o700, "/run": 0o755, "/tmp": 0o1777, "/var/tmp": 0o1777}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_STREAMS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library that returns -1 on failure. The OSError that it raises names the
    function."""
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        shown = ", ".join(each.decode() for each in arguments if isinstance(each, bytes))
        raise OSError(number, f"{name}({shown}): {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def _read_only(target: str) -> None:
    """Make a mount and everything mounted below it read-only."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY)
    _call("syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, 32)


# Supervisor


def main() -> None:
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    space = json.load(sys.stdin)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Block the signals, so that they are handled only by sigwait
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP}
    )
    user, group = os.getuid(), os.getgid()
    lifeline, held = os.pipe()  # shows init whether the supervisor still runs
    try:
        network = space.get("network")
        if isinstance(network, int):
            _join(network)
        else:
            _call("unshare", _CLONE_NEWUSER | (_CLONE_NEWNET if network == "own" else 0))
            maps = {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}
            for name, text in maps.items():
                _write(f"/proc/self/{name}", text)
        if network == "own":
            _loopback_up()
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWUTS | _CLONE_NEWIPC)
        init = os.fork()
    except OSError as error:
        _fail(report, error)
    if init == 0:
        os.close(held)
        _guarded(report, lambda: _init(space, report, lifeline, before))
    os.close(report)
    os.close(lifeline)
    handle = os.pidfd_open(init)
    while True:
        number = signal.sigwait({signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
        if number == signal.SIGCHLD:
            # The kernel reports init's end only after everything inside has ended
            ended, status = os.waitpid(init, os.WNOHANG)
            if ended:
                os._exit(_exit_code(status))
        else:
            told = signal.SIGTERM if number == signal.SIGTERM else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, told)


def _join(process: int) -> None:
    """Enter the user and network namespaces of another supervisor of this user."""
    kinds = {"user": _CLONE_NEWUSER, "net": _CLONE_NEWNET}
    opened = [(os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY), kind) for name, kind in kinds.items()]
    for descriptor, kind in opened:
        _call("setns", descriptor, kind)
        os.close(descriptor)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as interface:
        request = struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(interface, _SIOCSIFFLAGS, request)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _fail(report: int, error: BaseException) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(report, str(error).encode()[:4_000] or type(error).__name__.encode())
    os._exit(NOT_STARTED)


def _guarded(report: int, work: Callable[[], NoReturn]) -> NoReturn:
    """Run `work` in a forked process and report any exception. Never returns to the caller's code."""
    try:
        work()
    except BaseException as error:
        _fail(report, error)


# Process 1


def _init(space: dict[str, Any], report: int, lifeline: int, before: Iterable[int]) -> NoReturn:
    os.setsid()  # leaves the process group of the supervisor
    _build(space)
    _drop_capabilities()
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    watched = select.poll()
    watched.register(lifeline, 0)
    if watched.poll(0):  # the supervisor ended before PR_SET_PDEATHSIG was set
        os._exit(NOT_STARTED)
    first = os.fork()
    if first == 0:
        _guarded(report, lambda: _run(space, before))
    os.close(report)
    for descriptor in (0, 1, 2):  # so that the output ends with the command's processes
        os.close(descriptor)
    while True:
        if signal.sigwait({signal.SIGTERM, signal.SIGCHLD}) == signal.SIGTERM:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGTERM)
            continue
        with contextlib.suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if not ended:
                    break
                if ended == first:
                    os._exit(_exit_code(status))


def _run(space: dict[str, Any], before: Iterable[int]) -> NoReturn:
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python set them to be ignored
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.umask(0o022)
    os.makedirs(space["directory"], exist_ok=True)
    os.chdir(space["directory"])
    command, environment = space["command"], space["environment"]
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606
    except FileNotFoundError:
        raise FileNotFoundError(f"no program {command[0]}") from None
    except OSError as error:
        raise OSError(f"a program {command[0]} that cannot be run: {error.strerror}") from None


def _drop_capabilities() -> None:
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    for capability in range(last + 1):
        if capability not in _KEPT_CAPABILITIES:
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    kept = sum(1 << capability for capability in _KEPT_CAPABILITIES)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable, twice
    _call("capset", header, data)


# File system


def _build(space: dict[str, Any]) -> None:
    """Mount the container's files as the root of this mount namespace. Nothing else stays visible."""
    os.umask(0o022)
    name = space["name"].encode()
    _call("sethostname", name, ctypes.c_size_t(len(name)))
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    try:
        root = _layers(space)
    except OSError:  # the scratch folder's file system may not support overlays: use memory
        if space.get("kept"):
            raise
        _mount("tmpfs", space["scratch"], "tmpfs", _MS_NOSUID | _MS_NODEV)
        root = _layers(space)
    for source, path, writable in space["binds"]:
        _mount(source, root + path, flags=_MS_BIND | _MS_REC)
        if not writable:
            _read_only(root + path)
    _devices(root + "/dev")
    _mount("proc", root + "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    # As with Docker, no user namespaces inside, in which a process would have every capability again
    _write(f"{root}/proc/sys/user/max_user_namespaces", "0")
    # Make the kernel's settings read-only, even if the cloud's owner is root
    for entry in os.scandir(root + "/proc"):
        own = entry.name.isdigit() or entry.is_symlink()
        if not own and (entry.is_dir() or entry.stat().st_mode & 0o222):
            _mount(entry.path, entry.path, flags=_MS_BIND | _MS_REC)
            _read_only(entry.path)
    os.chdir(root)
    _call("syscall", _pivot_root(), b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def _layers(space: dict[str, Any]) -> str:
    """Mount the overlays, each below its parent, and return the path of the new root.

    Files and links in `space` are written to the upper layers before the overlays are mounted. Later, writes
    would fail in folders whose owner this user namespace does not map.
    """
    scratch, overlays = space["scratch"], dict(space["overlays"])

    def upper(path: str) -> str:
        """Return the path in the upper layer of a path in the new root."""
        over = path
        while over not in overlays or over == path != "/":
            over = os.path.dirname(over)
        return f"{layer(scratch, over)}/upper/{os.path.relpath(path, over)}"

    for path in overlays:
        for part in ("upper", "work", "none"):
            os.makedirs(f"{layer(scratch, path)}/{part}")
        if path != "/":
            os.makedirs(upper(path), exist_ok=True)
    for path, mode in FOLDERS.items():
        os.makedirs(upper(path), exist_ok=True)
        os.chmod(upper(path), mode)
    for source, path, _ in space["binds"]:
        if os.path.isdir(source):
            os.makedirs(upper(path), exist_ok=True)
        else:
            _write(upper(path), "")
    for path, text in space["files"].items():
        _write(upper(path), text)
    for path, target in space["links"].items():
        os.makedirs(os.path.dirname(upper(path)), exist_ok=True)
        os.symlink(target, upper(path))
    root = scratch + "/root"
    os.mkdir(root)
    for path, lower in overlays.items():
        _overlay(layer(scratch, path), lower, root + path.rstrip("/"))
    return root


def layer(scratch: str, path: str) -> str:
    """Return the folder with the upper layer of the overlay at `path`."""
    return f"{scratch}/{path.strip('/').replace('/', '-') or 'top'}"


def _overlay(scratch: str, lower: list[str], target: str) -> None:
    # Refer to layers by descriptors: paths may contain the option's separators, or be too long together
    with contextlib.ExitStack() as stack:

        def handle(folder: str) -> str:
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            return f"/proc/self/fd/{descriptor}"

        upper, work = handle(scratch + "/upper"), handle(scratch + "/work")
        lowers = ":".join(handle(each) for each in lower or [scratch + "/none"])
        data = f"userxattr,lowerdir={lowers},upperdir={upper},workdir={work}"
        _mount("overlay", target, "overlay", _MS_NOSUID | _MS_NODEV, data)


def _devices(folder: str) -> None:
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            _write(f"{folder}/{name}", "")
            _mount(f"/dev/{name}", f"{folder}/{name}", flags=_MS_BIND)
    for name, descriptor in _STREAMS.items():
        os.symlink(f"/proc/self/fd{descriptor}", f"{folder}/{name}")
    os.mkdir(f"{folder}/shm")
    _mount("shm", f"{folder}/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    os.mkdir(f"{folder}/pts")
    _mount("devpts", f"{folder}/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", f"{folder}/ptmx")
    os.mkdir(f"{folder}/mqueue")
    _mount("mqueue", f"{folder}/mqueue", "mqueue", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _pivot_root() -> int:
    """Return the number of the system call pivot_root, for which the C library has no function."""
    return {"x86_64": 155}.get(os.uname().machine, 41)  # 41 on arm64 and riscv64


def _read(path: str) -> str:
    with open(path) as stream:
        return stream.read()


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as stream:
        stream.write(text)


if __name__ == "__main__":
    main()
