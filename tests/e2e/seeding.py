#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A VM whose oldest segments are merged into base files can be protected: the replica is seeded with those files, takes the
records after them, and a failover runs from it with every byte that home had."""

import os
import random
import signal
import time

from lib import nbd
from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

DISK = 16 << 20
# Each keeper's death ends a segment; the oldest of more than 20 are merged.
DEATHS_MAX = 40


def bases(directory):
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("base-"))


class Disk:
    """The second disk, and what must be on it."""

    def __init__(self, site, vm):
        self.path, self.content, self.chance = site.run_dir(vm) / "disk2.nbd", bytearray(DISK), random.Random(1)

    def write(self, count):
        disk = nbd.Nbd(self.path)
        for _ in range(count):
            size = self.chance.randrange(1, 9) * 4096
            at = self.chance.randrange(0, (DISK - size) // 4096) * 4096
            data = self.chance.randbytes(size)
            disk.write(at, data)
            self.content[at:at + size] = data
        disk.flush()
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
            north.cli("vm", "create", "web", "--blank", "16M", "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", "web")
            vm = north.vm_id("web")
            journal = north.state / "vms" / vm / "journal"
            disk = Disk(north, "web")
            deaths = 0
            while not bases(journal) and deaths < DEATHS_MAX:
                disk.write(20)
                old = north.keeper_pid("web")
                os.kill(old, signal.SIGKILL)
                deaths += 1
                wait_until(lambda: north.keeper_pid("web") not in (0, None, old), 30, "the next keeper runs", interval=0.05)
                time.sleep(2.2)  # faster, and the launcher waits longer each time
            check(bases(journal), f"after {deaths} keepers home has merged: {', '.join(bases(journal))}")
            disk.write(50)

            north.cli("protection", "enable", "web", "--to", "south")
            took = wait_protected(north, "web")
            replica = south.state / "vms" / vm / "journal"
            check(bases(replica), f"protected after {took:.1f} s; the replica has {', '.join(bases(replica))}")
            disk.write(50)
            wait_protected(north, "web")

            north.kill_whole()
            south.cli("failover", "unplanned", "web", "--source-is-off", "--yes")
            copy = south.export_disk("web", "disk2", directory / "disk2.raw").read_bytes()
            check(copy == disk.content, "the disk at south is what was written at north, byte for byte")
        finally:
            north.end()
            south.end()
    step("a merged VM was protected and failed over")


if __name__ == "__main__":
    main(test)
