"""Two keepers of one VM, home's and the replica's, with a relay between their ship sockets where the links would be."""

import contextlib
import json
import os
import pathlib
import socket
import threading

from .keeper import Keeper, Vault, listen, memfd, start_with_fds
from .process import Failure, wait_until
from .site import bin_dir


class Replica(Keeper):
    """The VM's keeper at the other site, without its key. Takes `home`'s journal."""

    def __init__(self, processes, directory, home, vault, site_id, public_key):
        pathlib.Path(directory).mkdir(exist_ok=True)
        super().__init__(processes, directory, vault, site_id, {}, vm=home.vm)
        self.config = {"vm": self.vm.hex(), "site": site_id, "epoch": 1, "journal_dir": str(self.journal),
                       "vault_socket": str(self.vault.keys), "peer_site": home.config["site"], "public_key": public_key, "create": True}

    def start(self, successor=False, **config):
        self.journal.mkdir(mode=0o700, exist_ok=True)
        if self._listeners is None:
            for name in ("control", "ship"):
                self.socket_path(name).unlink(missing_ok=True)
            self._listeners = [(name, listen(self.socket_path(name))) for name in ("control", "ship")]
        self.vault.bind(self.vm, os.geteuid())
        self.process = self._start("replica", self.listeners(), **config)

    def status(self):
        return self.control("status")

    def stop(self, timeout=30):
        self.control("show_line")  # what a take goes by
        super().stop(timeout)

    def listeners(self):
        return [(name, sock.fileno()) for name, sock in self._listeners]


class Caretaker(Keeper):
    """Home's keeper without the key, while the VM is stopped: ships on what the replica lacks."""

    def __init__(self, processes, directory, home, public_key):
        pathlib.Path(directory).mkdir(exist_ok=True)
        super().__init__(processes, directory, home.vault, home.config["site"], {}, vm=home.vm)
        self.config = {name: home.config[name] for name in ("vm", "site", "epoch", "journal_dir", "vault_socket", "peer_site")}
        self.config["public_key"] = public_key

    def start(self, successor=False):
        if self._listeners is None:
            for name in ("control", "ship"):
                self.socket_path(name).unlink(missing_ok=True)
            self._listeners = [(name, listen(self.socket_path(name))) for name in ("control", "ship")]
        self.process = self._start("caretaker", [(name, sock.fileno()) for name, sock in self._listeners])


class Relay(threading.Thread):
    """Carries bytes between two ship sockets; connects both again when either end breaks, until it is cut."""

    def __init__(self, home, replica):
        super().__init__(daemon=True)
        self._paths = [home.socket_path("ship"), replica.socket_path("ship")]
        self._ended = threading.Event()
        self._held = threading.Event()  # nothing passes, and nobody is told
        self.bytes = [0, 0]  # from home, from the replica
        self.streams = 0
        self.start()

    def hold(self):
        self._held.set()

    def cut(self):
        self._ended.set()
        self.join(10)

    def run(self):
        while not self._ended.is_set():
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                ends = []
                for path in self._paths:
                    end = stack.enter_context(socket.socket(socket.AF_UNIX))
                    end.connect(str(path))
                    end.settimeout(0.1)
                    ends.append(end)
                self.streams += 1
                broken = threading.Event()
                pumps = [threading.Thread(target=self._pump, args=(ends, at, broken), daemon=True) for at in (0, 1)]
                for pump in pumps:
                    pump.start()
                for pump in pumps:
                    pump.join()
            self._ended.wait(0.05)

    def _pump(self, ends, at, broken):
        try:
            while not broken.is_set() and not self._ended.is_set():
                if self._held.is_set():
                    self._ended.wait(0.05)
                    continue
                try:
                    data = ends[at].recv(1 << 18)
                except TimeoutError:
                    continue
                if not data:
                    break
                self.bytes[at] += len(data)
                left = memoryview(data)
                while left and not broken.is_set() and not self._ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        left = left[ends[1 - at].send(left):]
        except OSError:
            pass
        broken.set()


def two_vaults(processes, directory):
    """[(vault, site)…] of home and of the replica's site, paired."""
    sites = []
    for name in ("home", "away"):
        place = pathlib.Path(directory) / name
        place.mkdir()
        vault = Vault(processes, place, name)
        site = vault.init()["site_id"]
        vault.start()
        sites.append((vault, site))
    (home, _), (away, _) = sites
    home.pin(away)
    away.pin(home)
    return sites


def promote(processes, directory, replica, site_id, epoch, volumes, vtpm=False):
    """The replica's journal opened with the key, as a failover does: a serving keeper."""
    pathlib.Path(directory).mkdir(exist_ok=True)
    promoted = Keeper(processes, directory, replica.vault, site_id, volumes, vtpm=vtpm, vm=replica.vm)
    promoted.journal = replica.journal
    promoted.config.update(journal_dir=str(replica.journal), vmgs_path=str(replica.journal / "guest.vmgs"), epoch=epoch)
    replica.vault.take(replica.vm)
    replica.vault.release(replica.vm, os.geteuid())
    promoted.start()
    promoted.wait_serving()
    return promoted


def wait_level(home, replica, timeout=30):
    """Until the replica holds durably all that home does."""
    def level():
        there = replica.status()
        here = home.control("status")
        return here["durable"] == here["appended"] == there["durable"]["sequence"] and here["chain"] == there["durable"]["chain"]

    wait_until(level, timeout, "the replica to hold all that home does", interval=0.1)


def own_memory(process):
    """Bytes of RssAnon, threads, and context switches of a process so far."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines())
    return (int(fields["RssAnon"].split()[0]) * 1024, int(fields["Threads"]),
            int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"]))


def run_to_end(processes, mode, config, listeners, name, timeout=20):
    """A keeper that is expected to refuse: its exit status and what it said."""
    fd = memfd("config", json.dumps({**config, "mode": mode}))
    try:
        process = start_with_fds(processes, [bin_dir() / "holdfast-keeper"], [*listeners, ("config", fd)], name)
    finally:
        os.close(fd)
    status = process.wait(timeout)
    if status is None:
        raise Failure(f"{name} went on")
    return status, process.log_tail()
