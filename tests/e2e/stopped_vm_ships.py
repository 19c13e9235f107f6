#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""A VM that is stopped while its other site is down: when that is back, the replica gets level without the VM being started,
by a keeper without the key that ends before anything else has the directory.
"""

import random

from lib import nbd, sequence_load
from lib.outcome import has_all_writes
from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

MIB = 1 << 20


def write(north, number, mib):
    """`mib` MiB of noise behind the load's blocks, then batches of the load; the last number, flushed."""
    disk = nbd.Nbd(north.run_dir("web") / "disk1.nbd", "disk1")
    chance = random.Random(number)
    for at in range(8, 8 + mib):
        disk.write(at * MIB, chance.randbytes(MIB))
    load = sequence_load.Load(disk, number)
    for _ in range(20):
        number = load.run_batch()
    disk.close()
    return number


def stopped_alone(north, south, number, mib):
    """The VM runs and writes while south is down, then it is stopped."""
    south.stop()
    number = write(north, number, mib)
    north.cli("vm", "stop", "web", "--force")
    shown = north.json("protection", "show", "web")
    check(shown["state"] == "vm stopped" and shown["caught_up"] is False, "stopped, and its replica lacks what it wrote")
    check(not north.pids_of("holdfast-keeper"), "no keeper runs while nobody could take it")
    return number


def gets_level(north):
    wait_until(lambda: (shown := north.json("protection", "show", "web"))["state"] == "vm stopped" and shown["caught_up"],
               60, "the replica is level", interval=0.1)
    wait_until(lambda: not north.pids_of("holdfast-keeper"), 10, "the keeper that shipped has ended")
    check(north.json("vm", "show", "web")["state"] == "stopped", "the replica is level, and the VM was not started")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.cli("vm", "create", "web", "--blank", "128M", "--memory", "256M")
            north.cli("protection", "enable", "web", "--to", "south")
            gets_level(north)
            step("so was one that never ran")
            north.cli("vm", "start", "web")
            wait_protected(north, "web")
            number = stopped_alone(north, south, 0, 4)
            south.start()
            gets_level(north)
            north.cli("vm", "start", "web")
            number = stopped_alone(north, south, number, 100)
            south.start()
            (shipping,) = wait_until(lambda: north.pids_of("holdfast-keeper"), 30, "a keeper ships", interval=0.01)
            north.cli("vm", "start", "web")
            check(shipping not in north.pids_of("holdfast-keeper") and north.json("vm", "show", "web")["state"] == "running",
                  "a start ends the keeper that ships, and goes on from there")
            wait_protected(north, "web")
            number = write(north, number, 1)
            north.cli("vm", "stop", "web", "--force")
            gets_level(north)
            daemons = [site.pids_of("holdfastd") for site in (north, south)]
            check(all(daemons), "both holdfastd live on")

            south.cli("failover", "unplanned", "web", "--yes")
            has_all_writes(south, "web", number)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
