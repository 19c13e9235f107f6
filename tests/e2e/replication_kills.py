#!/usr/bin/env python3
# timeout: 400
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""Under load the replica's keeper and the link at either site are killed: replication goes on by itself, and nothing that the
replica had acknowledged is lost. A replica whose data its keeper cannot open is shown with its error at both sites, disturbs
no other, and goes on once the data are mended.

HOLDFAST_KILLS=n (environment) sets how often each is killed; 4 by default.
"""

import os
import signal
import time

from lib.outcome import has_all_writes
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.sequence_load import Writer
from lib.site import Site, pair, wait_protected

KILLS = int(os.environ.get("HOLDFAST_KILLS", "4"))
TRIES_MAX = 10  # in 3 s: the pause between them grows from 0.1 to 10 s
RESUME_MAX = 10  # seconds; the link's first pauses are 100 ms


def acknowledged(north, vm):
    return north.json("protection", "show", vm).get("acknowledged", 0)


def durable(south, vm):
    return south.json("protection", "show", vm).get("durable", 0)


def kill_one(north, south, vm, what, site, program):
    before = acknowledged(north, vm)
    (victim,) = site.pids_of(program)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    there = wait_until(lambda: durable(south, vm), 20, "the replica answers", interval=0.02)
    if there < before:
        raise Failure(f"{what} was killed: {before} were acknowledged, {there} are there")
    reach = north.json("vm", "show", vm)["keeper"]["durable"]
    wait_until(lambda: acknowledged(north, vm) > reach, 30, f"replication goes on after {what} was killed", interval=0.02)
    return time.monotonic() - killed


def killed_under_load(north, south):
    writer = Writer(north.run_dir("a") / "disk1.nbd")
    for what, site, program in (("the replica's keeper", south, "holdfast-keeper"), ("south's link", south, "holdfast-link"),
                                ("north's link", north, "holdfast-link")):
        times = [kill_one(north, south, "a", what, site, program) for _ in range(KILLS)]
        check(max(times) < RESUME_MAX, f"{what} was killed {KILLS} times under load: all that was acknowledged is there, "
              f"and new records arrive after {min(times):.1f} to {max(times):.1f} s")
    writer.stop()
    wait_protected(north, "a")
    return writer.number


def error_shown(site, vm):
    return site.json("protection", "show", vm).get("error", {}).get("cause", "")


def bad_replica(north, south, number):
    manifest = south.state / "vms" / south.vm_id("b") / "journal" / "MANIFEST"
    good = manifest.read_bytes()
    before = set(south.pids_of("holdfast-keeper"))
    writer = Writer(north.run_dir("a") / "disk1.nbd", number)
    began = acknowledged(north, "a")
    with open(manifest, "r+b") as file:
        file.write(os.urandom(len(good)))
    for pid in south.keepers_of("b"):
        os.kill(pid, signal.SIGKILL)
    cause = wait_until(lambda: "MANIFEST" in error_shown(south, "b") and error_shown(south, "b"), 60, "south shows the error", interval=0.1)
    check(True, f"south shows why the replica takes nothing: {cause}")
    cause = wait_until(lambda: "MANIFEST" in error_shown(north, "b") and error_shown(north, "b"), 60, "north shows the error", interval=0.1)
    check(True, f"north shows it too: {cause}")
    log = south.state / "run/log/daemon.log"
    said = log.read_text(errors="replace").count("replica of b")
    time.sleep(3)
    said = log.read_text(errors="replace").count("replica of b") - said
    check(0 <= said <= TRIES_MAX, f"north tries again at a pace: {said} times in 3 s")
    shown = north.json("protection", "show", "a")
    check(shown["state"] == "streaming" and shown["acknowledged"] > began and "error" not in shown, "the other VM's replication goes on")
    check(len(before & set(south.pids_of("holdfast-keeper"))) == 1, "its replica's keeper is the same process")
    writer.stop()
    with open(manifest, "r+b") as file:
        file.write(good)
    waited = time.monotonic()
    wait_protected(north, "b", 90)
    check("error" not in south.json("protection", "show", "b"), f"mended, it goes on by itself ({time.monotonic() - waited:.0f} s)")
    return writer.number


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.cli("vm", "create", "a", "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", "a")
            north.cli("protection", "enable", "a", "--to", "south")
            wait_protected(north, "a")
            daemons = [site.pids_of("holdfastd") for site in (north, south)]
            number = killed_under_load(north, south)
            step(f"{number} writes so far")
            north.cli("vm", "create", "b", "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", "b")
            north.cli("protection", "enable", "b", "--to", "south")
            wait_protected(north, "b")
            number = bad_replica(north, south, number)
            check(daemons == [site.pids_of("holdfastd") for site in (north, south)], "both holdfastd live on")
            wait_protected(north, "a")
            south.cli("failover", "unplanned", "a", "--yes")
            has_all_writes(south, "a", number)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
