"""Which system calls a confined worker may make: rules in, a BPF program out, and its installation.

What is refused is what leads out of the process: other processes, the network, the machine. Files are
Landlock's. Calls newer than this table do not exist for the worker, so that libraries take their older way.
The kernel's seccomp_filter.rst says what a program looks like.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import TYPE_CHECKING

from pyrepl3.isolate.confine import landlock
from pyrepl3.isolate.confine.calls import NEWEST, NUMBERS
from pyrepl3.isolate.confine.system import AUDIT_ARCH, syscall

if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOW = 0x7FFF0000
KILL = 0x80000000  # the whole process
_ERRNO = 0x00050000


def refuse(error: int) -> int:
    """The answer that makes a call fail with ``error``; 0: nothing happens, and it succeeds."""
    return _ERRNO | error


GONE = refuse(errno.ENOSYS)
DENIED = refuse(errno.EACCES)
UNSUPPORTED = refuse(errno.EOPNOTSUPP)
FORBIDDEN = refuse(errno.EPERM)
IGNORED = refuse(0)

# --- what is answered to what ---------------------------------------------------------------------

_OUTRIGHT: dict[int, str] = {
    GONE: (
        "io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret clone3 "
        "pidfd_open pidfd_getfd"
    ),
    # A program that says who may read a file it has made goes on; nobody else is to read it anyway.
    IGNORED: (
        "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat"
    ),
    # Attributes go by path, and no version of Landlock looks at them. Copying programs take this answer.
    UNSUPPORTED: (
        "setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr "
        "removexattr lremovexattr fremovexattr"
    ),
    # What is shared by number, too: the numbers of others can be guessed.
    DENIED: (
        "socket connect bind listen accept accept4 shmget shmat shmctl semget semop semtimedop semctl "
        "msgget msgsnd msgrcv msgctl mq_open mq_unlink"
    ),
    FORBIDDEN: (
        "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp "
        "tkill pidfd_send_signal unshare setns setpgid setsid personality "
        "mount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick pivot_root "
        "chroot statmount listmount quotactl quotactl_fd swapon swapoff acct sysfs "
        "open_by_handle_at name_to_handle_at fanotify_init fanotify_mark lookup_dcookie "
        "init_module finit_module delete_module kexec_load kexec_file_load reboot bpf seccomp "
        "perf_event_open add_key request_key keyctl lsm_set_self_attr iopl ioperm modify_ldt vhangup "
        "syslog settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname "
        "migrate_pages move_pages ioprio_set vmsplice "
        "inotify_init inotify_init1"  # would tell what others do with files that it cannot open
    ),
}

_TRUNCATION, _SCOPES = 3, 6  # versions of Landlock that hold this, and signals
_O_TRUNC, _O_ACCMODE = 0o1000, 3
_THREAD = 0x00010000  # CLONE_THREAD
_NAMESPACES = 0x7E020000  # CLONE_NEW…, all that clone takes
_UNIX, _STREAM, _KIND = 1, 1, 0xF
# PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER
_PRCTLS = (1, 4, 22, 35, 62, 0x59616D61)
_IOCTLS = (
    0x5412,
    0x541C,
    0x5423,
)  # TIOCSTI, TIOCLINUX, TIOCSETD: typing into a terminal, and the like
# All of sockets: signals to others (FIOSETOWN, SIOCSPGRP), and what interfaces and addresses the host has,
# which the pipe to it would tell.
_OF_SOCKETS, _TYPE = 0x8900, 0xFF00
_FCNTLS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: the same by files
_OF_ITSELF = (  # the first argument is a process, 0 the caller
    "prlimit64 sched_setaffinity sched_setscheduler sched_setparam sched_setattr"
)

# --- BPF --------------------------------------------------------------------------------------------

_LOAD, _JUMP_EQUAL, _JUMP_MORE, _JUMP_ANY, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000

type _Line = tuple[int, int, int, int]
"""code, jump if true, jump if false (lines to skip), operand."""


def _answer(value: int) -> _Line:
    return _RETURN, 0, 0, value


def _argument(index: int) -> _Line:
    """Load the low half of an argument: what is looked at here is an int to the kernel."""
    return _LOAD, 0, 0, _ARGS + 8 * index


def _one_of(index: int, values: tuple[int, ...], then: int, otherwise: int) -> list[_Line]:
    lines = [_argument(index)]
    for at, value in enumerate(values):
        lines.append((_JUMP_EQUAL, len(values) - at, 0, value))
    return [*lines, _answer(otherwise), _answer(then)]


def _own(index: int, pid: int) -> list[_Line]:
    """Only where the argument is this process."""
    return _one_of(index, (pid,), ALLOW, FORBIDDEN)


def _own_or_none(index: int, pid: int) -> list[_Line]:
    """Only where it is this process, or 0, which means the caller."""
    return _one_of(index, (0, pid), ALLOW, FORBIDDEN)


def _no_cutting_to_read(index: int) -> list[_Line]:
    """Flags of open: none that cuts a file short and opens it to read, for which Landlock wants no more."""
    return [
        _argument(index),
        (_JUMP_ANY, 0, 4, _O_TRUNC),
        (_AND, 0, 0, _O_ACCMODE),
        (_JUMP_EQUAL, 2, 0, 1),
        (_JUMP_EQUAL, 1, 0, 2),
        _answer(FORBIDDEN),
        _answer(ALLOW),
    ]


def rules(machine: str, pid: int, *, subprocesses: bool, abi: int) -> Mapping[int, list[_Line]]:
    """Number of a call to the lines that answer it. What is not in it is allowed.

    ``subprocesses``: programs may be started, and signalled: by whom then is Landlock's to say. ``abi`` is
    the version of that: what an early one does not hold is refused here.
    """
    numbers = NUMBERS[machine]
    found: dict[int, list[_Line]] = {}
    for answer, names in _OUTRIGHT.items():
        for name in names.split():
            if name in numbers:
                found[numbers[name]] = [_answer(answer)]

    def add(name: str, lines: list[_Line]) -> None:
        if name in numbers:
            found[numbers[name]] = lines

    add(
        "socketpair",  # of streams: a datagram may name another receiver
        [
            _argument(0),
            (_JUMP_EQUAL, 0, 3, _UNIX),
            _argument(1),
            (_AND, 0, 0, _KIND),
            (_JUMP_EQUAL, 1, 0, _STREAM),
            _answer(DENIED),
            _answer(ALLOW),
        ],
    )
    add("prctl", _one_of(0, _PRCTLS, FORBIDDEN, ALLOW))
    add(
        "ioctl",
        [
            _argument(1),
            *((_JUMP_EQUAL, 4 - at, 0, value) for at, value in enumerate(_IOCTLS)),
            (_AND, 0, 0, _TYPE),
            (_JUMP_EQUAL, 0, 1, _OF_SOCKETS),
            _answer(FORBIDDEN),
            _answer(ALLOW),
        ],
    )
    add("fcntl", _one_of(1, _FCNTLS, FORBIDDEN, ALLOW))
    add(  # of a process, this one: 0 is also a user, and all that runs as that
        "setpriority",
        [_argument(0), (_JUMP_EQUAL, 1, 0, 0), _answer(FORBIDDEN), *_own_or_none(1, pid)],
    )
    for name in _OF_ITSELF.split():
        add(name, _own_or_none(0, pid))
    if abi < _TRUNCATION:
        add("truncate", [_answer(FORBIDDEN)])
        add("openat2", [_answer(GONE)])  # its flags are in memory, where no filter looks
        for name, index in (("open", 1), ("openat", 2)):
            add(name, _no_cutting_to_read(index))
    if subprocesses:
        namespaces = [_argument(0), (_JUMP_ANY, 0, 1, _NAMESPACES), _answer(FORBIDDEN)]
        add("clone", [*namespaces, _answer(ALLOW)])
    else:
        add("clone", [_argument(0), (_JUMP_ANY, 1, 0, _THREAD), _answer(DENIED), _answer(ALLOW)])
        for name in ("fork", "vfork", "execve", "execveat"):
            add(name, [_answer(DENIED)])
    if not subprocesses or abi < _SCOPES:
        for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            add(name, _own(0, pid))
    return found


def may_signal_children() -> bool:
    """Whether a worker that may start programs may end them, too."""
    return landlock.version() >= _SCOPES


def program(machine: str, pid: int, *, subprocesses: bool = False, abi: int = _SCOPES) -> bytes:
    """The filter for a process of this pid, as an array of struct sock_filter.

    A call by another architecture's convention ends the process. Raises KeyError for another machine.
    """
    lines: list[_Line] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        _answer(KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_MORE, 0, 1, NEWEST),  # x32's too: they have bit 30 set
        _answer(GONE),
    ]
    for number, then in sorted(rules(machine, pid, subprocesses=subprocesses, abi=abi).items()):
        lines += [(_JUMP_EQUAL, 0, len(then), number), *then]
    lines.append(_answer(ALLOW))
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


_FILTER, _TSYNC = 1, 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(machine: str, filter_: bytes) -> None:
    """Put this process, with all its threads, under a filter for ever. Raises OSError."""
    prog = _Program(len(filter_) // 8, filter_)
    if syscall(NUMBERS[machine]["seccomp"], _FILTER, _TSYNC, ctypes.byref(prog)):
        raise OSError(errno.ESRCH, "a thread could not be put under the filter")
