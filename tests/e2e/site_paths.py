#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""A state directory whose path has 200 characters, and VMs with capitals, dots and underscores in their names: everything that
goes over a socket of theirs works, as do a restart of the site under a running VM and the VM's end.
"""

import os

from lib.process import Processes, run, wait_until
from lib.report import check, main, step
from lib.site import Site, refused

LONGEST = 200
VM = "Web.north_2"


def long_directory(directory):
    """Below `directory`, so that the state directory in it has the longest path that there may be; "a,b" would end a value of QEMU's."""
    room = LONGEST - len(f"{directory}/") - len("/north")
    deep = directory / ("a,b" + "x" * (room - 3))
    deep.mkdir()
    deep.chmod(0o711)
    return deep


def a_life(site):
    step(f"the life of {VM} in a directory of {len(str(site.state))} characters")
    site.cli("vm", "create", VM, "--blank", "16M", "--memory", "256M", "--nic", "user")
    site.cli("vm", "start", VM)
    check(site.json("vm", "show", VM)["state"] == "running", "it runs")
    wait_until(lambda: site.cli("vm", "console", VM).stdout, 30, "its firmware is heard at its console")
    site.cli("site", "pair", "--new-token")
    qemu = site.qemu_pid(VM)
    site.cli("site", "restart", timeout=90)
    check(site.qemu_pid(VM) == qemu, "it runs on over a restart of the site")
    keeper = site.keeper_pid(VM)
    os.kill(keeper, 9)
    wait_until(lambda: site.json("vm", "show", VM)["keeper_pid"] not in (0, None, keeper), 30, "its keeper is started again")
    check("no boot program was found" in refused(site, "vm", "check", VM)["cause"], "and reads its disk")
    site.cli("vm", "stop", VM, "--force")
    site.cli("vm", "delete", VM, "--yes")
    site.cli("site", "stop", timeout=120)


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        site = Site(processes, long_directory(directory), "north", 430000)
        check(len(str(site.state)) == LONGEST, "the path is as long as one may be")
        longer = run([site.argv()[0], "--state", f"{site.state}x", "site", "init"], check=False)
        check(longer.returncode == 1 and "201 characters long, more than 200" in longer.stderr, "a longer one is refused")
        try:
            site.init()
            site.cli("site", "start", timeout=90)
            a_life(site)
        finally:
            site.cli("site", "stop", "--force", timeout=60, check=False)


if __name__ == "__main__":
    main(test)
