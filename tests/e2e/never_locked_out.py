#!/usr/bin/env python3
# timeout: 2400
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Crashes never count as an attack on the TPM. The same VM is killed and started many times in a row: QEMU and keeper
alone, the whole site with vault and daemon, and once by a failover. The guest never gets to say TPM2_Shutdown, its
sealed object is under libtpms' default dictionary-attack protection (3 tries), and it unlocks every time.

Each time its counters are in order, and at one site nothing that it was told is durable is lost.
HOLDFAST_KILLS=n (environment) sets how often; 6 by default.
"""

import os
import random
import signal
import time

from lib import probe
from lib.process import Processes, run
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

KILLS = int(os.environ.get("HOLDFAST_KILLS", "6"))
FAILOVER_AT = KILLS * 2 // 3
RPO_MS_MAX = 1000


def kill_vm(site):
    """QEMU and keeper at the same moment; the launcher, daemon and vault stay."""
    shown = site.json("vm", "show", "probe")
    for pid in (shown["keeper_pid"], shown["qemu_pid"]):
        os.kill(pid, signal.SIGKILL)
    site.wait_idle("probe")


def crash(site, how):
    """Time of the blow."""
    at = time.monotonic()
    if how == "vm":
        kill_vm(site)
    else:
        site.kill_whole()
    return at


def test(directory):
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    data = probe.make_data_disk(directory / "data", rate=4)
    for path in (image, data):
        path.chmod(0o644)
    seen = {}
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.vm_create("probe", [image, data], "--memory", "512M")
            north.cli("vm", "start", "probe")
            north.cli("protection", "enable", "probe", "--to", "south")
            site, last, floor = north, 0, 0
            for start in range(1, KILLS + 2):
                console = site.vm_console("probe", directory / f"console{start}")
                found, _ = probe.wait_unlocked(console)
                found.check_order()
                # UEFI variables are durable within 20 ms, disks and TPM when the guest was told so.
                check(floor <= found.disk <= last + 1 and found.tpm >= floor and found.uefi >= floor - 1,
                      f"start {start} at {site.name}: unlocked; seen {last}, found {found}")
                probe.wait_round(console, found.disk + random.randrange(2, 7), 60)
                if start > KILLS:
                    break
                failing_over = start == FAILOVER_AT
                if failing_over:
                    wait_protected(site, "probe")
                how = "site" if failing_over or start % 3 == 0 else "vm"
                at = crash(site, how)
                console.wait_for_end(20)
                seen = probe.rounds(console)
                last = max(seen)
                floor = last
                if failing_over:
                    floor = max((n for n, when in seen.items() if when < at - RPO_MS_MAX / 1000), default=0)
                    site = south
                    site.cli("failover", "unplanned", "probe", "--source-is-off", "--yes")
                    continue
                if how == "site":
                    site.start()
                site.cli("vm", "start", "probe")
            step(f"{KILLS} kills, {last} rounds, unlocked {KILLS} of {KILLS} times after one")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
