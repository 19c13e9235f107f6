#!/usr/bin/env python3
# timeout: 180
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A daemon that hangs is ended and started again by the launcher; guests and keepers go on. And a running VM is kept
apart: no word of QEMU's command line is the daemon's, and its users change nothing where its sockets lie.
"""

import os
import pathlib
import signal
import time

from lib.process import Processes, run, wait_until
from lib.report import check, main, step
from lib.site import Site

HANG_SECONDS_MAX = 8  # three silent seconds, one until the next look, and the start


def answers(site):
    return site.cli("site", "show", check=False, timeout=5).returncode == 0


def hang(site):
    step("a daemon that hangs")
    before = {name: site.pids_of(name) for name in ("holdfastd", "holdfast-keeper", "qemu-system", "holdfast-vault")}
    check(len(before["holdfastd"]) == 1 and before["qemu-system"] and before["holdfast-keeper"], f"all run: {before}")
    time.sleep(2)  # it has to have been heard once
    os.kill(before["holdfastd"][0], signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: site.pids_of("holdfastd") not in ([], before["holdfastd"]) and answers(site), HANG_SECONDS_MAX,
               "another daemon serves", interval=0.1)
    check(True, f"another daemon serves after {time.monotonic() - began:.1f} s")
    for name in ("holdfast-keeper", "qemu-system", "holdfast-vault"):
        check(site.pids_of(name) == before[name], f"{name} goes on as it was")
    check(site.json("vm", "show", "web")["state"] == "running", "the VM is shown as running")


def busy(site):
    step("one that only works hard is left alone")
    pids = site.pids_of("holdfastd")
    until = time.monotonic() + 6
    while time.monotonic() < until:
        site.json("vm", "list")
    check(site.pids_of("holdfastd") == pids, "it is the same one")


def apart(site):
    step("what the VM's users may do where its sockets lie")
    shown = site.json("vm", "show", "web")
    words = pathlib.Path(f"/proc/{shown['qemu_pid']}/cmdline").read_bytes().decode().split("\0")
    check("-plugin" not in words and any("dump-guest-core=off" in word for word in words), "QEMU's words are the launcher's")
    status = pathlib.Path(f"/proc/{shown['qemu_pid']}/status").read_text()
    filters = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Seccomp_filters:"))
    check(filters >= 2, f"QEMU is under {filters} filters: its own and the launcher's")
    if not site.uid_base:
        return
    directory = site.run_dir("web")
    number = shown["vm_number"]
    for user in (site.uid_base + 16 + 2 * number, site.uid_base + 17 + 2 * number):
        for script in (f"ln -s ../x {directory}/qmp2.sock", f"mv {directory}/qmp.sock {directory}/x",
                       f"rm {directory}/control.sock", f"ls {directory}"):
            done = run(["sh", "-c", script], check=False, user=user, group=site.uid_base + 16 + 2 * number)
            check(done.returncode != 0, f"user {user}: {script.split()[0]} is refused")


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 410000)
        try:
            site.init()
            site.start()
            site.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            site.cli("vm", "start", "web")
            hang(site)
            busy(site)
            apart(site)
            site.cli("vm", "stop", "web", "--force")
            check(site.json("vm", "show", "web")["state"] == "stopped", "the new daemon stops the VM")
            missing = site.json("host", "show").get("confinement_missing")
            check(isinstance(missing, list), f"host show says what this host lacks: {missing}")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
