#!/usr/bin/env python3
# timeout: 900
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper holdfast-effects
"""kill -9 of holdfastd, of the vault and of the VM's keeper right before and right after each effect of each act of a VM's
life, between two living sites, with the link up or cut for a while. Each ends, by itself or by the command that is named, with the VM running at one site, with
all that it had written, and protected by the other.

The cases are computed from the machine's own tables (holdfast-effects). HOLDFAST_CASES=K/N (environment) runs every N-th,
from the K-th; "all" runs all; a number runs that one. By default every N-th by a seed, HOLDFAST_SEED or one of its own.
HOLDFAST_LANES says how many pairs of sites work side by side.
"""

import collections
import contextlib
import os
import pathlib
import queue
import random
import re
import resource
import signal
import subprocess
import threading
import time
import traceback

from lib import nbd
from lib.held import Hold
from lib.mends import follow_mend, steps_of
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main, step
from lib.scenes import scene_of, silent
from lib.site import CliError, Site, bin_dir, message_parts, pair, wait_protected

PARTS = 10  # of them one, by default
LANES = int(os.environ.get("HOLDFAST_LANES", "3"))
VICTIMS = ("daemon", "vault", "keeper")
COMMAND_S_MAX = 90
ENDS_S_MAX = 60
CUT_S = 3
BY_ITSELF_S = 15  # a pause of the follower's is 5 s at most, the caretaker's likewise
MARK = 4 << 20
COMMANDS_MAX = 4
AGAIN = re.compile(r"^(repeat the command|try again|the same again)|[;:] (then )?try again$")

Case = collections.namedtuple("Case", "number act effect moment victim link")


def all_cases():
    effects = [line.split() for line in run([bin_dir() / "holdfast-effects"]).stdout.splitlines()]
    return [Case(number, *which) for number, which in enumerate(
        (act, effect, moment, victim, link) for link in ("up", "cut") for act, effect in effects for moment in ("before", "after")
        for victim in VICTIMS)]


def name_of(case):
    return f"{case.number} {case.act} {case.effect}: {case.victim} killed {case.moment}, link {case.link}"


