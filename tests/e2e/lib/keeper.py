"""A vault and a keeper without daemon or launcher: the test holds their listening sockets, as the launcher would.

So a keeper can be killed and started again under its clients, and faults can be put where an operator has no command.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import socket
import struct
import time

from . import vault_words
from .process import Failure, run
from .site import bin_dir

_REPLY = 0x8000
_CREATE_VM, _RELEASE, _REVOKE = 0x0103, 0x0105, 0x0106
_SITE_IDENTITY = 0x0101
_WRAP_FOR, _IMPORT_WRAP = 0x010a, 0x010b
_BIND_KEEPERS = 0x0301
_ENROLL, _CERTIFY, _PINNED, _FORGET, _SIGN, _KEYS = 0x010e, 0x010f, 0x0110, 0x0112, 0x0113, 0x0114
_TITLE, _TITLE_LACKING, _TITLE_LEARN, _TITLE_ASK, _TITLE_ANSWER, _TITLE_TAKE_ANSWER, _TITLE_PROPOSE = range(0x0118, 0x011f)
_GIVE_WORD = 0x0408
_PROTECT, _TAKE = 2, 9
_FD_FLOOR = 100
_NOT_AT_CREATION = ("vmgs_path", "merge_keep_segments", "peer_site", "backlog_bytes_max")


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    if len(str(path)) >= 108:
        raise Failure(f"socket path too long: {path}")
    listener.bind(str(path))
    listener.listen(64)
    return listener


def start_with_fds(processes, argv, named_fds, name):
    """Starts argv with the descriptors handed down from number 3 on (sd_listen_fds). named_fds: [(name, fd)]."""
    count = len(named_fds)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, _FD_FLOOR) for _, fd in named_fds]
    # The places from 3 on are kept taken, so that nothing subprocess opens for itself lies where they go.
    placeholders = [os.dup(high[0])]
    while placeholders[-1] < 3 + count:
        placeholders.append(os.dup(high[0]))

    def place():
        for index, fd in enumerate(high):
            os.dup2(fd, 3 + index, inheritable=True)

    environment = dict(os.environ, LISTEN_FDS=str(count), LISTEN_FDNAMES=":".join(name for name, _ in named_fds))
    try:
        return processes.start(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *argv], name=name, env=environment,
                               preexec_fn=place, pass_fds=range(3, 3 + count))
    finally:
        for fd in high + placeholders:
            os.close(fd)


def memfd(name, content=""):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content.encode() if isinstance(content, str) else content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Vault:
    """holdfast-vault over `directory`/vault, with what the daemon and the launcher tell it as a keeper starts."""

    def __init__(self, processes, directory, name="bench"):
        self.processes = processes
        self.dir = pathlib.Path(directory) / "vault"
        self.admin = pathlib.Path(directory) / "vault-admin.sock"
        self.keys = pathlib.Path(directory) / "vault-keys.sock"
        self.launcher = pathlib.Path(directory) / "vault-launcher.sock"
        self.operators = pathlib.Path(directory) / "vault-operators.sock"
        self._keepers = {}  # VM: user
        self._others = {}  # VM: the vaults of its other members
        self._generation = 0
        self._listeners = None
        self._name = name
        self._starts = 0

    def init(self):
        self.dir.mkdir(mode=0o700)
        made = run([bin_dir() / "holdfast-vault", "--init", "--dir", self.dir, "--name", self._name])
        return json.loads(made.stdout)

    def start(self):
        if self._listeners is None:
            paths = {"vault-admin": self.admin, "vault-keys": self.keys, "vault-launcher": self.launcher,
                     "vault-operators": self.operators}
            for path in paths.values():
                path.unlink(missing_ok=True)
            self._listeners = [(name, listen(path)) for name, path in paths.items()]
        self._starts += 1
        keepers = memfd("keepers", self._keeper_list())
        try:
            self.process = start_with_fds(self.processes, [bin_dir() / "holdfast-vault", "--dir", self.dir],
                                          [*((name, sock.fileno()) for name, sock in self._listeners),
                                           ("keepers", keepers)], f"vault{self._starts}")
        finally:
            os.close(keepers)

    def _keeper_list(self):
        self._generation += 1
        return struct.pack("<QI", self._generation, len(self._keepers)) + b"".join(
            vm + struct.pack("<IB", uid, 1) for vm, uid in self._keepers.items())

    def bind(self, vm, uid):
        """As the launcher: `uid` is the VM's keeper."""
        self._keepers[vm] = uid
        self.call(_BIND_KEEPERS, self._keeper_list(), path=self.launcher)

    def call(self, operation, body, timeout=10, path=None):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(str(path or self.admin))
            link.sendall(struct.pack("<4sHHII", b"HFVP", 1, operation, 1, len(body)) + body)
            magic, version, answered, _, length = struct.unpack("<4sHHII", _read(link, 16))
            reply = _read(link, length)
        if (magic, version, answered) != (b"HFVP", 1, operation | _REPLY):
            raise Failure(f"vault: an answer that is none: {magic} {version} {answered:#x}")
        status = struct.unpack_from("<H", reply)[0]
        if status:
            raise Failure(f"vault refused {operation:#x}: {reply[2:].decode(errors='replace')}")
        return reply[2:]

    def create_vm(self):
        """A VM of this vault's site; its id."""
        return self.call(_CREATE_VM, b"")[:16]

    def release(self, vm, uid):
        """To the VM's keeper, which runs as `uid`."""
        self.bind(vm, uid)
        return self.call(_RELEASE, vm)

    def pin(self, other):
        """The other vault's site becomes a recipient, as at the site that issues a pairing token."""
        offer = self.call(vault_words.OFFER_PAIRING, struct.pack("<I", 60) + vault_words.blob(b""), path=self.operators)
        secret, identity = offer[:32], offer[40:]
        token = other.call(vault_words.CONFIRM_PAIRING, vault_words.confirmation(secret, identity), path=other.operators)
        connection = os.urandom(32)
        proof = other.call(vault_words.PROVE_PAIRING, token + connection)
        self.call(vault_words.ACCEPT_PAIRING, token + connection + other.call(_SITE_IDENTITY, b"") + proof)

    def site(self):
        return self.call(_SITE_IDENTITY, b"")[:16]

    def learn(self, vm, other):
        """What the other vault knows of the VM's title, as the daemons would carry it."""
        bundle, = _blobs(other.call(_TITLE_LACKING, vm + struct.pack("<I", 0)), 1)
        self.call(_TITLE_LEARN, vm + other.site() + b"\1" + _blob(bundle))

    def ask_about(self, vm, other):
        question = self.call(_TITLE_ASK, vm + other.site())
        answer, = _blobs(other.call(_TITLE_ANSWER, question + b"\3"), 1)
        self.call(_TITLE_TAKE_ANSWER, vm + _blob(answer))

    def propose(self, vm, kind, subject=bytes(16), token=bytes(32)):
        """Has the next statement signed about the head that there is."""
        size, = struct.unpack_from("<I", head := self.call(_TITLE, vm))
        digest = hashlib.sha256(b"holdfast title digest v1" + head[4:4 + size - 64]).digest()
        reply = self.call(_TITLE_PROPOSE, vm + digest + bytes([kind]) + subject + struct.pack("<I", 0) + token)
        if reply[0] != 1:
            raise Failure(f"vault: statement {kind} is not signed: cause {reply[1]}, action {reply[2]}")

    def ask_members(self, vm):
        """As holdfastd does before a start; who does not answer is silent."""
        for other in self._others.get(vm, []):
            with contextlib.suppress(OSError, Failure):
                self.ask_about(vm, other)

    def take(self, vm):
        """Of a VM whose holder is silent, on an operator's word."""
        time.sleep(5.2)  # what silence is
        for other in self._others[vm]:
            self.call(_TITLE_ASK, vm + other.site())  # and does not hear the answer
        self.propose(vm, _TAKE, token=self.call(_GIVE_WORD, vm + b"\0", path=self.operators)[:32])

    def give_key(self, vm, other):
        """The other vault's site becomes a member: the title says so, and it has the VM's key."""
        site = other.site()
        other.learn(vm, self)
        self.ask_about(vm, other)
        self.call(vault_words.ADD_MEMBER, vm + site, path=self.operators)
        self.propose(vm, _PROTECT, site)
        self._others[vm], other._others[vm] = [other], [self]
        other.learn(vm, self)
        other.call(_IMPORT_WRAP, vm + self.call(_WRAP_FOR, vm + site))

    def ca_pem(self):
        reply = self.call(_SITE_IDENTITY, b"")
        _, ca, _ = _blobs(reply[16:], 3)
        return ca.decode()

    def enroll(self, vm, ek_public, ek_certificate, ak_public):
        """(challenge, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET)."""
        reply = self.call(_ENROLL, vm + b"".join(_blob(part) for part in (ek_public, ek_certificate, ak_public)))
        return (reply[:16], *_blobs(reply[16:], 2))

    def certify(self, vm, challenge, secret):
        """(AK name, AK public area, certificate as PEM)."""
        return _pin(self.call(_CERTIFY, vm + challenge + _blob(secret)))

    def pinned(self, vm):
        return _pin(self.call(_PINNED, vm))

    def forget_pin(self, vm):
        self.call(_FORGET, vm)

    def sign_token(self, claims):
        """The token, as bytes, that says what vault_words.verdict_claims() made."""
        return _blobs(self.call(_SIGN, claims), 1)[0]

    def key_set(self):
        return json.loads(_blobs(self.call(_KEYS, b""), 1)[0])


