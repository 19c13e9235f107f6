#!/usr/bin/env python3
# timeout: 600
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Each change to a VM's boot chain is seen, with nothing but the TPM's own record of the boot, within a second of the
firmware's hand-over, and the reason names what changed: another kernel and command line, another GRUB, a GRUB that a
key enrolled as MOK signed, a key added to db, a loader signed by a debug key, Secure Boot off. An unsigned loader does
not boot. With everything put back the VM is Healthy again.

Before that, evidence that the guest made with plain tpm2-tools is accepted by the site; with another VM's quote in it, an
old quote, a log cut short or edited it is not.
"""

import base64
import json
import os

from lib import guest_evidence, probe, uefi_vars
from lib.agent import Agent
from lib.attest import GUEST_LOG, VERDICT_MS_MAX, Boots, expect_healthy, expect_reasons, rest, words
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
        return record

    def not_started(self, what, variant):
        """The firmware finds nothing that it may start; no verdict says that this is well."""
        disk = self.disk()
        disk.change(variant)
        self.boots.off()
        self.boots.start()
        self.console().wait_for(r"failed to load .*: Access Denied", 60, unless=r"^HF (GRUB|BOOT)")
        record = self.boots.check()
        check(record["verdict"] != "Healthy", f"{what} does not boot, and is not Healthy: {record['summary']}")
        report, refused = self.vm_check()
        check(report["boots"] == "no" and "BOOTX64.EFI" in refused, f"{what}: vm check of the running VM says so: {refused}")
        disk.restore()

    def vm_check(self):
        """What `vm check` of the VM says of its disk as it is: the report, and why it would not boot."""
        done = run(self.site.argv("vm", "check", VM, "-o", "json"), check=False)
        return json.loads(done.stdout), done.stderr if done.returncode else ""

    def console(self):
        self.boot_number += 1
        return self.site.vm_console(VM, self.directory / f"console{self.boot_number}")

    def variables_back(self):
        self.boots.off()
        self.site.cli("secure-boot", "restore", VM, SAVED)


POLICY = {"version": 1, "name": "tools", "extends": "linux", "baseline": "optional",
          "evidence": {"quote": "required", "attestation_key": "any"}}


def appraise(site, evidence, nonce):
    """The site's signed opinion of evidence from anywhere."""
    asked = base64.urlsafe_b64encode(nonce).decode().rstrip("=")
    status, answer = rest(site, "POST", "/v1/attestation/appraise", {"evidence": evidence, "nonce": asked, "policy": POLICY})
    if status != 200:
        raise Failure(f"appraise: {status} {answer}")
    return answer


def check_evidence(site, directory):
    """What the guest made by hand, and what somebody made of it."""
    site.vm_create("other", [], "--blank", "16M", "--memory", "256M")
    site.cli("vm", "start", "other")
    nonce = os.urandom(32)
    agent = Agent(site.run_dir(VM) / "qga.sock")
    evidence = guest_evidence.gather(agent, nonce)
    agent.close()
    answer = appraise(site, evidence, nonce)
    expect_healthy(answer, "evidence made in the guest with tpm2-tools")
    check(answer["token"].count(".") == 2, "evidence made in the guest with tpm2-tools is accepted, and answered by a token")

    def refused(what, nonce_asked=nonce, **changes):
        answer = appraise(site, {**evidence, **changes}, nonce_asked)
        if answer["verdict"] != "Unhealthy":
            raise Failure(f"{what}: {words(answer)}")
        step(f"ok: {what}: {answer['summary']}")

    site.cli("attest", "evidence", "other", "--nonce", evidence["nonce"], "--out", directory / "other.json")
    other = json.loads((directory / "other.json").read_text())
    site.cli("vm", "stop", "other", "--force")
    log = base64.b64decode(evidence["event_log"])
    edited = bytearray(log)
    edited[log.rindex(b"quiet")] ^= 1
    refused("another VM's quote", quote=other["quote"], signature=other["signature"])
    refused("another VM's quote with its key", **{part: other[part] for part in ("quote", "signature", "ak_public", "pcrs")})
    refused("an old quote", nonce_asked=os.urandom(32))
    refused("an event log cut short", event_log=base64.b64encode(log[:-40]).decode())
    refused("an event log with one character of the command line edited", event_log=base64.b64encode(edited).decode())


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
            check_evidence(site, directory)

            case.tampered("another kernel and command line", ("other-kernel", "other-cmdline"),
                          ("program_changed", "vmlinuz", "signed by Debian Secure Boot", "extend"),
                          ("command_line_changed", "kernel command line"))
            report, _ = case.vm_check()
            check(report["boots"] == "yes" and report["running"], f"vm check of the running VM: {report['summary']}")
            case.tampered("another GRUB, signed by Debian too", ("other-grub",), ("program_changed", "GRUB", "extend"))
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
