#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""What a paired site may place here bounds what its replicas take of the disk, and not only what their VMs' disks are: a VM that
overwrites its small disk without end fills its quota and no more. Both sites say so and what mends it; the VM goes on; once there is
room it is level again. Two replicas share one quota.
"""

import os

from lib import nbd
from lib.process import Failure, Processes, wait_until
from lib.report import check, main
from lib.site import Site, pair, wait_protected

QUOTA = 256 << 20


class Writer:
    """Overwrites the first 8 MiB of a running VM's disk, a MiB at a time."""

    def __init__(self, site, vm):
        self.disk = nbd.Nbd(site.run_dir(vm) / "disk1.nbd", "disk1")
        self.at = 0

    def write(self, mebibytes):
        for _ in range(mebibytes):
            self.disk.write((self.at % 8) << 20, os.urandom(1 << 20))
            self.disk.flush()
            self.at += 1


SEGMENT = 64 << 20  # of a journal: one that is closed counts as the whole file that it takes
PREPARED = 128 << 20  # files that are made ready for what comes


def stored(site, *vms):
    """What the replicas of those VMs take of the disk at `site`, as they say; and no more is there but what is prepared."""
    said = sum(site.json("protection", "show", vm)["stored_bytes"] for vm in vms)
    there = sum(path.stat().st_blocks * 512 for vm in vms for path in (site.state / "vms" / site.vm_id(vm) / "journal").iterdir())
    if there > said + len(vms) * PREPARED:
        raise Failure(f"the replicas say that they take {said >> 20} MiB, and take {there >> 20}")
    return said


def full(south, vm):
    """Until the replica says that it is; its error."""
    def says():
        error = south.json("protection", "show", vm).get("error")
        return error if error and error["code"] == "limit" else None

    return wait_until(says, 30, f"the replica of {vm} says that it is full", interval=0.2)


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 1010000), Site(processes, directory, "south", 1060000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            south.cli("site", "peer", "set", "north", "--quota", str(QUOTA))
            for vm in ("web", "db"):
                north.vm_create(vm, [], "--blank", "16M", "--memory", "256M")
                north.cli("protection", "enable", vm, "--to", "south")
            ids = ("web", "db")
            north.cli("vm", "start", "web")
            wait_protected(north, "web")
            shown = south.json("protection", "show", "web")
            check(0 < shown["stored_bytes"] <= shown["stored_bytes_max"] < QUOTA, f"it may take a share of the quota: {shown}")
            writer = Writer(north, "web")
            writer.write(330)
            error = full(south, "web")
            check("quota" in error["cause"] and "site peer set" in error["mend"] and "--quota" in error["mend"],
                  f"south says: {error['cause']} | {error['mend']}")
            writer.write(20)
            taken = stored(south, *ids)
            check(taken <= QUOTA + SEGMENT, f"350 MiB were written; the replicas of north take {taken >> 20} of {QUOTA >> 20} MiB")
            there = wait_until(lambda: (lambda e: e if e and "quota" in e["cause"] else None)(
                north.json("protection", "show", "web").get("error")), 30, "north is told")
            check("--quota" in there["mend"], f"north says: {there['cause']}")
            check(north.json("vm", "show", "web")["state"] == "running", "and web runs on")
            south.stop()
            south.start()
            full(south, "web")
            writer.write(10)
            check(stored(south, *ids) <= QUOTA + SEGMENT, "nor is it forgotten over a restart")
            south.cli("site", "peer", "set", "north", "--quota", "1G")
            wait_protected(north, "web", 60)
            check(not south.json("protection", "show", "web").get("error"), "with more room it is level again, by itself")
            south.cli("site", "peer", "set", "north", "--quota", "none")
            wait_until(lambda: "stored_bytes_max" not in south.json("protection", "show", "web"), 10, "no quota, no bound")
            writer.write(8)
            wait_protected(north, "web", 60)
            for site in (north, south):
                site.stop()
        finally:
            north.end()
            south.end()


main(test)
