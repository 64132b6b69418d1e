"""`python lab/run/own_network.py WORDS`: Python with these words, in a network namespace of its own with loopback up.

Owns: the namespace. Does not own: who gets one (`measure.matrix`, the tests' workers). Run as a file and not as a
module, for it must neither import nor start a thread before it has left the machine's network: an unprivileged user
can't do it afterwards.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def unshare(flags: int) -> None:
    """`os.unshare`, which Python 3.11 lacks; raises OSError where the kernel refuses or is another one."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if call is None:
        raise OSError("this system has no network namespaces")
    if call(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def leave() -> None:
    """Into a new network, as the user one is: root as root, everybody else by a user namespace that maps only them."""
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack_from("16sh", asked)[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


if __name__ == "__main__":
    try:
        leave()
        raise_loopback()
    except OSError as error:
        sys.exit(str(error))
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
