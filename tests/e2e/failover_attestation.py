#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A failover that requires a verdict: the policy came along with the VM, its boot at the other site does not meet it, and
the VM is stopped again with the reason. It is that site's from then on, and runs under a policy that it meets. Its vTPM has
two PCR banks, at both sites.
"""

import json

from lib import probe
from lib.attest import BOOT, GUEST_LOG, Boots, expect_healthy
from lib.process import Failure, Processes, run
from lib.report import check, main
from lib.site import CliError, Site, pair, wait_protected

VM = "probe"
BANKS = "sha256,sha384"


def test(directory):
    directory.chmod(0o711)
    image, data = directory / "probe.img", probe.make_data_disk(directory / "data", rate=4)
    run(["cp", "--sparse=always", probe.image(), image])
    policy = directory / "strict.json"
    policy.write_text(json.dumps({"version": 1, "name": "strict", "extends": "linux", "baseline": "optional",
                                  "kernel_command_line": {"equals": ["nothing"]}}))
    for path in (image, data, policy):
        path.chmod(0o644)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 440000), Site(processes, directory, "south", 450000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            for banks in ("sha384", "sha256,md5"):
                try:
                    north.vm_create(VM, [image, data], "--pcr-banks", banks)
                    raise Failure(f"a VM with the PCR banks {banks} was made")
                except CliError as error:
                    check(error.status == 1 and all(error.parts().values()), f"refused: {error.parts()['cause']}")
            north.vm_create(VM, [image, data], "--memory", "512M", "--pcr-banks", BANKS)
            check(north.json("vm", "show", VM)["pcr_banks"] == BANKS.split(","), f"the vTPM's banks are {BANKS}")
            boots = Boots(north, VM)
            boots.start()
            expect_healthy(boots.verdict(BOOT), "the first boot")
            expect_healthy(boots.verdict(GUEST_LOG), "the first boot with the guest's log")
            north.cli("attest", "policy", "set", VM, policy)
            shown = boots.check()
            check(shown["verdict"] == "Unhealthy", f"under another policy: {shown['summary']}")
            north.cli("protection", "enable", VM, "--to", "south")
            wait_protected(north, VM)
            north.kill_whole()
            try:
                south.cli("failover", "unplanned", VM, "--source-is-off", "--yes", "--attestation", "require", timeout=250)
                raise Failure("a failover that required a Healthy boot went through without one")
            except CliError as error:
                parts = error.parts()
                check(error.status == 1 and all(parts.values()) and "command line" in parts["cause"],
                      f"refused: {parts['cause']} | {parts['effect']} | {parts['mend']}")
            shown = south.json("vm", "show", VM)
            check(shown["state"] == "stopped", "the VM was stopped again")
            check(shown["pcr_banks"] == BANKS.split(","), "its banks are known here, too")
            south.cli("attest", "policy", "set", VM, "linux")
            boots = Boots(south, VM)
            boots.start()
            expect_healthy(boots.verdict(BOOT), "a start under the other policy")
            check(south.json("vm", "show", VM)["state"] == "running", "it runs there, Healthy, under a policy that it meets")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
