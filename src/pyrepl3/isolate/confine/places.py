"""Which files a confined worker needs: this interpreter in, paths to read and to write out."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.config import Policy

# What programs read of a system that says nothing of its people. Neither /etc nor /proc as a whole, and
# of certificates none of the keys beside them.
_SYSTEM = (
    "/usr /lib /lib32 /lib64 /bin /sbin /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d "
    "/etc/localtime /etc/timezone /etc/mime.types /etc/ssl/certs /etc/ssl/cert.pem "
    "/etc/ssl/openssl.cnf /etc/pki/tls/certs /etc/pki/ca-trust/extracted /etc/fonts /etc/protocols "
    "/etc/services /proc/cpuinfo /proc/meminfo /proc/stat /proc/uptime /proc/loadavg /proc/version "
    "/proc/filesystems /proc/sys/kernel/osrelease /proc/sys/vm/overcommit_memory "
    "/sys/devices/system/cpu /sys/devices/system/node /sys/kernel/mm/transparent_hugepage "
    "/dev/random /dev/urandom"
)
_DEVICES = "/dev/null /dev/zero /dev/full"


def readable(policy: Policy) -> list[str]:
    """The interpreter, its packages, shared libraries, what the policy adds; not the rest of ``sys.path``.

    A folder of the caller's that stands there may hold anything: keys beside a script.
    """
    homes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    scheme = sysconfig.get_paths()
    homes |= {scheme[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    packages = [path for path in sys.path if os.path.basename(path).endswith("-packages")]  # noqa: PTH119
    ours = os.path.dirname(sys.modules["pyrepl3"].__file__ or "")  # noqa: PTH120
    return [*_SYSTEM.split(), *sorted(homes - {"", "/"}), *packages, ours, *policy.read]


def writable(policy: Policy, workdir: str) -> list[str]:
    """The workdir, devices that keep nothing, what the policy adds."""
    return [*_DEVICES.split(), workdir, *policy.write]
