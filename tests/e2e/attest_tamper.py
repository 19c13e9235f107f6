#!/usr/bin/env python3
# timeout: 600
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Each change to a VM's boot chain is seen, with nothing but the TPM's own record of the boot, within a second of the
firmware's hand-over, and the reason names what changed: another kernel and command line, another GRUB, a GRUB that a
key enrolled as MOK signed, a key added to db, a loader signed by a debug key, Secure Boot off. An unsigned loader does
not boot. With everything put back the VM is Healthy again.
"""

from lib import probe, uefi_vars
from lib.attest import GUEST_LOG, VERDICT_MS_MAX, Boots, expect_healthy, expect_reasons
from lib.boot_chain import Disk
from lib.process import Failure, Processes, run
from lib.report import check, main, step
from lib.site import Site

VM = "probe"
SAVED = "as-made"


class Case:
    """The VM at its site: each boot only as far as its verdict, then the power is cut."""

    def __init__(self, site, directory):
        self.site = site
        self.directory = directory
        self.boots = Boots(site, VM)
        self.slowest_ms = 0
        self.boot_number = 0

    def disk(self):
        return Disk(self.site.run_dir(VM) / "disk1.nbd")

    def boot(self):
        self.boots.start()
        record = self.boots.verdict()
        took = record["after_hand_over_ms"]
        self.slowest_ms = max(self.slowest_ms, took)
        if took > VERDICT_MS_MAX:
            raise Failure(f"the verdict came {took} ms after the hand-over")
        return record

    def tampered(self, what, variants, *wanted, key=None, variables=()):
        """The disk is changed under the running VM, its variables when it is off; then it boots."""
        disk = self.disk()
        disk.change(*variants, key=key)
        self.boots.off()
        for words_of_change in variables:
            self.site.cli("secure-boot", *words_of_change)
        record = self.boot()
        expect_reasons(record, what, *wanted)
        step(f"ok: {what}, {record['after_hand_over_ms']} ms after the hand-over: {record['summary']}")
        disk.restore()

    def not_started(self, what, variant):
        """The firmware finds nothing that it may start; no verdict says that this is well."""
        disk = self.disk()
        disk.change(variant)
        self.boots.off()
        self.boots.start()
        self.console().wait_for(r"failed to load .*: Access Denied", 60, unless=r"^HF (GRUB|BOOT)")
        record = self.boots.check()
        check(record["verdict"] != "Healthy", f"{what} does not boot, and is not Healthy: {record['summary']}")
        disk.restore()

    def console(self):
        self.boot_number += 1
        return self.site.vm_console(VM, self.directory / f"console{self.boot_number}")

    def variables_back(self):
        self.boots.off()
        self.site.cli("secure-boot", "restore", VM, SAVED)


def test(directory):
    directory.chmod(0o711)
    image, data = directory / "probe.img", probe.make_data_disk(directory / "data", rate=4)
    run(["cp", "--sparse=always", probe.image(), image])
    for path in (image, data):
        path.chmod(0o644)
    db_key = uefi_vars.make_key(directory, "db", "Holdfast test db")
    mok_key = uefi_vars.make_key(directory, "mok", "Holdfast test MOK")
    debug_key = uefi_vars.make_key(directory, "debug", "Holdfast DEBUG signing")
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 310000)
        try:
            site.init()
            site.start()
            site.vm_create(VM, [image, data], "--memory", "512M")
            case = Case(site, directory)
            record = case.boot()
            expect_healthy(record, "the first boot")
            probe.wait_unlocked(case.console())
            expect_healthy(case.boots.verdict(GUEST_LOG), "the first boot with the guest's log")
            step("ok: the first boot is Healthy, without and with the guest's event log, and is the baseline")

            case.tampered("another kernel and command line", ("other-kernel", "other-cmdline"),
                          ("program_changed", "extend"), ("command_line_changed", "kernel command line"))
            case.tampered("another GRUB, signed by Debian too", ("other-grub",), ("program_changed", "extend"))
            case.boots.off()
            site.cli("secure-boot", "save", VM, SAVED)
            case.boots.start()
            case.tampered("a key added to db, GRUB signed by a key enrolled as MOK", ("signed-grub",),
                          ("db_changed", "Holdfast test db"), ("mok_changed",), ("authority_changed",), key=mok_key,
                          variables=[("append", VM, "db", db_key[1]), ("set", VM, "MokList", mok_key[1])])
            case.variables_back()
            case.boots.start()
            case.tampered("a loader signed by a debug key in db", ("signed-loader",),
                          ("db_changed", "DEBUG"), ("authority_changed", "DEBUG"), key=debug_key,
                          variables=[("append", VM, "db", debug_key[1])])
            case.tampered("Secure Boot off", (), ("secure_boot_off",),
                          variables=[("set", VM, "SecureBootEnable", "off")])
            case.variables_back()
            case.boots.start()
            case.not_started("an unsigned loader", "unsigned-loader")
            case.boots.off()
            expect_healthy(case.boot(), "with everything put back")
            step(f"ok: with everything put back it is Healthy; the slowest verdict came after {case.slowest_ms} ms")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
