#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast-keeper holdfast-vault
"""Secure Boot and the vTPM on Holdfast: an unsigned kernel does not boot and its signed twin does; with the right vTPM
but Secure Boot off, and with another vTPM, the guest itself reports that the TPM refuses.
"""

from lib import probe
from lib.keeper_machine import KeeperMachine
from lib.machine import VARS_MICROSOFT_KEYS, VARS_NO_KEYS
from lib.process import Failure, Processes, run
from lib.report import check, main, step


def check_refused(machine, why):
    console = machine.start()
    _, line, _ = console.wait_for(r"^HF REFUSED tpm rc=0x[0-9A-Fa-f]+", probe.UNLOCK_SECONDS_MAX,
                                  unless=r"^HF (UNLOCKED|FAILED)")
    machine.wait_off()
    if console.find(r"^HF UNLOCKED"):
        raise Failure(f"{why}: it unlocked all the same")
    step(f"ok: {why}: {line.text}")


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=10)
    with Processes(directory) as processes:
        unsigned = KeeperMachine(processes, directory / "u", probe.image(unsigned=True), data)
        console = unsigned.start()
        console.wait_for(r"bad shim signature", probe.UNLOCK_SECONDS_MAX, unless=r"^HF BOOT")
        step('ok: the unsigned kernel did not boot: "bad shim signature" on the console')
        unsigned.kill()
        unsigned.keeper.stop()

        machine = KeeperMachine(processes, directory / "m", probe.image(), data)
        console = machine.start()
        found, _ = probe.wait_unlocked(console)
        probe.wait_round(console, found.disk + 5, 30)
        check(console.find(r"^HF SECUREBOOT 1$"), "its signed twin booted, with Secure Boot on, and unlocked by its vTPM")
        machine.press_power_button()
        machine.wait_off()

        # The firmware's variables are swapped through the keeper's own front door while the machine is off.
        kept = directory / "vars.kept"
        run(["nbdcopy", machine.keeper.uri("vars"), kept])
        run(["nbdcopy", VARS_NO_KEYS, machine.keeper.uri("vars")])
        check_refused(machine, "right vTPM, Secure Boot off")
        run(["nbdcopy", kept, machine.keeper.uri("vars")])
        console = machine.start()
        found, _ = probe.wait_unlocked(console)
        check(found.disk >= 5, f"with its own variables back it unlocks again: {found}")
        machine.kill()

        copies = {}
        for disk in ("disk1", "disk2"):
            copies[disk] = directory / f"{disk}.copy"
            run(["nbdcopy", machine.keeper.uri(disk), copies[disk]])
        machine.keeper.stop()
        other = KeeperMachine(processes, directory / "o", copies["disk1"], copies["disk2"], VARS_MICROSOFT_KEYS)
        check_refused(other, "the same disks, another vTPM")


if __name__ == "__main__":
    main(test)
