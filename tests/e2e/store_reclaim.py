#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast-keeper holdfast-vault
"""The firmware reclaims its variable store with hundreds of thousands of flash writes. Here that costs less than 2 MB
of journal and less than a tenth of the time it takes.

A boot with the store filled up is compared with a boot of the same machine just before.
"""

import os
import pathlib

from lib import probe
from lib.keeper_machine import KeeperMachine
from lib.process import Processes
from lib.qmp import Qmp
from lib.report import check, main, step

JOURNAL_BYTES_MAX = 2_000_000
SHARE_MAX = 0.10


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flash_writes(machine):
    qmp = Qmp(machine.qmp_path)
    stats = qmp.call("query-blockstats", {"query-nodes": True})
    qmp.close()
    return next(node["stats"]["wr_operations"] for node in stats if node.get("node-name") == "vars")


class Boot:
    """One boot up to the kernel's first line: what it took, what the keeper spent, what the journal grew by."""

    def __init__(self, machine):
        machine.keeper.start()
        machine.keeper.wait_serving()
        keeper = machine.keeper
        bytes_before, cpu_before = keeper.journal_bytes(), cpu_seconds(keeper.process.pid)
        self.console = machine.start()
        begin = self.console.wait_for(r".", 60)[1].at
        _, line, _ = self.console.wait_for(r"^HF BOOT", 240)
        self.journal_bytes = keeper.journal_bytes() - bytes_before
        self.keeper_seconds = cpu_seconds(keeper.process.pid) - cpu_before
        self.seconds = line.at - begin
        self.flash_writes = flash_writes(machine)
        step(f"boot: {self.flash_writes} flash writes, keeper {self.keeper_seconds:.2f} s of CPU, journal "
             f"+{self.journal_bytes} bytes, {self.seconds:.1f} s to the kernel")


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=10, fill=4000)
    with Processes(directory) as processes:
        machine = KeeperMachine(processes, directory / "m", probe.image(), data)
        plain = Boot(machine)
        _, line, match = plain.console.wait_for(r"^HF FILL updates=(\d+)", 180)
        check(int(match[1]) > 1000, f"the store is full: {line.text}")
        machine.press_power_button()
        machine.wait_off()
        machine.keeper.stop()

        full = Boot(machine)
        probe.wait_unlocked(full.console)
        machine.kill_both()
        writes = full.flash_writes - plain.flash_writes
        check(writes > 100_000, f"the reclaim was there: {writes} flash writes more than at a plain boot")
        grown = full.journal_bytes - max(0, plain.journal_bytes)
        check(full.journal_bytes < JOURNAL_BYTES_MAX, f"it cost {full.journal_bytes} bytes of journal, {grown} more than a "
                                                      f"plain boot (< {JOURNAL_BYTES_MAX})")
        share = full.keeper_seconds / full.seconds
        check(share < SHARE_MAX, f"the keeper spent {full.keeper_seconds:.2f} s of {full.seconds:.1f} s: "
                                 f"{share:.1%} (< {SHARE_MAX:.0%})")


if __name__ == "__main__":
    main(test)