class Stage:
    """Two sites and one VM, which `home` holds and runs, and `other` stands by for."""

    def __init__(self, directory, number):
        directory.mkdir(mode=0o711)
        self.processes = Processes(directory)
        self.sites = [Site(self.processes, directory, name, 310000 + 100000 * number + 50000 * at)
                      for at, name in enumerate(("north", "south"))]
        self.home, self.other = self.sites
        self.vm = self.vm_id = self.moment = None
        self.written = self.made = 0
        self.begun = []  # [(site, words, process)]
        self.holds = []
        self.commands = []  # that an operator had to give, in words

    def open(self):
        for site in self.sites:
            site.init()
            site.start()
        pair(*self.sites)
        self.make()

    def cpu_seconds(self):
        """Of all its processes, those that ended among them."""
        ticks = 0
        for site in self.sites:
            for pid in site.pids() if site.launcher else ():
                with contextlib.suppress(OSError):
                    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                    ticks += sum(int(field) for field in fields[11:15])  # its own, and of those that it has reaped
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self):
        for site in self.sites:
            site.end()
        self.processes.stop_all()

    def make(self):
        """Another VM, whatever became of the last."""
        self.made += 1
        self.vm = f"vm{self.made}"
        self.home, self.other = self.sites
        self.home.cli("vm", "create", self.vm, "--blank", "16M", "--memory", "256M")
        self.vm_id = self.home.vm_id(self.vm)
        self.home.cli("vm", "start", self.vm)
        self.home.cli("protection", "enable", self.vm, "--to", self.other.name)
        wait_protected(self.home, self.vm)
        self.written = 0

    def begin_anew(self):
        """After a finding: what is left of the VM runs nothing any more."""
        self.commands_end(expected=True)
        for site in self.sites:
            site.wait_answers()
            site.cli("vm", "stop", self.vm, "--force", check=False)
        self.make()

    # -- what scenes use

    def hold(self, site, moment):
        self.holds.append(Hold(site, self.vm_id, moment))
        return self.holds[-1]

    def begin(self, site, *words):
        argv = [str(word) for word in site.argv(*words)]
        self.begun.append((site, words, subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)))

    def commands_end(self, expected=False):
        """[(site, the three parts)] of those that were refused; none of them where it was `expected`."""
        refused = []
        for site, words, process in self.begun:
            try:
                said = process.communicate(timeout=COMMAND_S_MAX)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                raise Failure(f"`{' '.join(words)}` at {site.name} does not end") from None
            parts = message_parts(said)
            if process.returncode == 0:
                continue
            if not all(parts.values()):
                raise Failure(f"`{' '.join(words)}` at {site.name}: {said}")
            refused.append((site, words, parts))
        self.begun = []
        self.refused += [] if expected else refused

    # -- one case

    def write(self):
        """And the guest has to wait behind all else: its firmware would take a whole core for some seconds."""
        self.written += 1
        for thread in os.listdir(f"/proc/{self.home.qemu_pid(self.vm_id)}/task"):
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread), 19)
        disk = nbd.Nbd(self.home.state / "run/vms" / self.vm_id / "disk1.nbd", "disk1")
        disk.write(MARK, self.written.to_bytes(8, "little") * 512)
        disk.flush()
        disk.close()
        wait_protected(self.home, self.vm)

    def has_it_all(self):
        disk = nbd.Nbd(self.home.state / "run/vms" / self.vm_id / "disk1.nbd", "disk1")
        there = int.from_bytes(disk.read(MARK, 4096)[:8], "little")
        disk.close()
        if there != self.written:
            raise Failure(f"{self.written} was written, and {there} is there")

    def kill(self, case, site):
        other = self.sites[self.sites.index(site) - 1]
        if case.victim == "keeper":
            victims = site.keepers_of(self.vm_id) or other.keepers_of(self.vm_id)
        else:
            victims = site.pids_of({"daemon": "holdfastd", "vault": "holdfast-vault"}[case.victim])
        if not victims and case.victim != "keeper":
            raise Failure(f"{site.name} has no {case.victim}")
        killed = 0
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def run(self, case):
        self.commands, self.refused, self.holds = [], [], []
        self.write()
        self.moment = f"{case.act} {case.effect} {case.moment}"
        where = []

        def arm(site):
            where.append(self.hold(site, self.moment))

        scene = scene_of(case.act, case.effect)(self, arm)
        try:
            next(scene)
            where[-1].wait()
            with contextlib.ExitStack() as cut:
                if case.link == "cut":
                    for site in self.sites:
                        cut.enter_context(silent(site))
                killed = self.kill(case, where[-1].site)
                where[-1].drop()
                time.sleep(CUT_S if case.link == "cut" else 0)
            for _ in scene:
                pass
        finally:
            for hold in self.holds:
                hold.drop()
            scene.close()
        self.commands_end()
        self.ends()
        self.has_it_all()
        return killed

    # -- how it ends

    def look(self):
        """{site: what `vm show` says}; without the sites that have nothing of it. None while one does not answer."""
        shown = {}
        for site in self.sites:
            try:
                shown[site] = site.json("vm", "show", self.vm_id)
            except Failure as failure:
                if not isinstance(failure, CliError) or "no VM" not in failure.stderr:
                    return None
        return shown

    def goal(self, shown):
        """It runs at one site, and the other stands by: whichever they are now."""
        if not shown or len(shown) != 2:
            return False
        for site in self.sites:
            other = self.sites[self.sites.index(site) - 1]
            if not shown[site]["title"]["here"] or shown[site]["state"] != "running" or not shown[site]["qemu_pid"]:
                continue
            there = shown[other]
            if there["state"] != "standby" or there["qemu_pid"] or there["title"]["here"] or there["title"]["rivals"]:
                return False
            protection = site.json("protection", "show", self.vm_id) if shown[site]["protected"] else {}
            if protection.get("state") != "streaming" or not protection.get("stands_by") or shown[site]["title"]["rivals"]:
                return False
            self.home, self.other = site, other
            return True
        return False

    def busy(self):
        return any(job["state"] in ("running", "queued") and job["subject"] == self.vm for site in self.sites
                   for job in site.json("job", "list"))

    def give(self, site, *words):
        """A command that an operator gives, and what its refusal says to do."""
        self.commands.append(f"{site.name}: {' '.join(words[:2])}")
        if len(self.commands) > COMMANDS_MAX:
            raise Failure(f"it is not at its end after: {'; '.join(self.commands)}")
        try:
            site.cli(*words, timeout=COMMAND_S_MAX)
        except CliError as error:
            self.commands[-1] += f" ({error.parts()['cause']})"
            if not all(error.parts().values()):
                raise
            self.do(site, words, error.parts()["mend"])

    def do(self, site, words, mend):
        steps = steps_of(mend, site, self.sites)
        if AGAIN.search(mend) or (len(steps) == 1 and steps[0] == (site, list(words[:len(steps[0][1])]))):
            self.give(site, *words)  # as he meant it: with --force, say
        elif steps:
            self.commands.append(f"by its mend: {follow_mend(mend, site, self.sites)}")

    def obvious(self, shown):
        """(site, words) of what an operator gives who sees this, and wants it to run and protected. None: wait."""
        holders = [site for site in self.sites if site in shown and shown[site]["title"]["here"]]
        if len(holders) != 1:
            return None
        (holder,) = holders
        other = self.sites[self.sites.index(holder) - 1]
        here, there = shown[holder], shown.get(other)
        if here["title"]["rivals"]:
            return holder, ("failover", "settle", self.vm, "--keep", holder.name, "--yes")
        if here["state"] != "running" and here["role"] == "standby":
            return holder, ("failover", "unplanned", self.vm, "--yes")
        if here["state"] != "running":
            return holder, ("vm", "start", self.vm)
        if not here["protected"] or (there and there["state"] == "superseded"):
            return holder, ("protection", "enable", self.vm, "--to", other.name)
        return None

    def ends(self):
        for site, words, parts in self.refused:
            site.wait_answers()
            self.do(site, words, parts["mend"])
        end, by_itself = time.monotonic() + ENDS_S_MAX, time.monotonic() + BY_ITSELF_S
        before, since = None, 0
        while time.monotonic() < end:
            shown = self.look()
            if self.goal(shown):
                return
            due = self.obvious(shown) if shown and not self.busy() else None
            if due != before:
                before, since = due, time.monotonic()
            # What looks the same for a moment is what an operator sees.
            if due and time.monotonic() - since > 1:
                self.give(due[0], *due[1])
                before, by_itself = None, time.monotonic() + BY_ITSELF_S
            if not due and time.monotonic() > by_itself:
                break
            time.sleep(0.1)
        raise Failure(f"it does not come to its end; given: {self.commands}; " + "; ".join(
            f"{site.name}: {said['state']}, here {said['title']['here']}, rivals {len(said['title']['rivals'])}, protected "
            f"{said['protected']}, {site.json('protection', 'show', self.vm_id) if said['protected'] else ''}"
            for site, said in (self.look() or {}).items()))


