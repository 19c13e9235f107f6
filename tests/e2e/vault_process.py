#!/usr/bin/env python3
# timeout: 120
# programs: holdfast-vault
"""holdfast-vault as a process: creation, service on inherited sockets, confinement, kill -9, and bad input.

Each bad input is refused with exit status 1, an error of three parts as the last line on stderr, and a directory whose
hash is what it was.
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile

from lib.process import Failure, Processes, run
from lib.report import check, main, step

VAULT = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast-vault"
HEADER = struct.Struct("<4sHHII")
SITE_IDENTITY, CREATE_VM, RELEASE, FETCH_KEY, PUT_FRESHNESS, GET_FRESHNESS, BIND_KEEPERS, OFFER_PAIRING = (
    0x101, 0x103, 0x105, 0x201, 0x202, 0x203, 0x301, 0x401)
LISTENERS = ("vault-admin", "vault-keys", "vault-launcher", "vault-operators")

# Becomes the vault with the listeners and the list of keepers from 3 on, as the launcher would start it.
HAND_DOWN = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1:6]]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="5",
                  LISTEN_FDNAMES="vault-admin:vault-keys:vault-launcher:vault-operators:keepers")
os.execv(sys.argv[6], sys.argv[6:])
"""


class Vault:
    """The process over `directory`; its listeners live here, so they outlast it."""

    def __init__(self, processes, directory, sockets):
        self.processes, self.directory, self.sockets = processes, directory, sockets
        self.listeners = []
        for name in LISTENERS:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(sockets / name))
            listener.listen(32)
            self.listeners.append(listener)
        self.process = None
        self.lists = 0
        self.vm = None

    def keepers(self, *users):
        """What the launcher tells: of the VM, these are the keepers."""
        self.lists += 1
        return struct.pack("<QI", self.lists, len(users)) + b"".join(
            self.vm + struct.pack("<IB", uid, 1) for uid in users)

    def start(self, *arguments, keepers=()):
        with tempfile.TemporaryFile() as running:
            running.write(self.keepers(*keepers))
            running.flush()
            return self._start([listener.fileno() for listener in self.listeners] + [running.fileno()], arguments)

    def _start(self, numbers, arguments):
        self.process = self.processes.start(
            [sys.executable, "-c", HAND_DOWN, *map(str, numbers), VAULT.resolve(), "--dir", self.directory, *arguments],
            name="vault", pass_fds=numbers)
        return self

    def ask(self, name, operation, body=b""):
        """(status, rest of the reply's body)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.sockets / name))
            connection.sendall(HEADER.pack(b"HFVP", 1, operation, 7, len(body)) + body)
            magic, version, echoed, request, length = HEADER.unpack(receive(connection, HEADER.size))
            if (magic, version, echoed, request) != (b"HFVP", 1, operation | 0x8000, 7):
                raise Failure(f"a reply to something else: {magic} {version} {echoed:#x} {request}")
            reply = receive(connection, length)
        return struct.unpack_from("<H", reply)[0], reply[2:]


def receive(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise Failure("the vault closed the connection")
        data += piece
    return data


def digest(directory):
    total = hashlib.sha256()
    for path in [directory, *sorted(directory.iterdir())]:
        status = path.lstat()
        total.update(f"{path.name} {status.st_mode:o} {status.st_uid}\n".encode())
        if stat.S_ISREG(status.st_mode):
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def expect_refusal(what, directory, code, *arguments):
    before = digest(directory)
    done = run([VAULT, "--check", "--dir", directory, *arguments], check=False)
    lines = done.stderr.strip().splitlines()
    error = json.loads(lines[-1])["error"] if lines else {}
    check(done.returncode == 1 and error.get("code") == code and error["cause"] and error["effect"] and error["mend"],
          f"{what}: refused ({error.get('code')}: {error.get('cause')})")
    check(digest(directory) == before, f"{what}: nothing changed")


def flipped(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x20
    path.write_bytes(bytes(data))


def bad_inputs(directory, original):
    def fresh(name):
        return pathlib.Path(shutil.copytree(original, directory / name))

    damaged = fresh("flip")
    flipped(damaged / "site.hfv", 900)
    expect_refusal("a flipped bit in the site file", damaged, "corrupt")

    damaged = fresh("cut")
    os.truncate(damaged / "site.hfv", 1000)
    expect_refusal("a site file cut off", damaged, "corrupt")

    damaged = fresh("key")
    flipped(next(damaged.glob("key-*.hfv")), 100)
    expect_refusal("a flipped bit in a key file", damaged, "corrupt")

    damaged = fresh("log")
    flipped(damaged / "audit.log", 100)
    expect_refusal("an altered audit log", damaged, "corrupt")

    wrong = fresh("secret")
    (wrong / "host.secret").write_bytes(bytes(32))
    expect_refusal("the wrong secret", wrong, "wrong_key")

    opened = fresh("mode")
    opened.chmod(0o755)
    expect_refusal("a directory readable by others", opened, "permission")

    secret = directory / "passphrase"
    secret.write_text("a passphrase of some length\n")
    secret.chmod(0o600)
    expect_refusal("a secret file for a vault with host.secret", fresh("form"), "invalid_argument",
                   "--secret-file", secret)

    again = run([VAULT, "--init", "--dir", original, "--name", "again"], check=False)
    check(again.returncode == 1 and '"code":"exists"' in again.stderr, "a vault is not made over another")


def secret_file(directory):
    secret = directory / "phrase"
    secret.write_text("correct horse battery staple\n")
    secret.chmod(0o600)
    vault = directory / "by-file"
    run([VAULT, "--init", "--dir", vault, "--name", "beta", "--secret-file", secret])
    run([VAULT, "--check", "--dir", vault, "--secret-file", secret])
    step("ok: a vault opened by a secret file")
    secret.write_text("correct horse battery stapler\n")
    expect_refusal("the wrong passphrase", vault, "wrong_key", "--secret-file", secret)


def full_disk(directory):
    """In a mount namespace of its own, with 64 KiB of room."""
    mount = directory / "small"
    mount.mkdir()
    script = f"""set -e
