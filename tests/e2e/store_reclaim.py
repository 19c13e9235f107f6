#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast-keeper holdfast-vault
"""The firmware reclaims a variable store that is full with hundreds of thousands of flash writes. On Holdfast that
boot costs less than 2 MB of journal, and less than a tenth more processor time than on qemu-storage-daemon.
"""

import os
import pathlib
import shutil
import struct

from lib import probe
from lib.keeper_machine import KeeperMachine
from lib.peer_machine import PeerMachine
from lib.process import Processes, run
from lib.report import check, main, step

JOURNAL_BYTES_MAX = 2_000_000
EXTRA_MAX = 0.10
FULL_BYTES_MIN = 200_000
RECLAIMED_BYTES_MAX = 100_000
VARIABLES_AT = 0x64
VARIABLE_HEADER_BYTES = 60


def store_bytes_used(path):
    """How far the variable store of a flash image is filled, deleted variables included (edk2's VARIABLE_HEADER)."""
    image, at = pathlib.Path(path).read_bytes(), VARIABLES_AT
    while struct.unpack_from("<H", image, at)[0] == 0x55AA:
        name_bytes, data_bytes = struct.unpack_from("<II", image, at + 36)
        at = (at + VARIABLE_HEADER_BYTES + name_bytes + data_bytes + 3) & ~3
    return at - VARIABLES_AT


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def boot(machine, server_pid, server_before=0):
    """Boots to the kernel's first line: processor seconds of QEMU and of the server of its disks and variables."""
    console = machine.start()
    console.wait_for(r"^HF BOOT", 240)
    return console, cpu_seconds(machine.qemu.pid), cpu_seconds(server_pid()) - server_before


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=10, fill=4000)
    with Processes(directory) as processes:
        peer = PeerMachine(processes, directory / "p", probe.image(), data)
        console = peer.start()
        _, line, _ = console.wait_for(r"^HF FILL updates=(\d+)", 240)
        peer.press_power_button()
        peer.wait_off()
        full = directory / "vars.full"
        shutil.copy(peer.vars, full)
        check(store_bytes_used(full) > FULL_BYTES_MIN, f"the store is full: {store_bytes_used(full)} bytes, {line.text}")

        _, qemu, server = boot(peer, lambda: peer.parts[1].pid)
        peer_seconds = qemu + server
        step(f"reclaim on qemu-storage-daemon: QEMU {qemu:.1f} s, server {server:.1f} s of processor time")
        peer.kill()
        check(store_bytes_used(peer.vars) < RECLAIMED_BYTES_MAX, "that boot reclaimed it")

        machine = KeeperMachine(processes, directory / "m", probe.image(), data, full)
        machine.keeper.start()
        machine.keeper.wait_serving()
        position = machine.keeper.position()
        before = cpu_seconds(machine.keeper.process.pid)
        _, qemu, server = boot(machine, lambda: machine.keeper.process.pid, before)
        grown = machine.keeper.sealed_bytes_after(position)
        step(f"reclaim on Holdfast: QEMU {qemu:.1f} s, keeper {server:.1f} s of processor time")
        run(["nbdcopy", machine.keeper.uri("vars"), directory / "vars.after"])
        check(store_bytes_used(directory / "vars.after") < RECLAIMED_BYTES_MAX, "that boot reclaimed it as well")
        machine.kill_both()
        check(grown < JOURNAL_BYTES_MAX, f"it cost {grown} bytes of journal (< {JOURNAL_BYTES_MAX})")
        extra = (qemu + server) / peer_seconds - 1
        check(extra < EXTRA_MAX, f"and {extra:+.1%} of processor time (< {EXTRA_MAX:+.0%})")


if __name__ == "__main__":
    main(test)
