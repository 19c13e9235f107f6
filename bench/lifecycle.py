#!/usr/bin/env python3
"""Failovers of VMs whose source lives, to and fro between two sites under a write load; then the same while other commands
work on the VM at that very moment.

Every round has to end with the VM running at the target, stopped at the source, with every write that was acknowledged,
and protected the other way round without a command; or, beside another command, with a refusal whose mend leads there.
Anything else is a finding, and ends the bench with status 1.

The worlds are those that holdfast-explore walks in the same run. The last line is JSON; --json prints only that; --quick is
for trying it out.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from lib import nbd, probe, sequence_load, uefi_vars  # noqa: E402
from lib.mends import follow_mend  # noqa: E402
from lib.outcome import no_job_hangs  # noqa: E402
from lib.process import Failure, Processes, run, wait_until  # noqa: E402
from lib.sequence_load import Writer  # noqa: E402
from lib.site import CliError, Site, bin_dir, message_parts, pair, wait_protected  # noqa: E402

VMS = 3
RUNNING_MS_MAX = 3000
PROTECTED_S_MAX = 10
BESIDE_S_MAX = 240  # a roll-over waits for a verdict
SETTLED_S_MAX = 60
BESIDE = ("stop", "shut down", "start", "check", "attest", "rollover", "show", "enable", "disable", "fail over")
EXPLORER = [["--statements", "1", "--crashes", "1", "--words", "1", "--writes", "0"],
            ["--statements", "2", "--crashes", "0", "--words", "1", "--writes", "0", "--no-losses"],
            ["--from", "created", "--statements", "3", "--crashes", "0", "--words", "1", "--writes", "0", "--no-losses"]]


class Beside(threading.Thread):
    """A command at one of the sites, given `after` seconds after now."""

    def __init__(self, site, words, after, timeout=BESIDE_S_MAX):
        super().__init__(daemon=True)
        self.site, self.words, self._after, self._timeout = site, words, after, timeout
        self.refusal = None  # the three parts, if it was refused
        self.failure = None
        self.start()

    def run(self):
        time.sleep(self._after)
        try:
            done = self.site.cli(*self.words, timeout=self._timeout, check=False)
        except Failure as failure:
            self.failure = failure
            return
        if done.returncode != 0:
            self.refusal = message_parts(done.stderr)
            if done.returncode != 1 or not all(self.refusal.values()):
                self.failure = CliError(" ".join(map(str, self.words)), done.returncode, done.stderr)

    def ended(self):
        """What came of it, in a word. A finding if it neither worked nor was refused in three parts."""
        self.join(self._timeout + 30)
        if self.is_alive():
            raise Failure(f"`{' '.join(map(str, self.words))}` at {self.site.name} does not end")
        if self.failure:
            raise self.failure
        return "refused: " + self.refusal["cause"] if self.refusal else "done"


class Machine:
    """One VM, where it is, and its load."""

    disk = "disk1"  # the one that the load has for itself

    def __init__(self, name, home, other):
        self.name, self.home, self.other = name, home, other
        self.create()
        home.cli("vm", "start", name)
        home.cli("protection", "enable", name, "--to", other.name, timeout=120)
        wait_protected(home, name, 120)
        self.writer = None
        self.load_on(home, 0)

    def create(self):
        self.home.cli("vm", "create", self.name, "--blank", "16M", "--memory", "256M")

    def holder(self):
        """(the site that holds it, the other), as both say."""
        has = [any(vm["name"] == self.name for vm in site.json("vm", "list")) for site in (self.home, self.other)]
        here = [there and site.json("vm", "show", self.name)["title"]["here"] for site, there in zip((self.home, self.other), has)]
        if here.count(True) != 1:
            raise Failure(f"{self.name} is held by {here.count(True)} sites")
        return (self.home, self.other) if here[0] else (self.other, self.home)

    def verify(self, site):
        """It has what was acknowledged, and nothing out of order; the newest write that is there."""
        disk = nbd.Nbd(site.run_dir(self.name) / f"{self.disk}.nbd", self.disk)
        there = sequence_load.verify(disk, self.writer.number)
        disk.close()
        return there

    def load_on(self, site, number):
        self.writer = Writer(site.run_dir(self.name) / f"{self.disk}.nbd", number, self.disk)

    def settled(self):
        """What else has to be so before the next round."""


class ProbeMachine(Machine):
    """A guest whose disk is sealed to PCR 7, and whose keys can be rolled over: it unlocks after every failover."""

    disk = "disk3"

    def __init__(self, name, home, other, directory, kek):
        self.kek = kek
        self.image, self.data = directory / "probe.img", probe.make_data_disk(directory / "data", rate=1)
        run(["cp", "--sparse=always", probe.image(), self.image])
        for path in (self.image, self.data):
            path.chmod(0o644)
        super().__init__(name, home, other)
        self.settled()

    def create(self):
        self.home.cli("vm", "create", self.name, "--disk", self.image, "--disk", self.data, "--blank", "16M", "--memory", "512M",
                      timeout=300)

    def way(self):
        """A roll-over that has something to change."""
        for profile in ("microsoft-2011+2023", "microsoft-2011"):
            words = ["secure-boot", "rollover", self.name, "--to", profile, "--guest", "linux", "--kek", self.kek]
            if self.home.cli(*words, "--dry-run", check=False).returncode == 0:
                return words
        raise Failure(f"{self.name}: its keys can be rolled over to nothing")

    def settled(self):
        console = self.home.vm_console(self.name)
        probe.wait_unlocked(console, 200)
        wait_until(lambda: self.home.json("attest", "show", self.name)["newest"].get("verdict") == "Healthy", 200,
                   f"{self.name}'s boot is Healthy", interval=0.5)


def runs_at(site, name):
    shown = site.json("vm", "show", name)
    return shown["state"] == "running" and bool(shown["qemu_pid"])


def at_rest(site, name):
    """It stands by there: nothing of it runs with a key."""
    shown = site.json("vm", "show", name)
    return shown["state"] == "standby" and not shown["qemu_pid"] and not shown["keeper_pid"]


class Bench:
    def __init__(self, sites, seed, say, directory):
        self.sites, self.say, self.directory = sites, say, directory
        self.random = random.Random(seed)
        self.running_ms, self.protected_ms = [], []
        self.counts = {}  # kind: {"rounds", "done", "refused"}
        self.findings = []
        self.beside = BESIDE
        self.probe = None

    def probe_machine(self):
        if self.probe is None:
            _, kek = uefi_vars.make_key(self.directory, "kek", "Holdfast bench KEK")
            self.probe = ProbeMachine("rolls", *self.sites, self.directory, kek)
        return self.probe

    # -- what is given beside

    def words_beside(self, kind, machine):
        """(the site, the command, from when to when it is given, in seconds from the failover's)."""
        name, source, target = machine.name, machine.home, machine.other
        either = self.random.choice((source, target))
        peer = target if either is source else source
        if kind == "rollover":  # seal, stop, change, start: some 30 s on this machine
            return source, machine.way(), -30.0, 0.3
        return {
            "stop": (source, ["vm", "stop", name, "--force"], -0.4, 0.5),
            "shut down": (source, ["vm", "stop", name, "--timeout", "2"], -2.5, 0.5),
            "start": (either, ["vm", "start", name], -0.3, 0.6),
            "check": (either, ["vm", "check", name], -0.3, 0.6),
            "attest": (either, ["attest", "check", name], -0.3, 0.6),
            "show": (either, ["protection", "show", name], -0.2, 0.5),
            "enable": (either, ["protection", "enable", name, "--to", peer.name], -0.3, 0.6),
            "disable": (source, ["protection", "disable", name], -0.3, 0.5),
            "fail over": (target, ["failover", "unplanned", name, "--yes"], -0.2, 0.4),
        }[kind]

    # -- one round

    def round(self, kind, machine):
        """True: it was failed over at the first command."""
        count = self.counts.setdefault(kind, {"rounds": 0, "done": 0, "refused": 0})
        count["rounds"] += 1
        beside = None
        if kind != "alone":
            site, words, first, last = self.words_beside(kind, machine)
            at = self.random.uniform(first, last)
            beside = Beside(site, words, max(at, 0.0))
            time.sleep(max(-at, 0.0))
        source, target, name = machine.home, machine.other, machine.name
        try:
            job, refusal = target.json("failover", "unplanned", name, "--yes", timeout=90), None
        except CliError as error:
            job, refusal = None, error.parts()
            if error.status != 1 or not all(refusal.values()):
                raise
        done = time.monotonic()
        if refusal is None:
            count["done"] += 1
            machine.home, machine.other = target, source
            self.after_failover(kind, machine, job, beside, done)
        else:
            count["refused"] += 1
            self.after_refusal(kind, machine, refusal, beside)
        return refusal is None

    def after_failover(self, kind, machine, job, beside, done):
        name, here, there = machine.name, machine.home, machine.other
        number = machine.writer.end()
        if there.json("vm", "show", name)["qemu_pid"]:
            raise Failure(f"{name} runs at {here.name}, and its guest at {there.name} is not gone")
        wait_until(lambda: runs_at(here, name), 0.1 if beside is None else SETTLED_S_MAX, f"{name} runs at {here.name}")
        newest = machine.verify(here)
        machine.load_on(here, newest)
        wait_until(lambda: at_rest(there, name), PROTECTED_S_MAX, f"{name} stands by at {there.name}", interval=0.05)
        wait_protected(here, name, PROTECTED_S_MAX)
        again = time.monotonic() - done
        self.running_ms.append(job["failover_ms"])
        self.protected_ms.append(round(again * 1000))
        came = f"; beside it {beside.site.name}: {' '.join(map(str, beside.words[:3]))}: {beside.ended()}" if beside else ""
        phases = " ".join(f"{phase} {ms}" for phase, ms in job["phases_ms"].items())
        self.say(f"{name} to {here.name}, {kind}: runs after {job['failover_ms']} ms ({phases}), protected again after {again:.1f} s, "
                 f"{number} writes were acknowledged and {newest} are there{came}")
        self.settled(kind, machine)

    def after_refusal(self, kind, machine, refusal, beside):
        """What was refused leads on by what the refusal says, once the other command has ended."""
        name, source, target = machine.name, machine.home, machine.other
        if beside is None:
            raise Failure(f"{name} was not failed over: {refusal}")
        came = beside.ended()
        self.say(f"{name}, {kind}: refused: {refusal['cause']}; mend: {refusal['mend']}; beside it "
                 f"{beside.site.name}: {' '.join(map(str, beside.words[:3]))}: {came}")
        said = follow_mend(refusal["mend"], target, self.sites)
        self.say(f"  by its mend: {said}")
        machine.home, machine.other = machine.holder()
        if machine.home is source:
            # The operator ended the protection: he has what he wanted, and begins anew.
            if kind == "disable" and not self.protected(machine):
                source.cli("protection", "enable", name, "--to", target.name)
                wait_protected(source, name, SETTLED_S_MAX)
            target.cli("failover", "unplanned", name, "--yes", timeout=90)
            machine.home, machine.other = target, source
        machine.writer.end()
        self.settled(kind, machine, restart=True)

    def protected(self, machine):
        return any(one.get("vm") == machine.name for one in machine.home.json("protection", "show"))

    def settled(self, kind, machine, restart=False):
        """However a round went: one site holds the VM and can run it, with all its writes, and it is protected again."""
        name, here, there = machine.name, machine.home, machine.other
        if there.json("vm", "show", name)["qemu_pid"]:
            raise Failure(f"{name}, {kind}: it runs at {there.name}, and {here.name} holds it")
        title = here.json("vm", "show", name)["title"]
        if title["rivals"] or title["holder"] != here.name:
            raise Failure(f"{name}, {kind}: its title: {title}")
        if not runs_at(here, name):
            here.cli("vm", "start", name)
            restart = True
        if restart:
            machine.load_on(here, machine.verify(here))
        if kind == "disable" and not self.protected(machine):
            here.cli("protection", "enable", name, "--to", there.name)
        wait_protected(here, name, SETTLED_S_MAX)
        machine.settled()

    def summary(self):
        rounds = sum(count["rounds"] for count in self.counts.values())
        return {"live_failovers": rounds, "live_failovers_ok": rounds - len(self.findings),
                "refused_and_mended": sum(count["refused"] for count in self.counts.values()),
                "running_ms_p50": percentile(self.running_ms, 50), "running_ms_p99": percentile(self.running_ms, 99),
                "protected_again_ms_p50": percentile(self.protected_ms, 50),
                "protected_again_ms_p99": percentile(self.protected_ms, 99)}


def percentile(values, percent):
    """The smallest value that so many percent do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def explore(quick):
    """Every order of steps, by the title's own code: {"worlds", "dead_ends"}, of all walks."""
    worlds = dead_ends = 0
    for bounds in EXPLORER[:1 if quick else None]:
        said = run([bin_dir() / "holdfast-explore", *bounds], timeout=600, check=False)
        found = re.search(r"(\d+) worlds, (\d+) dead_ends", said.stdout)
        if not found or said.returncode != 0:
            raise Failure(f"holdfast-explore {' '.join(bounds)}: {said.stdout[-2000:]}{said.stderr[-2000:]}")
        worlds, dead_ends = worlds + int(found[1]), dead_ends + int(found[2])
    return {"worlds": worlds, "dead_ends": dead_ends}


def cases():
    """The effects of every act, each killed, cut, lost and doubled, in the lifecycle's simulator. A case that fails ends the run."""
    said = run([bin_dir() / "holdfast-lifecycle", "--cases"], timeout=600, check=False)
    found = re.search(r"cases enumerated: (\d+), .* run: (\d+), failed: 0", said.stdout)
    if not found:
        return {"cases_enumerated": None, "cases_run": None}
    return {"cases_enumerated": int(found[1]), "cases_run": int(found[2])}


def rounds(bench, machines, alone, beside):
    """`alone` rounds, then `beside` with each other command; a finding is kept, and the next VM goes on."""
    kinds = ["alone"] * alone + [kind for kind in bench.beside if kind != "rollover" for _ in range(beside)]
    bench.random.shuffle(kinds)
    kinds += ["rollover"] * (beside if "rollover" in bench.beside else 0)
    for number, kind in enumerate(kinds):
        try:
            machine = bench.probe_machine() if kind == "rollover" else machines[number % len(machines)]
            bench.round(kind, machine)
        except Failure as failure:
            bench.findings.append(f"round {number + 1}, {kind}: {failure}")
            bench.say(f"FOUND: {bench.findings[-1]}")
            break


def table(bench, cases_here, walked):
    lines = [f"{'beside it':12s} {'rounds':>6s} {'done':>6s} {'refused, and its mend led on':>30s}"]
    lines += [f"{kind:12s} {count['rounds']:6d} {count['done']:6d} {count['refused']:30d}" for kind, count in bench.counts.items()]
    summary = bench.summary()
    lines.append(f"running after {summary['running_ms_p50']} ms (p50), {summary['running_ms_p99']} ms (p99); protected again after "
                 f"{summary['protected_again_ms_p50']} ms, {summary['protected_again_ms_p99']} ms")
    lines.append(f"explorer: {walked['worlds']} worlds, {walked['dead_ends']} dead ends")
    lines.append("cases: not all of them ended well: holdfast-lifecycle --cases" if cases_here["cases_run"] is None else
                 f"cases: {cases_here['cases_run']} run of {cases_here['cases_enumerated']}")
    return "\n".join(lines)


def measure(directory, arguments, say):
    with Processes(directory) as processes:
        sites = north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        try:
            for site in sites:
                site.init()
                site.start()
            pair(north, south)
            bench = Bench(sites, arguments.seed, say, directory)
            bench.beside = arguments.only or BESIDE
            machines = [Machine(f"vm{number + 1}", north, south) for number in range(VMS)]
            rounds(bench, machines, arguments.alone, arguments.beside)
            if not bench.findings:
                no_job_hangs(north, south)
            return bench
        finally:
            north.end()
            south.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--alone", type=int, help="rounds with nothing beside")
    parser.add_argument("--only", action="append", choices=BESIDE, help="beside this command alone; may be repeated")
    parser.add_argument("--beside", type=int, help="rounds with each other command beside")
    arguments = parser.parse_args()
    if arguments.alone is None:
        arguments.alone = 9 if arguments.quick else 50
    if arguments.beside is None:
        arguments.beside = 1 if arguments.quick else 6

    def say(text):
        if not arguments.json:
            print(text, flush=True)

    say(f"seed {arguments.seed}")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-lifecycle-"))
    directory.chmod(0o711)
    started = time.monotonic()
    bench = measure(directory, arguments, say)
    cases_here, walked = cases(), explore(arguments.quick)
    say(table(bench, cases_here, walked))
    summary = {"bench": "lifecycle", "quick": arguments.quick, "seed": arguments.seed, **bench.summary(), **cases_here, **walked,
               "seconds": round(time.monotonic() - started)}
    late = [name for name, most in (("running_ms_p99", RUNNING_MS_MAX), ("protected_again_ms_p99", PROTECTED_S_MAX * 1000))
            if summary[name] is not None and summary[name] > most]
    if bench.findings:
        print(f"logs and disks are kept in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    for finding in bench.findings + [f"{name} is {summary[name]}" for name in late]:
        print(f"bench: {finding}", file=sys.stderr)
    print(json.dumps(summary))
    return 1 if bench.findings or late or walked["dead_ends"] or cases_here["cases_run"] is None else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"bench: {failure}")
