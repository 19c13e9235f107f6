#!/usr/bin/env python3
# timeout: 420
# needs: qemu
"""The probe guest is good before Holdfast is in play: it runs here on swtpm and qemu-storage-daemon alone.

It enrols at its first boot, unlocks by its vTPM at later ones also after kill -9, finds its counters in order, and is
refused by a fresh TPM and with Secure Boot off. An unsigned kernel does not boot; its signed twin is all the others.
"""

import shutil

from lib import probe, secrets
from lib.machine import VARS_NO_KEYS
from lib.peer_machine import PeerMachine
from lib.process import Failure, Processes, run
from lib.report import check, main, step

PARTITION_SECTOR_BYTES = 512


def boot_and_kill(machine, rounds):
    """Boots, lets it count `rounds` more, kills it; what it found and the last round it printed."""
    console = machine.start()
    found, line = probe.wait_unlocked(console)
    step(f"unlocked {line.at - console.lines[0].at:.1f} s after the first console line; {found}")
    found.check_order()
    check(console.find(r"^HF SECUREBOOT 1"), "the guest sees Secure Boot on")
    probe.wait_round(console, found.disk + rounds, 60)
    secret = secrets.revealed_luks_secret(machine.qemu.pid)
    machine.kill()
    console.wait_for_end(10)
    return found, max(probe.rounds(console)), secret


def check_luks_header(machine):
    """luksDump over the root partition as the host sees it: one key slot, pbkdf2, no token."""
    table = run(["/usr/sbin/sgdisk", "-i", "2", machine.disk1]).stdout
    first = int(table.split("First sector: ")[1].split()[0])
    header = machine.directory / "luks-header"
    run(["dd", f"if={machine.disk1}", f"of={header}", f"bs={PARTITION_SECTOR_BYTES}", f"skip={first}", "count=4096",
         "status=none"])
    dump = run(["/usr/sbin/cryptsetup", "luksDump", header]).stdout
    slots = dump.split("Keyslots:")[1].split("Tokens:")[0]
    tokens = dump.split("Tokens:")[1].split("Digests:")[0].strip()
    check(slots.count(": luks2") == 1 and "pbkdf2" in slots and not tokens,
          "luksDump: one key slot, pbkdf2, no token")


def check_no_secret_in_image(machine, image, secret):
    """The secret opens the disk, and stands neither in the image nor in what the image packs."""
    header = machine.directory / "luks-header"
    key = machine.directory / "key"
    key.write_bytes(secret)
    run(["/usr/sbin/cryptsetup", "open", "--test-passphrase", "--key-file", key, header])
    unpacked = machine.directory / "unpacked"
    unpacked.mkdir()
    esp = f"{image}@@1M"
    for name in ("initrd", "EFI/debian/grub.cfg", "vmlinuz"):
        run(["mcopy", "-i", esp, f"::{name}", unpacked])
    run(["zstd", "-q", "-d", unpacked / "initrd", "-o", unpacked / "initrd.cpio"])
    found = secrets.search_files([image, unpacked, machine.directory / "boot1"], {"the disk's secret": secret})
    check(not found, f"the disk's secret opens it and stands nowhere in image, initrd or console log {found or ''}")
    check(secrets.search_files([key], {"the disk's secret": secret}), "the same search finds it where it is")
    key.unlink()


def check_refused(machine, why):
    console = machine.start()
    _, line, match = console.wait_for(r"^HF REFUSED tpm rc=(0x[0-9A-Fa-f]+) step=(\w+)", probe.UNLOCK_SECONDS_MAX,
                                      unless=r"^HF (UNLOCKED|FAILED)")
    machine.wait_off()
    if console.find(r"^HF UNLOCKED"):
        raise Failure(f"{why}: unlocked all the same")
    step(f"ok: {why}: {line.text}")
    return int(match[1], 16)


def test(directory):
    image = probe.image()
    data = probe.make_data_disk(directory / "data", rate=10, reveal=1)
    with Processes(directory) as processes:
        machine = PeerMachine(processes, directory / "m", image, data)
        found, last, secret = boot_and_kill(machine, 20)
        check(found == probe.Counters(0, 0, 0, 0), f"first boot enrolled and counted to {last}, then was killed")
        check_luks_header(machine)
        check_no_secret_in_image(machine, image, secret)

        console = machine.start()
        found, _ = probe.wait_unlocked(console)
        found.check_order()
        check(last <= found.disk <= last + 1, f"after the kill it unlocked by its vTPM and found {found}")
        probe.wait_round(console, found.disk + 5, 30)
        machine.press_power_button()
        machine.wait_off()
        check(console.find(r"^HF POWEROFF button"), "the power button switched it off")
        marker = probe.read_marker(machine.disk2)
        check(marker not in image.read_bytes() and any(marker), "it left a marker of its own on the plain disk")

        good = [machine.directory / "tpm.good", machine.directory / "vars.good"]
        shutil.copytree(machine.tpm, good[0])
        shutil.copy(machine.vars, good[1])
        shutil.copy(VARS_NO_KEYS, machine.vars)
        check_refused(machine, "right vTPM, Secure Boot off: the TPM refused")
        shutil.copy(good[1], machine.vars)
        machine.new_tpm()
        check_refused(machine, "right variables, fresh vTPM: the TPM refused")

        unsigned = PeerMachine(processes, directory / "u", probe.image(unsigned=True), data)
        console = unsigned.start()
        console.wait_for(r"bad shim signature", probe.UNLOCK_SECONDS_MAX, unless=r"^HF BOOT")
        step("ok: the unsigned kernel did not boot: \"bad shim signature\"")
        unsigned.kill()


if __name__ == "__main__":
    main(test)