mount -t tmpfs -o size=96k,mode=700 none {mount}
{VAULT.resolve()} --init --dir {mount}/v --name gamma >/dev/null
head -c 1m /dev/zero > {mount}/filler 2>/dev/null || true
exec {VAULT.resolve()} --init --dir {mount}/w --name delta
"""
    if run(["unshare", "-rm", "true"], check=False).returncode != 0:
        step("skipped: a full disk (no user namespaces here)")
        return
    done = run(["unshare", "-rm", "sh", "-c", script], check=False)
    error = json.loads(done.stderr.strip().splitlines()[-1])["error"]
    check(done.returncode == 1 and error["code"] == "no_space" and error["effect"] and error["mend"],
          f"a full disk: refused ({error['cause']})")


def service(processes, directory, vault):
    listening = Vault(processes, vault, directory).start()
    admin, keys, launcher, operators = LISTENERS
    status, identity = listening.ask(admin, SITE_IDENTITY)
    check(status == 0 and b"BEGIN CERTIFICATE" in identity, "it serves on the sockets it inherited")
    status, made = listening.ask(admin, CREATE_VM)
    vm = listening.vm = made[:16]
    check(status == 0 and any(vm), "a VM is made: its title and its key")
    check(listening.ask(admin, CREATE_VM)[1][:16] != vm, "and no two are one")
    expect_closed(listening, keys, "no keeper is known: the vault speaks with nobody there")
    check(listening.ask(admin, RELEASE, vm)[0] != 0, "it is not released to nobody")
    check(listening.ask(launcher, BIND_KEEPERS, listening.keepers(os.getuid() + 1))[0] != 0,
          "a user that no keeper runs as is refused")
    check(listening.ask(launcher, BIND_KEEPERS, listening.keepers(os.getuid()))[0] == 0, "the launcher names the keeper")
    check(listening.ask(keys, FETCH_KEY, vm)[0] != 0, "the keeper does not have the key before it is released")
    check(listening.ask(keys, SITE_IDENTITY)[0] != 0, "keepers cannot ask what the daemon may")
    check(listening.ask(admin, BIND_KEEPERS, listening.keepers())[0] != 0, "the daemon cannot say who is a keeper")
    offer = struct.pack("<II", 60, 0)
    check(listening.ask(operators, OFFER_PAIRING, offer)[0] == 0, "an operator has a pairing token made")
    check(all(listening.ask(name, OFFER_PAIRING, offer)[0] != 0 for name in (admin, keys, launcher)), "nobody else does")
    listening.ask(admin, RELEASE, vm)
    status, fetched = listening.ask(keys, FETCH_KEY, vm)
    key = fetched[:32]
    check(status == 0 and len(fetched) == 52, "the keeper has it after the release")
    confinement(listening.process.pid)

    freshness = bytes(32) + struct.pack("<Q", 5) + bytes(32) + struct.pack("<Q", 6)
    check(listening.ask(keys, PUT_FRESHNESS, vm + freshness)[0] == 0, "a freshness record is stored")
    listening.process.kill()
    listening.start(keepers=[os.getuid()])
    check(listening.ask(keys, FETCH_KEY, vm)[0] != 0, "after kill -9 nothing is released")
    listening.ask(admin, RELEASE, vm)
    check(listening.ask(keys, FETCH_KEY, vm)[1] == fetched, "and the key is the same")
    check(listening.ask(keys, GET_FRESHNESS, vm) == (0, b"\x01" + freshness), "and so is the freshness record")
    second = run([VAULT, "--check", "--dir", vault], check=False)
    check(second.returncode == 1 and '"code":"conflict"' in second.stderr, "a second process on the directory: refused")
    listening.process.child.send_signal(signal.SIGTERM)
    check(listening.process.wait(10) == 0, "it ends on SIGTERM")
    search(vault, key)


def expect_closed(listening, name, what):
    try:
        listening.ask(name, FETCH_KEY, listening.vm)
    except (Failure, ConnectionError):
        step(f"ok: {what}")
    else:
        raise Failure(f"not so: {what}")


def confinement(pid):
    facts = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                 if ":\t" in line)
    check(facts["NoNewPrivs"] == "1", "it cannot gain privileges")
    if facts["Seccomp"] == "0":
        step("skipped: seccomp (a sanitizer build)")
    else:
        check(facts["Seccomp"] == "2", "its system calls are filtered")
    check(int(facts["VmLck"].split()[0]) > 0, f"key pages are locked ({facts['VmLck'].strip()})")


def search(vault, key):
    forms = (key, key.hex().encode(), key.hex().upper().encode())
    for path in vault.iterdir():
        data = path.read_bytes()
        if any(form in data for form in forms):
            raise Failure(f"{path} holds the VM's key")
    step("ok: no file of the vault holds the key")
    done = run([VAULT, "--check", "--dir", vault])
    facts = json.loads(done.stdout)
    check(facts["keys"] == 2 and facts["freshness_records"] == 1 and facts["problems"] == 0 and
          facts["audit_lines"] >= 6, f"the whole of it checks ({facts['audit_lines']} audit lines)")


def test(directory):
    vault = directory / "vault"
    made = json.loads(run([VAULT, "--init", "--dir", vault, "--name", "alpha"]).stdout)
    check(len(made["site_id"]) == 32 and made["unlock"] == "host_secret", "a vault is made")
    check(stat.S_IMODE(vault.stat().st_mode) == 0o700 and
          all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in vault.iterdir()), "nobody else may read it")
    alone = run([VAULT, "--dir", vault], check=False)
    check(alone.returncode == 1 and '"mend"' in alone.stderr, "without sockets it says what to do")
    with Processes(directory) as processes:
        service(processes, directory, vault)
    bad_inputs(directory, vault)
    secret_file(directory)
    full_disk(directory)


main(test)
