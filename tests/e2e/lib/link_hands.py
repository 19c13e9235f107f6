#!/usr/bin/python3 -I
"""What stands in holdfast-link's place once it is taken over: the test's hands, with the link's user and descriptors.

Takes lists of attempts over HANDS/UID.sock, one JSON line each, and answers what became of them: "yes", or why not.
Copied under the name of the program by link_taken_over.py; imports nothing of the tests.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import threading

HANDS = "@HANDS@"
LIMIT = 5
_PTRACE_SEIZE = 0x4206
_PIDFD_GETFD = 438
_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def _connect(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        link = socket.socket(socket.AF_UNIX, kind)
        link.settimeout(LIMIT)
        try:
            link.connect(path)
            return link
        except OSError as error:
            link.close()
            if error.errno != errno.EPROTOTYPE:
                raise
    raise OSError(errno.EPROTOTYPE, path)


def connect(path):
    _connect(path).close()


def say(path, words):
    """What is answered to these bytes, both in hex; "" where the connection is closed."""
    with _connect(path) as link:
        try:
            link.sendall(bytes.fromhex(words))
            return link.recv(65536).hex()
        except ConnectionError:
            return ""


def read(path):
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def enter(path):
    """Lists a directory."""
    os.listdir(path)


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)


def rename(path):
    os.rename(path, path + ".hands")
    os.rename(path + ".hands", path)


def mode(path):
    os.chmod(path, 0o777)


def trace(pid):
    _call(_LIBC.ptrace(_PTRACE_SEIZE, pid, None, None))


def memory(pid):
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))


def descriptors(pid):
    os.listdir(f"/proc/{pid}/fd")


def take_descriptor(pid, number):
    pidfd = os.pidfd_open(pid)
    try:
        os.close(_call(_LIBC.syscall(_PIDFD_GETFD, pidfd, number, 0)))
    finally:
        os.close(pidfd)


def signal(pid):
    os.kill(pid, 0)


def become(uid):
    os.setuid(uid)


def own():
    """Who it is and what it was given."""
    with open("/proc/self/status", encoding="ascii") as status:
        facts = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    given = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            given[int(number)] = os.readlink(f"/proc/self/fd/{number}").split(":")[0]
        except OSError:
            pass
    return {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "capabilities": int(facts["CapEff"], 16),
            "no_new_privileges": facts["NoNewPrivs"] == "1", "descriptors": given, "names": os.environ.get("LISTEN_FDNAMES", "")}


def speak(identity, messages):
    """As the link of the next holdfastd that connects: [type, flags, body] of each message that comes, in hex, after `messages`."""
    listener = socket.socket(fileno=os.dup(3))
    listener.settimeout(LIMIT)
    daemon, _ = listener.accept()
    listener.close()
    heard = []
    with daemon:
        daemon.settimeout(1)

        def send(kind, number, body):
            daemon.send(struct.pack("<BBHIQ", kind, 0, 0, len(body), number) + body)

        def hear():
            try:
                while message := daemon.recv(1 << 17):
                    kind, flags, _, _, _ = struct.unpack_from("<BBHIQ", message)
                    heard.append([kind, flags, message[16:].hex()])
            except TimeoutError:
                pass

        send(50, 0, identity.encode())
        hear()
        send(51, 0, b"")
        for kind, number, body in messages:
            send(kind, number, bytes.fromhex(body))
        hear()
    return heard


def carry(test, identity):
    """From here on the test is the link of the next holdfastd that connects: each message either way, after its length."""
    listener = socket.socket(fileno=os.dup(3))
    listener.settimeout(30)
    daemon, _ = listener.accept()
    listener.close()
    daemon.settimeout(None)
    test.settimeout(None)
    daemon.send(struct.pack("<BBHIQ", 50, 0, 0, len(identity), 0) + identity.encode())

    def from_daemon():
        try:
            while True:
                message, descriptors, _, _ = socket.recv_fds(daemon, 1 << 17, 8)
                for one in descriptors:
                    os.close(one)
                if not message:
                    break
                test.sendall(struct.pack("<I", len(message)) + message)
        except OSError:
            pass
        test.close()

    threading.Thread(target=from_daemon, daemon=True).start()
    with test.makefile("rb") as messages:
        while head := messages.read(4):
            daemon.send(messages.read(struct.unpack("<I", head)[0]))


ATTEMPTS = {act.__name__: act for act in (connect, say, read, write, enter, create, rename, mode, trace, memory, descriptors,
                                          take_descriptor, signal, become, own, speak)}


def attempt(name, *arguments):
    try:
        result = ATTEMPTS[name](*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "yes" if result is None else result


def main():
    path = f"{HANDS}/{os.getuid()}.sock"
    if os.path.exists(path):
        os.unlink(path)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)
    while True:
        test, _ = server.accept()
        with test, test.makefile("rw", encoding="ascii") as lines:
            for line in lines:
                if line.startswith('["carry"'):
                    carry(test, json.loads(line)[1])
                    break
                lines.write(json.dumps([attempt(*one) for one in json.loads(line)]) + "\n")
                lines.flush()


main()
