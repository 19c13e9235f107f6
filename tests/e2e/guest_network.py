#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-link holdfast-keeper
"""A VM's network under the launcher's filter: QEMU with a `user` NIC starts its own NAT, which needs the host's network,
and the firmware comes up; without one QEMU has no network at all.
"""

import os
import pathlib

from lib.process import Processes
from lib.report import check, main, step
from lib.site import Site

FIRMWARE_SECONDS_MAX = 120


def status_of(pid, name):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":")))


def network_of(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


def with_nat(site, directory):
    step("a user NIC")
    site.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M", "--nic", "user")
    site.cli("vm", "start", "web")
    console = site.vm_console("web", directory / "web.log")
    console.wait_for(r"BdsDxe: No bootable option", FIRMWARE_SECONDS_MAX)
    check(True, "its firmware has looked for something to boot")
    qemu = site.qemu_pid("web")
    check(status_of(qemu, "Seccomp_filters") >= 2, "QEMU is under the launcher's filter and its own")
    check(site.json("vm", "show", "web")["state"] == "running", "and runs")
    return qemu


def without(site, with_network):
    step("no NIC")
    site.cli("vm", "create", "alone", "--blank", "16M", "--memory", "256M")
    site.cli("vm", "start", "alone")
    qemu = site.qemu_pid("alone")
    check(status_of(qemu, "Seccomp_filters") >= 2, "QEMU is under the launcher's filter and its own")
    if not site.uid_base:
        return
    (launcher,) = site.pids_of("holdfast-launch")
    check(network_of(with_network) == network_of(launcher), "NAT needs the host's network")
    check(network_of(qemu) != network_of(launcher), "a VM without it is in a network of its own")
    links = pathlib.Path(f"/proc/{qemu}/net/dev").read_text().splitlines()[2:]
    check([link.split(":")[0].strip() for link in links] == ["lo"], "with nothing but a loopback")


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 430000)
        try:
            site.init()
            site.start()
            without(site, with_nat(site, directory))
            site.stop()
        finally:
            site.end()


main(test)
