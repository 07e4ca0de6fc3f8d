"""The filter of system calls, run line by line as the kernel runs it."""

from __future__ import annotations

import errno
import struct

import pytest

from pyrepl3.isolate.confine import seccomp
from pyrepl3.isolate.confine.calls import NEWEST, NUMBERS
from pyrepl3.isolate.confine.system import AUDIT_ARCH

PID = 4711
ALLOW, KILL = seccomp.ALLOW, seccomp.KILL
MACHINES = sorted(AUDIT_ARCH)


def run(program: bytes, arch: int, number: int, *args: int) -> int:
    """What the kernel answers: the few instructions that the programs use."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at, held = 0, 0
    while True:
        code, true, false, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                held = int.from_bytes(data[operand : operand + 4], "little")
            case 0x15:
                at += true if held == operand else false
            case 0x25:
                at += true if held > operand else false
            case 0x45:
                at += true if held & operand else false
            case 0x54:
                held &= operand
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


@pytest.fixture
def answer(machine):
    """Calls by name: the answer of the strict program, or of the one for programs."""

    def ask(name: str, *args: int, subprocesses: bool = False) -> int:
        program = seccomp.program(machine, PID, subprocesses=subprocesses)
        return run(program, AUDIT_ARCH[machine], NUMBERS[machine][name], *args)

    return ask


def test_the_program_is_one_that_the_kernel_takes(machine):
    program = seccomp.program(machine, PID)
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    assert 0 < len(lines) <= 4096
    for at, (code, true, false, _) in enumerate(lines):
        if code in (0x15, 0x25, 0x45):
            assert at + 1 + max(true, false) < len(lines)
    assert lines[-1][0] == 0x06


def test_no_two_names_have_one_number(machine):
    numbers = NUMBERS[machine]
    assert len(set(numbers.values())) == len(numbers)
    assert max(numbers.values()) <= NEWEST


@pytest.mark.parametrize("number", [0, 1, 3, 9, 10, 11])
def test_ordinary_calls_go_through(machine, number):
    named = set(NUMBERS[machine].values())
    if number not in named:
        assert run(seccomp.program(machine, PID), AUDIT_ARCH[machine], number) == ALLOW


@pytest.mark.parametrize("arch", [0x40000003, 0xC00000F3, 0])
def test_calls_by_another_convention_end_the_process(machine, arch):
    assert run(seccomp.program(machine, PID), arch, 1) == KILL


@pytest.mark.parametrize("number", [463, 1000, 0x40000000 | 59, 0xFFFFFFFF])
def test_what_is_newer_or_of_x32_does_not_exist(machine, number):
    program = seccomp.program(machine, PID)
    assert run(program, AUDIT_ARCH[machine], number) == seccomp.refuse(errno.ENOSYS)


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("socket", (2, 1, 0), errno.EACCES),
        ("socket", (1, 1, 0), errno.EACCES),
        ("connect", (3,), errno.EACCES),
        ("bind", (3,), errno.EACCES),
        ("socketpair", (1, 2), errno.EACCES),  # datagrams
        ("socketpair", (1, 5), errno.EACCES),
        ("socketpair", (2, 1), errno.EACCES),
        ("execve", (), errno.EACCES),
        ("execveat", (), errno.EACCES),
        ("clone", (17,), errno.EACCES),  # SIGCHLD: a fork
        ("clone", (0x10000000,), errno.EACCES),
        ("clone3", (), errno.ENOSYS),
        ("kill", (1, 9), errno.EPERM),
        ("kill", (0, 9), errno.EPERM),
        ("kill", (0xFFFFFFFF, 9), errno.EPERM),
        ("tgkill", (1, 1, 9), errno.EPERM),
        ("tkill", (PID, 9), errno.EPERM),
        ("rt_sigqueueinfo", (1,), errno.EPERM),
        ("pidfd_send_signal", (3,), errno.EPERM),
        ("ptrace", (), errno.EPERM),
        ("process_vm_writev", (), errno.EPERM),
        ("unshare", (0x10000000,), errno.EPERM),
        ("setns", (), errno.EPERM),
        ("bpf", (), errno.EPERM),
        ("io_uring_setup", (), errno.ENOSYS),
        ("memfd_create", (), errno.ENOSYS),
        ("prctl", (1, 0), errno.EPERM),  # PDEATHSIG
        ("ioctl", (0, 0x5412), errno.EPERM),  # TIOCSTI
        ("ioctl", (0, 0x5423), errno.EPERM),  # TIOCSETD
        ("ioctl", (0, 0x8901), errno.EPERM),  # FIOSETOWN
        ("ioctl", (0, 0x8912), errno.EPERM),  # SIOCGIFCONF
        ("fcntl", (3, 8, 1), errno.EPERM),  # F_SETOWN
        ("prlimit64", (1, 7), errno.EPERM),
        ("setpriority", (0, 1), errno.EPERM),
        ("seccomp", (1,), errno.EPERM),
        ("fchmodat", (), 0),
        ("utimensat", (), 0),
    ],
)
def test_what_leads_out_is_refused(answer, name, args, error):
    assert answer(name, *args) == seccomp.refuse(error)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("socketpair", (1, 1)),
        ("socketpair", (1, 1 | 0o2000000)),  # with CLOEXEC
        ("clone", (0x3D0F00,)),  # a thread, as libc makes one
        ("kill", (PID, 2)),
        ("tgkill", (PID, PID + 1, 6)),
        ("prctl", (15,)),  # a thread's name
        ("ioctl", (0, 0x5413)),
        ("ioctl", (0, 0x541B)),  # FIONREAD
        ("ioctl", (0, 0x5421)),  # FIONBIO
        ("fcntl", (3, 3)),
        ("prlimit64", (0, 7)),
        ("prlimit64", (PID, 7)),
        ("sched_setaffinity", (0,)),
    ],
)
def test_what_stays_inside_is_allowed(answer, name, args):
    assert answer(name, *args) == ALLOW


def test_where_programs_are_allowed_they_start_but_get_no_namespace(answer):
    assert answer("clone", 17, subprocesses=True) == ALLOW
    assert answer("execve", subprocesses=True) == ALLOW
    assert answer("clone", 17 | 0x10000000, subprocesses=True) == seccomp.refuse(errno.EPERM)
    assert answer("socket", 2, 1, 0, subprocesses=True) == seccomp.refuse(errno.EACCES)
    assert answer("unshare", subprocesses=True) == seccomp.refuse(errno.EPERM)


def test_the_upper_half_of_an_argument_hides_nothing(answer):
    high = 1 << 32
    assert answer("kill", high | 1, 9) == seccomp.refuse(errno.EPERM)
    assert answer("clone", high | 17) == seccomp.refuse(errno.EACCES)
    assert answer("socketpair", high | 1, high | 2) == seccomp.refuse(errno.EACCES)


def test_attributes_of_files_are_out_of_reach_since_landlock_does_not_hold_them(answer):
    for name in ("setxattr", "lsetxattr", "removexattr", "getxattr", "listxattr"):
        assert answer(name) == seccomp.refuse(errno.EOPNOTSUPP)


def test_shared_objects_cannot_be_guessed_by_their_number(answer):
    for name in ("shmget", "shmat", "shmctl", "semop", "semctl", "msgsnd", "msgrcv", "msgctl"):
        if name in NUMBERS["x86_64"]:
            assert answer(name) == seccomp.DENIED


def test_a_priority_is_set_for_itself_and_not_for_all_of_its_user(answer):
    process, group, user = 0, 1, 2
    assert answer("setpriority", process, 0, 5) == ALLOW
    assert answer("setpriority", process, PID, 5) == ALLOW
    assert answer("setpriority", process, PID + 1, 5) == seccomp.FORBIDDEN
    assert answer("setpriority", group, 0, 5) == seccomp.FORBIDDEN
    assert answer("setpriority", user, 0, 5) == seccomp.FORBIDDEN


def ask(machine, name, *args, **options):
    program = seccomp.program(machine, PID, **options)
    return run(program, AUDIT_ARCH[machine], NUMBERS[machine][name], *args)


def test_where_landlock_lets_files_be_cut_short_the_filter_does_not(machine):
    read, write, both, cut = 0, 1, 2, 0o1000
    for mode, expected in (
        (read, ALLOW),
        (read | cut, seccomp.FORBIDDEN),
        (write | cut, ALLOW),  # to write is Landlock's
        (both | cut, ALLOW),
        (3 | cut, seccomp.FORBIDDEN),
    ):
        assert ask(machine, "openat", 0, 0, mode, abi=2) == expected
        assert ask(machine, "openat", 0, 0, mode, abi=3) == ALLOW
    assert ask(machine, "truncate", abi=2) == seccomp.FORBIDDEN
    assert ask(machine, "truncate", abi=3) == ALLOW
    assert ask(machine, "openat2", abi=2) == seccomp.GONE


def test_where_landlock_does_not_hold_signals_programs_may_be_started_and_not_signalled(machine):
    for name in ("kill", "tgkill", "rt_sigqueueinfo"):
        assert ask(machine, name, PID + 1, 9, subprocesses=True, abi=6) == ALLOW
        assert ask(machine, name, PID + 1, 9, subprocesses=True, abi=5) == seccomp.FORBIDDEN
        assert ask(machine, name, PID, 9, subprocesses=True, abi=5) == ALLOW
