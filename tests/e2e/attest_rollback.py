#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Older guest state put in the place of the newest. The journal alone is refused at the start by the vault's freshness
record. With that record rolled back as well, as whoever is root on the host can, the VM starts, and attestation says so:
its vTPM counts no more resets than at an earlier boot. It goes on saying so until an operator accepts the boot.
"""

import shutil

from lib import probe
from lib.attest import Boots, expect_healthy, expect_reasons
from lib.process import Processes, run
from lib.refusal import check_refused
from lib.report import check, main, step
from lib.site import Site

VM = "probe"


class Copies:
    """The VM's journal, and what the vault knows of it, by hand while the VM is off."""

    def __init__(self, site, directory):
        vm = site.json("vm", "show", VM)["id"]
        self.journal = site.state / "vms" / vm / "journal"
        self.freshness = site.state / "vault" / f"freshness-{vm}.hfv"
        self.directory = directory
        directory.mkdir()
        run(["cp", "-a", "--sparse=always", self.journal, directory / "journal"])
        run(["cp", "-a", self.freshness, directory / "freshness"])

    def put_back_journal(self):
        shutil.rmtree(self.journal)
        run(["cp", "-a", "--sparse=always", self.directory / "journal", self.journal])

    def put_back_freshness(self):
        run(["cp", "-a", self.directory / "freshness", self.freshness])


def test(directory):
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    data = probe.make_data_disk(directory / "data.img", rate=10)
    for path in (image, data):
        path.chmod(0o644)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 430000)
        try:
            site.init()
            site.start()
            site.vm_create(VM, [image, data], "--memory", "512M")
            boots = Boots(site, VM)
            boots.start()
            expect_healthy(boots.verdict(), "the first boot")
            boots.off()
            copies = Copies(site, directory / "copies")
            boots.start()
            expect_healthy(boots.verdict(), "the second boot")
            boots.off()

            copies.put_back_journal()
            check_refused(site, "an older journal in the place of the newest", "vm", "start", VM, code="conflict")
            site.stop()  # a vault that runs does not look
            copies.put_back_freshness()
            site.start()
            boots.start()
            rolled_back = boots.verdict()
            expect_reasons(rolled_back, "journal and freshness record rolled back", ("tpm_went_back", "earlier boot"))
            check(rolled_back["freshness"] == "older", f"rolled back with its record: {rolled_back['summary']}")
            expect_reasons(boots.check(), "asked again", ("tpm_went_back", "earlier boot"))
            step("ok: asking again does not make it the newest")
            site.cli("attest", "baseline", "accept", VM)
            expect_healthy(boots.check(), "accepted by an operator")
            step("ok: the operator's word makes it so")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
