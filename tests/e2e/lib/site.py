"""A Holdfast site of a test, driven through the CLI as an operator would."""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .console import Console
from .process import Failure, run, wait_until
from .probe import REPOSITORY
from .report import check


# Sites of tests do not keep off each other's users: several run at a time, with the same ones.
os.environ.setdefault("HOLDFAST_SITES", "")


@functools.cache
def bin_dir():
    """Where the programs are. As root a site runs them as users of its own: from a clone in a closed directory, such as
    /root, those users can't reach them, so they get a copy that lasts as long as this test."""
    built = pathlib.Path(os.environ.get("HOLDFAST_BIN", REPOSITORY / "build/dev/bin")).resolve()
    if os.geteuid() != 0 or all(place.stat().st_mode & 0o001 for place in [built, *built.parents]):
        return built
    copy = pathlib.Path(tempfile.mkdtemp(prefix="hf-bin-"))
    copy.chmod(0o755)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for program in built.glob("holdfast*"):
        shutil.copy(program, copy)
    return copy


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class CliError(Failure):
    """A refused command: exit status and the three parts of its message."""

    def __init__(self, command, status, stderr):
        super().__init__(f"holdfast {command}: exit status {status}\n{stderr}")
        self.status = status
        self.stderr = stderr

    def parts(self):
        """{"cause": …, "effect": …, "mend": …} as printed; "" for one that is missing."""
        return message_parts(self.stderr)


def message_parts(stderr):
    parts = {"cause": "", "effect": "", "mend": ""}
    for line in stderr.splitlines():
        if line.startswith('{"error":'):  # of -o json
            return parts | {name: text for name, text in json.loads(line)["error"].items() if name in parts}
        name, _, text = line.partition(":")
        name = "cause" if name == "error" else name
        if name in parts and not parts[name]:
            parts[name] = text.strip()
    return parts