def _blob(data):
    return struct.pack("<I", len(data)) + data


def _blobs(data, count):
    parts, at = [], 0
    for _ in range(count):
        size, = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return parts


def _pin(reply):
    name, public, certificate = _blobs(reply[16:], 3)
    return name, public, certificate.decode()


def _read(link, size):
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            raise Failure("the connection closed in the middle of an answer")
        data += more
    return data


class Keeper:
    """One VM's keeper. `volumes`: {"disk1": bytes, …}. Sockets: directory/DISK.nbd, vars.nbd, tpm.sock, control.sock."""

    def __init__(self, processes, directory, vault, site_id, volumes, vtpm=True, vm=None, **config):
        self.processes = processes
        self.directory = pathlib.Path(directory)
        self.vault = vault
        self.vm = vm or vault.create_vm()
        self.volumes = volumes
        self.journal = self.directory / "journal"
        self.config = {
            "vm": self.vm.hex(), "site": site_id, "epoch": 1, "journal_dir": str(self.journal),
            "vault_socket": str(vault.keys), "vmgs_path": str(self.journal / "guest.vmgs"), "vtpm": vtpm,
            "volumes": [{"id": index + 1, "name": name, "size_bytes": size}
                        for index, (name, size) in enumerate(volumes.items())], **config}
        self.process = None
        self._listeners = None
        self._scratch = None
        self._starts = 0

    def _start(self, mode, named_fds, **config):
        self._starts += 1
        told = {name: value for name, value in self.config.items() if mode != "create" or name not in _NOT_AT_CREATION}
        fd = memfd("config", json.dumps({**told, "mode": mode, **config}))
        try:
            return start_with_fds(self.processes, [bin_dir() / "holdfast-keeper"], [*named_fds, ("config", fd)],
                                  f"keeper{self._starts}")
        finally:
            os.close(fd)

    def create(self, images=None, uefi_template="/usr/share/OVMF/OVMF_VARS_4M.ms.fd", timeout=120):
        """Makes the journal; images: {"image1": path}."""
        self.journal.mkdir(mode=0o700, exist_ok=True)
        self.vault.release(self.vm, os.geteuid())
        with contextlib.ExitStack() as stack:
            fds = [(name, stack.enter_context(open(path, "rb")).fileno()) for name, path in (images or {}).items()]
            process = self._start("create", fds, uefi_template=str(uefi_template))
        if process.wait(timeout) != 0:
            raise Failure(f"keeper create: {process.log_tail()}")

    def socket_path(self, name):
        return self.directory / (f"{name}.sock" if name in ("tpm", "control", "ship") else f"{name}.nbd")

    def start(self, successor=False):
        """Serves; returns at once: the sockets accept from the first moment on.

        successor: of a keeper that died under a running QEMU; it gets the memory that the other one left.
        """
        if self._listeners is None:
            names = [*self.volumes, "vars", "tpm", "control", "ship"]
            for name in names:
                self.socket_path(name).unlink(missing_ok=True)
            self._listeners = [(name, listen(self.socket_path(name))) for name in names]
        if not successor:
            if self._scratch is not None:
                os.close(self._scratch)
            self._scratch = memfd("scratch")
        self.vault.ask_members(self.vm)
        self.process = self._start("serve", [(name, sock.fileno()) for name, sock in self._listeners] +
                                   [("scratch", self._scratch)])

    def control(self, operation, timeout=30, **arguments):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(str(self.socket_path("control")))
            link.sendall(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                more = link.recv(65536)
                if not more:
                    raise Failure(f"keeper: no answer to {operation}; its log:\n{self.process.log_tail()}")
                data += more
        return json.loads(data)

    def wait_serving(self, timeout=20):
        """Until it answers on its control socket; seconds that took."""
        start = time.monotonic()
        status = self.control("status", timeout)
        if status.get("state") != "serving":
            raise Failure(f"keeper: {status}")
        return time.monotonic() - start

    def position(self):
        """(incarnation, sequence) of the newest durable record."""
        status = self.control("status")
        return bytes.fromhex(status["durable_incarnation"]), status["durable"]

    def sealed_bytes_after(self, position):
        """How many bytes of records, headers included, the journal's segments have after a position."""
        total, (_, newest) = 0, position
        for path in (self.directory / "journal").glob("segment-*"):
            data, at = path.read_bytes(), 4096
            while data[at:at + 4] == b"HFFR":
                sequence, = struct.unpack_from("<Q", data, at + 8)
                payload, = struct.unpack_from("<I", data, at + 88)
                size = (192 + payload + 63) // 64 * 64
                total += size if sequence > newest else 0
                at += size
        return total

    def uri(self, disk="disk1"):
        return f"nbd+unix:///{disk}?socket={self.socket_path(disk)}"

    def stop(self, timeout=30):
        self.control("stop")
        if self.process.wait(timeout) != 0:
            raise Failure(f"keeper: stopped with {self.process.child.returncode}: {self.process.log_tail()}")