class Lane(threading.Thread):
    def __init__(self, directory, number, cases, findings, counts):
        super().__init__(daemon=True)
        self.stage = Stage(directory / f"lane{number}", number)
        self.cases, self.findings, self.counts = cases, findings, counts
        self.start()

    def run(self):
        try:
            self.stage.open()
            while True:
                try:
                    case = self.cases.get_nowait()
                except queue.Empty:
                    return
                self.case(case)
        except Exception as error:  # a finding, whatever it is: it must not end a lane silently
            self.findings.append(f"a lane ended: {error!r}")
            traceback.print_exc()

    def case(self, case):
        began = time.monotonic()
        try:
            killed = self.stage.run(case)
            self.counts["run"] += 1
            self.counts["nothing to kill"] += not killed
            self.counts[f"{len(self.stage.commands)} commands"] += 1
            refusals = "; ".join(f"{words[0]} {words[1]}: {parts['cause']}" for _, words, parts in self.stage.refused)
            step(f"{name_of(case)}: {time.monotonic() - began:.1f} s{'' if killed else '; there was none'}"
                 f"{'; ' + refusals if refusals else ''}{'; given: ' + '; '.join(self.stage.commands) if self.stage.commands else '; by itself'}")
        except (Failure, OSError, ConnectionError) as failure:
            self.findings.append(f"{name_of(case)}: {failure}")
            step(f"FOUND: {self.findings[-1]}; refused: {[(words, parts) for _, words, parts in self.stage.refused]}; "
                 f"given: {self.stage.commands}")
            self.stage.begin_anew()


def chosen(cases):
    wanted = os.environ.get("HOLDFAST_CASES", "")
    if wanted == "all":
        return cases
    if "," in wanted or (wanted and "/" not in wanted):
        return [cases[int(number)] for number in wanted.split(",")]
    if wanted:
        part, parts = (int(word) for word in wanted.split("/"))
    else:
        seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(PARTS)))
        part, parts = seed % PARTS, PARTS
        step(f"HOLDFAST_SEED={seed}")
    return cases[part::parts]


def test(directory):
    directory.chmod(0o711)
    cases = all_cases()
    missing = sorted({f"{case.act} {case.effect}" for case in cases if scene_of(case.act, case.effect) is None})
    check(not missing, f"{len(cases)} cases are enumerated, and it is said how each comes about{': but ' + str(missing) if missing else ''}")
    due = chosen(cases)
    random.Random(len(due)).shuffle(due)  # long ones spread over the lanes
    waiting = queue.Queue()
    for case in due:
        waiting.put(case)
    findings, counts = [], collections.Counter()
    lanes = [Lane(directory, number, waiting, findings, counts) for number in range(min(LANES, len(due)))]
    try:
        for lane in lanes:
            lane.join()
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        spent = sum(lane.stage.cpu_seconds() for lane in lanes) + sum(one.ru_utime + one.ru_stime for one in ours)
        step(f"{spent:.0f} s of one core")
    finally:
        for lane in lanes:
            lane.stage.close()
    step(f"cases enumerated: {len(cases)}, due here: {len(due)}, run: {counts['run']}; {dict(counts)}")
    if findings:
        raise Failure("\n".join(findings))
    check(counts["run"] == len(due), "each of them was run")


if __name__ == "__main__":
    main(test)