class Site:
    """STATE lies at directory/NAME. As root each site's processes run under users of their own (uid_base)."""

    def __init__(self, processes, directory, name, uid_base=0):
        self.processes = processes
        self.name = name
        self.state = pathlib.Path(directory) / name
        self.listen = f"127.0.0.1:{free_port()}"
        self.uid_base = uid_base if os.geteuid() == 0 else 0
        self.launcher = None
        self._consoles = []
        self._starts = 0

    # -- the CLI

    def argv(self, *words):
        return [bin_dir() / "holdfast", "--state", self.state, *words]

    def cli(self, *words, timeout=60, check=True, text=""):
        """Runs `holdfast --state STATE WORDS…`, with `text` on its standard input; its CompletedProcess. CliError when it fails
        and `check`."""
        done = run(self.argv(*words), timeout=timeout, check=False, input=text)
        if check and done.returncode != 0:
            raise CliError(" ".join(map(str, words)), done.returncode, done.stderr)
        return done

    def json(self, *words, timeout=60, text=""):
        """The command's output as JSON (-o json)."""
        said = self.cli(*words, "-o", "json", timeout=timeout, text=text).stdout
        try:
            return json.loads(said)
        except json.JSONDecodeError:
            raise Failure(f"holdfast {' '.join(map(str, words))} -o json printed no JSON: {said!r}") from None

    # -- the site's life

    def init(self, *flags, called=None):
        words = ["site", "init", "--name", called or self.name, "--listen", self.listen]
        if os.geteuid() == 0:
            words += ["--uid-base", str(self.uid_base)]
        return self.cli(*words, *flags)

    def start(self, timeout=20):
        """Starts the launcher in the foreground as a child, and waits until the daemon answers."""
        self._starts += 1
        self.launcher = self.processes.start(self.argv("site", "start", "--foreground"),
                                             name=f"site-{self.name}-{self._starts}")

        self.wait_answers(timeout)

    def wait_answers(self, timeout=20):
        """Until the daemon answers. Failure at once when the launcher is gone."""
        def answers():
            if not self.launcher.running():
                raise Failure(f"site {self.name} ended with status {self.launcher.child.returncode}:\n"
                              f"{self.launcher.log_tail()}")
            return self.cli("site", "show", check=False, timeout=10).returncode == 0

        wait_until(answers, timeout, f"site {self.name} answers", interval=0.05)

    def stop(self, timeout=60):
        """The launcher stops daemon, guests, keepers and vault in that order, and asks no guest to shut down."""
        self.launcher.child.send_signal(signal.SIGQUIT)
        self.launcher.wait(timeout)

    def pids(self):
        """{pid: program} of the launcher and all below it."""
        parents, names = {}, {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    text = (entry / "stat").read_text()
                except OSError:
                    continue
                name = text[text.index("(") + 1:text.rindex(")")]
                fields = text[text.rindex(")") + 2:].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
                    names[int(entry.name)] = name
        ours = {self.launcher.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in ours} - ours
            if not more:
                return {pid: names[pid] for pid in ours if pid in names}
            ours |= more

    def pids_of(self, program):
        """Pids of the site's processes whose name starts with `program` (the kernel keeps 15 characters)."""
        return sorted(pid for pid, name in self.pids().items() if name.startswith(program[:15]))

    def kill_whole(self):
        """kill -9 of everything at once, the launcher first so that it restarts nothing. {pid: program} killed."""
        pids = self.pids()
        for pid in [self.launcher.pid] + [pid for pid in pids if pid != self.launcher.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.launcher.child.wait(10)
        wait_until(lambda: not any(_alive(pid) for pid in pids), 10, f"all of site {self.name} are dead")
        return pids

    def end(self):
        """For the end of a test: everything of the site, in whatever state it is. Never fails."""
        self.close_consoles()
        if self.launcher and self.launcher.running():
            with contextlib.suppress(Failure, OSError):
                self.kill_whole()

    def keepers_of(self, vm):
        """Pids of the keepers, of whatever kind, that have the VM's journal open. `vm`: its name or id."""
        vm_id = vm if len(vm) == 32 else self.vm_id(vm)
        directory = str((self.state / "vms" / vm_id / "journal").resolve())
        return [pid for pid in self.pids_of("holdfast-keeper") if directory in _open_files(pid)]

    # -- VMs

    def vm_create(self, name, disks, *flags, timeout=120):
        words = ["vm", "create", name]
        for disk in disks:
            words += ["--disk", str(disk)]
        return self.cli(*words, *flags, timeout=timeout)

    def vm_id(self, name):
        return self.json("vm", "show", name)["id"]

    def run_dir(self, name):
        return self.state / "run/vms" / self.vm_id(name)

    def qemu_pid(self, name):
        return self.json("vm", "show", name)["qemu_pid"]

    def keeper_pid(self, name):
        return self.json("vm", "show", name)["keeper_pid"]

    def wait_idle(self, name, timeout=30):
        """Until no job works on the VM, and QEMU and keeper are gone."""
        def idle():
            jobs = self.json("job", "list")
            shown = self.json("vm", "show", name)
            return not (shown["qemu_pid"] or shown["keeper_pid"]) and not any(
                job["subject"] == name and job["state"] == "running" for job in jobs)

        wait_until(idle, timeout, f"{name} at {self.name} is at rest", interval=0.1)

    def vm_console(self, name, log=None):
        """The VM's console as `holdfast vm console --follow` shows it."""
        viewer = subprocess.Popen([str(word) for word in self.argv("vm", "console", name, "--follow")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self._consoles.append(viewer)
        return Console(viewer.stdout.fileno(), log, own=viewer)

    def close_consoles(self):
        for viewer in self._consoles:
            viewer.kill()
            viewer.wait()
        self._consoles = []

    def export_disk(self, vm, disk, path):
        """A raw copy of a disk of a running VM, over the keeper's NBD socket, by nbdcopy."""
        run(["nbdcopy", f"nbd+unix:///{disk}?socket={self.run_dir(vm) / (disk + '.nbd')}", path], timeout=60)
        return pathlib.Path(path)


def refused(site, *words, timeout=60):
    """The three parts of a refusal, in words; Failure when the command is not refused with status 1."""
    try:
        site.cli(*words, timeout=timeout)
    except CliError as error:
        parts = error.parts()
        check(error.status == 1 and all(parts.values()), f"`{' '.join(words)}` at {site.name}: {parts['cause']}")
        return parts
    raise Failure(f"`{' '.join(words)}` at {site.name} was not refused")


def _open_files(pid):
    try:
        return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    except OSError:
        return set()


def _alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pair(first, second):
    """Pairs two sites by a one-time token of the first; the fingerprints that both show must agree."""
    token = first.json("site", "pair", "--new-token")
    second.json("site", "pair", "-", text=token["token"])
    for site, other in ((first, second), (second, first)):
        peers = site.json("site", "peers")
        mine = other.json("site", "show")["ca_fingerprint"]
        if [peer["ca_fingerprint"] for peer in peers if peer["name"] == other.name] != [mine]:
            raise Failure(f"site {site.name} shows another fingerprint for {other.name} than that site itself")
    return token


def wait_protected(site, vm, timeout=60):
    """Waits until the peer has durably all that the VM's journal held durably at the call, and stands by; seconds waited."""
    start = time.monotonic()
    keeper = site.json("vm", "show", vm)["keeper"]

    def caught_up():
        shown = site.json("protection", "show", vm)
        return (shown.get("state") == "streaming" and shown.get("acknowledged", 0) >= keeper["durable"] and
                shown.get("acknowledged_incarnation") == keeper["durable_incarnation"] and shown["stands_by"])

    wait_until(caught_up, timeout, f"{vm} is replicated", interval=0.1)
    return time.monotonic() - start
