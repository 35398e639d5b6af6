"""The self-test's part that runs inside the sandbox, as a script of the system's own Python.

Attempts what must not work and what must, and prints a line for each surprise, then ``done``. Needs nothing but the
standard library of any Python 3, and is never imported by the product.
"""

import ctypes
import errno
import json
import os
import resource
import socket
import sys

PLACES = ("/", "/usr", "/etc", "/dev", "/home", "/proc/sys/kernel", "/var/tmp")


def expect(number, attempt):
    """The attempt must fail with this error number."""
    try:
        attempt()
    except OSError as error:
        if error.errno == number:
            return ""
        return "failed with %s" % errno.errorcode.get(error.errno, error.errno)
    return "succeeded"


def connect(family, address):
    """Try to reach a socket."""
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(5)
        one.connect(address)


def tcp_to_the_host(facts):
    return expect(errno.ECONNREFUSED, lambda: connect(socket.AF_INET, ("127.0.0.1", facts["port"])))


def socket_file_of_the_host(facts):
    return expect(errno.ENOENT, lambda: connect(socket.AF_UNIX, facts["socket"]))


def abstract_socket_of_the_host(facts):
    return expect(errno.ECONNREFUSED, lambda: connect(socket.AF_UNIX, "\0" + facts["abstract"]))


def other_kinds_of_socket(facts):
    for family in (40, 17, 38):  # VSOCK, PACKET, ALG
        problem = expect(
            errno.EAFNOSUPPORT, lambda family=family: socket.socket(family, socket.SOCK_STREAM).close()
        )
        if problem:
            return "family %d: %s" % (family, problem)
    return expect(
        errno.EPROTONOSUPPORT, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    )


def own_loopback(facts):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        connect(socket.AF_INET, server.getsockname())
    return ""


def file_of_the_host(facts):
    return expect(errno.ENOENT, lambda: os.open(facts["secret"], os.O_RDONLY))


def variables(facts):
    for place in ("/proc/self/environ", "/proc/1/environ"):
        with open(place, "rb") as file:
            names = {one.partition(b"=")[0].decode() for one in file.read().split(b"\0") if one}
        if names - set(facts["variables"]) - {"PWD"}:
            return "%s holds %s" % (place, sorted(names - set(facts["variables"])))
    return ""


def descriptors(facts):
    found = []
    for number in range(3, 1024):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return "open: %s" % found if found else ""


def kernel_settings(facts):
    if not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        return "/proc/sys is mounted writable"
    try:
        os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    except OSError:
        return ""
    return "core_pattern can be opened for writing"


def user_namespaces(facts):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) == 0:
        return "unshare(CLONE_NEWUSER) succeeded"
    return ""


def namespaces(facts):
    same = [
        name for name, link in facts["namespaces"].items() if os.readlink("/proc/self/ns/" + name) == link
    ]
    return "shared with the host: %s" % same if same else ""


def privileges(facts):
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    wanted = {"NoNewPrivs": "1", "Seccomp": "2"}
    wanted.update(dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), "0" * 16))
    wrong = sorted(name for name in wanted if status.get(name) != wanted[name])
    return "unexpected: %s" % wrong if wrong else ""


def read_only_root(facts):
    for place in PLACES:
        try:
            os.mkdir(os.path.join(place, "made-inside"))
        except OSError:
            continue
        return "%s can be written" % place
    return ""


def writable_tree(facts):
    for place in (".", "/tmp", os.environ["HOME"], "/dev/shm"):
        with open(os.path.join(place, "made-inside"), "w") as file:
            file.write("written")
    return ""


def limits(facts):
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        return "core files can be written"
    return (
        ""
        if resource.getrlimit(resource.RLIMIT_NPROC)[1] == facts["processes"]
        else "the number of processes"
    )


PROBES = (
    tcp_to_the_host,
    socket_file_of_the_host,
    abstract_socket_of_the_host,
    other_kinds_of_socket,
    own_loopback,
    file_of_the_host,
    variables,
    descriptors,
    kernel_settings,
    user_namespaces,
    namespaces,
    privileges,
    read_only_root,
    writable_tree,
    limits,
)


def main():
    facts = json.loads(sys.argv[1])
    for probe in PROBES:
        try:
            problem = probe(facts)
        except Exception as error:  # a surprise is a finding, whatever it is
            problem = "%s: %s" % (type(error).__name__, error)
        if problem:
            print("%s: %s" % (probe.__name__.replace("_", " "), problem))
    print("done")


main()
