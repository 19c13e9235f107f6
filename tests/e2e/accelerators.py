#!/usr/bin/env python3
# timeout: 120
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""/dev/kvm that is absent, that may not be opened, that is no KVM, and as this host has it: `holdfast host show` names
what is wrong, and a VM starts all the same, under TCG where KVM does not work.

Each site runs in a mount namespace of its own with another /dev; that needs root.
"""

import os

from lib.process import Processes
from lib.report import check, main, step
from lib.site import Site

# A /dev with the usual nodes; then what the case does to kvm in it; then the launcher.
IN_ANOTHER_DEV = r"""
set -e
mkdir "$0"
mount -t tmpfs -o mode=0755 none "$0"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$0"
mkdir "$0/shm" "$0/pts"
kvm="$0/kvm"
eval "$1"; shift
mount --bind "$0" /dev
exec "$@"
"""

CASES = [
    ("absent", ":", "does not exist"),
    ("not to be opened", "mknod -m 0600 $kvm c 10 232", "Permission denied"),
    ("no KVM", "mknod -m 0666 $kvm c 1 3", ""),
]


class OtherDev:
    """Starts a site's launcher in a mount namespace with another /dev."""

    def __init__(self, processes, directory, change):
        self._processes, self._directory, self._change = processes, directory, change

    def start(self, argv, **options):
        return self._processes.start(["unshare", "--mount", "sh", "-c", IN_ANOTHER_DEV, self._directory,
                                      self._change, *argv], **options)


def vm_runs(site, accelerator):
    site.cli("vm", "create", "web", "--blank", "1M", "--memory", "256M")
    started = site.json("vm", "start", "web")
    check(started["accelerator"] == accelerator and site.json("vm", "show", "web")["state"] == "running",
          f"a VM starts under {accelerator}")
    site.cli("vm", "stop", "web", "--force")


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        sites = []
        try:
            step("/dev/kvm as it is here")
            site = Site(processes, directory, "here", 710000)
            sites.append(site)
            site.init()
            site.start()
            host = site.json("host", "show")
            check(host["kvm"]["reason"] and host["accelerator"] == ("kvm" if host["kvm"]["usable"] else "tcg"),
                  f"it is tried out: {host['kvm']['reason']}; {host['accelerator']} is used")
            vm_runs(site, host["accelerator"])
            if os.geteuid() != 0:
                return step("left out: another /dev needs root")
            for number, (what, change, says) in enumerate(CASES):
                step(f"/dev/kvm is {what}")
                site = Site(OtherDev(processes, directory / f"dev{number}", change), directory, f"s{number}",
                            720000 + 10000 * number)
                sites.append(site)
                site.init()
                site.start()
                host = site.json("host", "show")
                check(host["accelerator"] == "tcg" and not host["kvm"]["usable"] and "/dev/kvm" in host["kvm"]["reason"]
                      and says in host["kvm"]["reason"], f"found out and named: {host['kvm']['reason']}")
                check(host["kvm"]["reason"] in site.cli("host", "show").stdout, "also in the table for people")
                vm_runs(site, "tcg")
        finally:
            for site in sites:
                site.end()


if __name__ == "__main__":
    main(test)
