#!/usr/bin/env python3
# timeout: 900
# needs: qemu
# programs: holdfast-keeper holdfast-vault
"""Crashes never count as an attack on the TPM: QEMU and keeper are killed together and started again, 20 times in a
row, and the guest unlocks 20 of 20, although its sealed object is under libtpms' default dictionary-attack protection
(3 tries) and the guest never gets to say TPM2_Shutdown. Each time its counters are in order, and nothing is lost.

KILLS=n (environment) sets how often; 20 by default.
"""

import os
import random

from lib import probe
from lib.keeper_machine import KeeperMachine
from lib.process import Processes
from lib.report import check, main, step

KILLS = int(os.environ.get("KILLS", "20"))


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=10)
    last = 0
    with Processes(directory) as processes:
        machine = KeeperMachine(processes, directory / "m", probe.image(), data)
        for kill in range(KILLS + 1):
            console = machine.start()
            found, _ = probe.wait_unlocked(console)
            found.check_order()
            # UEFI variables are durable within 20 ms, disks and TPM when the guest was told so.
            check(last <= found.disk <= last + 1 and found.tpm >= last and found.uefi >= last - 1,
                  f"start {kill + 1}: unlocked by the vTPM; {last} rounds were seen, found {found}")
            probe.wait_round(console, found.disk + random.randrange(1, 6), 60)
            machine.kill_both()
            console.wait_for_end(10)
            last = max(probe.rounds(console))
        step(f"{KILLS + 1} starts, {KILLS} of them after a kill, {last} rounds, never locked out")


if __name__ == "__main__":
    main(test)
