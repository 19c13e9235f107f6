#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""While a VM is handed over, other commands work on its protection: the hand-over ends as if alone, the others are refused
with what leads on, and the guest is not stopped for nothing.
"""

import os
import signal
import threading
import time

from lib import nbd, sequence_load
from lib.mends import follow_mend
from lib.outcome import no_job_hangs
from lib.process import Failure, Processes, wait_until
from lib.report import check, main
from lib.sequence_load import Writer
from lib.site import CliError, Site, pair, wait_protected

FAILOVER_MS_MAX = 8000
HELD_BACK_S = 1.5  # the tail is on its way so much longer; a hand-over waits for it 10 s


class Command(threading.Thread):
    """A command beside others: its output, or the three parts of its refusal."""

    def __init__(self, site, *words):
        super().__init__(daemon=True)
        self.site, self.words, self.parts, self.answer, self.failure = site, words, None, None, None
        self.start()

    def run(self):
        try:
            self.answer = self.site.json(*self.words, timeout=90)
        except CliError as error:
            self.parts = error.parts()
        except Failure as failure:
            self.failure = failure

    def ended(self):
        self.join(100)
        if self.is_alive() or self.failure:
            raise self.failure or Failure(f"`{' '.join(self.words)}` does not end")
        return self


def protect(home, other, name):
    home.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
    home.cli("vm", "start", name)
    home.cli("protection", "enable", name, "--to", other.name)
    wait_protected(home, name)
    return Writer(home.run_dir(name) / "disk1.nbd")


def went_over(north, south, name, writer, failover, other):
    """The hand-over has ended as if alone; the other command was refused, and how."""
    number = writer.end()
    failover.ended()
    check(failover.answer, f"`{' '.join(other.words)}` beside it: the hand-over ends all the same: {failover.parts or ''}")
    check(failover.answer["failover_ms"] < FAILOVER_MS_MAX, f"after {failover.answer['failover_ms']} ms")
    other.ended()
    check(other.parts and all(other.parts.values()), f"and that is refused: {other.parts or other.answer}")
    has_all_writes_of(south, name, number)
    wait_until(lambda: north.json("vm", "show", name)["state"] == "standby", 10, f"{name} stands by at north")
    wait_protected(south, name, 10)
    return other.parts


def begun_during(north, south, name, *words):
    """`words` at north while its tail is on the way: south's keeper stands still from when the guest is dead."""
    writer = protect(north, south, name)
    qemu = north.qemu_pid(name)
    (keeper,) = south.pids_of("holdfast-keeper")
    failover = Command(south, "failover", "unplanned", name, "--yes")
    wait_until(lambda: not os.path.exists(f"/proc/{qemu}"), 10, f"{name}'s guest is stopped", interval=0.001)
    os.kill(keeper, signal.SIGSTOP)
    other = Command(north, *words)
    time.sleep(HELD_BACK_S)
    os.kill(keeper, signal.SIGCONT)
    return went_over(north, south, name, writer, failover, other)


def begun_before(north, south, name, *words):
    """`words` at north, which asks its keeper, and that stands still until the order to hand the VM over is there."""
    writer = protect(north, south, name)
    keeper = north.keeper_pid(name)
    os.kill(keeper, signal.SIGSTOP)
    other = Command(north, *words)
    wait_until(lambda: any(job["subject"] == name and job["state"] == "running" and job["kind"].startswith("protection")
                           for job in north.json("job", "list")), 5, f"`{' '.join(words)}` is at work", interval=0.01)
    failover = Command(south, "failover", "unplanned", name, "--yes")
    time.sleep(0.5)
    os.kill(keeper, signal.SIGCONT)
    return went_over(north, south, name, writer, failover, other)


def tail_comes_late(north, south, name):
    """What is not there by then is said; the VM runs on at north, and the mend leads on."""
    writer = protect(north, south, name)
    qemu = north.qemu_pid(name)
    (keeper,) = south.pids_of("holdfast-keeper")
    failover = Command(south, "failover", "unplanned", name, "--yes", "--wait-for-tail", "2s")
    wait_until(lambda: not os.path.exists(f"/proc/{qemu}"), 10, f"{name}'s guest is stopped", interval=0.001)
    os.kill(keeper, signal.SIGSTOP)
    wait_until(lambda: (guest := north.json("vm", "show", name)["qemu_pid"]) and guest != qemu, 30, f"{name} runs again at north",
               interval=0.1)
    os.kill(keeper, signal.SIGCONT)
    failover.ended()
    parts = failover.parts or {"cause": ""}
    check("within 2 s" in parts["cause"] and "--wait-for-tail" in parts["cause"], f"the tail comes late: {parts['cause']}")
    number = writer.end()
    has_all_writes_of(north, name, number)
    wait_protected(north, name, 20)
    said = follow_mend(parts["mend"], south, (north, south))
    check(south.json("vm", "show", name)["state"] == "running", f"its mend leads on: {said}")
    has_all_writes_of(south, name, number)


def rid_of(north, south, name, parts):
    said = follow_mend(parts["mend"], north, (north, south))
    if any(vm["name"] == name for vm in north.json("vm", "list")):
        south.cli("protection", "disable", name)
    check(not any(vm["name"] == name for vm in north.json("vm", "list")), f"north is rid of it: {said}")
    south.cli("vm", "stop", name, "--force")
    south.cli("vm", "delete", name, "--yes")


def has_all_writes_of(site, name, number):
    """At least what was flushed; the guest was stopped in the middle of a batch."""
    disk = nbd.Nbd(site.run_dir(name) / "disk1.nbd", "disk1")
    check(sequence_load.verify(disk, number) >= number, f"at {site.name} {name} has all that was acknowledged")
    disk.close()


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            rid_of(north, south, "first", begun_before(north, south, "first", "protection", "disable", "first"))
            rid_of(north, south, "ends", begun_during(north, south, "ends", "protection", "disable", "ends"))
            parts = begun_during(north, south, "again", "protection", "enable", "again", "--to", "south")
            rid_of(north, south, "again", parts)
            tail_comes_late(north, south, "late")
            no_job_hangs(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
