"""Shows what the system call filter says of a call, without the call being made.

A second filter, put on by this script, hands the calls to a thread of its own, which answers with an error that no call
gives. A refusal of the first filter takes precedence (seccomp(2): the highest of the answers counts), so whatever is
not refused shows as ``reaches the kernel``. Runs in the sandbox, and outside as the control. Prints one JSON object.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import struct
import sys
import threading

OURS = errno.ENOTNAM
RECEIVE, SEND = 0xC0502100, 0xC0182101
LIBC = ctypes.CDLL(None, use_errno=True)
SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def listen(numbers):
    """Put on the filter; gives back where the calls arrive (seccomp_unotify(2))."""
    steps = [(0x20, 0, 0, 0)]
    for number in sorted(numbers):
        steps += [(0x15, 0, 1, number), (0x06, 0, 0, 0x7FC00000)]
    steps.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in steps))
    if LIBC.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)
    descriptor = LIBC.syscall(SECCOMP, 1, 8, ctypes.byref(program))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return descriptor


def answer(ready, place):
    ready.wait()
    while True:
        call = bytearray(80)
        fcntl.ioctl(place[0], RECEIVE, call)
        fcntl.ioctl(
            place[0], SEND, bytearray(struct.pack("<Qqii", struct.unpack_from("<Q", call)[0], 0, -OURS, 0))
        )


def main():
    calls = json.loads(sys.argv[1])
    ready, place = threading.Event(), []
    # The thread is there before the filter, so it is not bound by it.
    threading.Thread(target=answer, args=(ready, place), daemon=True).start()
    place.append(listen({number & 0xFFFFFFFF for _, number, _ in calls}))
    ready.set()
    found = {}
    for name, number, arguments in calls:
        ctypes.set_errno(0)
        LIBC.syscall(ctypes.c_long(number), *[ctypes.c_ulong(one) for one in arguments])
        code = ctypes.get_errno()
        found[name] = "reaches the kernel" if code == OURS else errno.errorcode.get(code, str(code))
    os.write(1, json.dumps(found).encode())
    os._exit(0)


main()
