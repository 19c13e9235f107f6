#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A site is stopped in order: its guests shut down first, by `site stop` and by SIGTERM to the launcher; one that does not
hear keeps the site up, or loses its power when --force says so. `site restart` renews the control plane under guests that run on.
"""

import os
import signal
import time

from lib import probe
from lib.process import Processes, run, wait_until
from lib.report import check, main, step
from lib.site import Site, refused

SHUT_DOWN = r"^HF POWEROFF button"


def starts(site, directory, number):
    site.cli("vm", "start", "probe")
    console = site.vm_console("probe", directory / f"console{number}")
    probe.wait_unlocked(console)
    return console


def state(site, vm):
    return site.json("vm", "show", vm)["state"]


def one_is_deaf(site, console):
    step("a guest that does not hear: firmware without a system")
    parts = refused(site, "site", "stop", "--timeout", "20")
    check("deaf" in parts["cause"] and "probe" not in parts["cause"], f"it is named: {parts['cause']}")
    console.wait_for(SHUT_DOWN, 5)
    check(state(site, "deaf") == "running", f"and runs on, as does the site: {parts['effect']}")
    check(state(site, "probe") == "stopped (was running)", "the other one has shut down, and is known as one that ran")


def stopped_in_order(site, directory):
    step("site stop")
    site.cli("vm", "stop", "deaf", "--force")
    console = starts(site, directory, 2)
    site.cli("site", "stop", timeout=60)
    site.launcher.wait(10)
    check(console.find(SHUT_DOWN) is not None, "the guest shut down, then the site ended")
    site.start()
    check(state(site, "probe") == "stopped (was running)", "started again, the site knows what ran")


def stopped_by_signal(site, directory):
    step("SIGTERM to the launcher, as a host that shuts down sends it")
    console = starts(site, directory, 3)
    site.cli("vm", "start", "deaf")
    site.launcher.child.send_signal(signal.SIGTERM)
    console.wait_for(SHUT_DOWN, 30)
    wait_until(lambda: not site.qemu_pid("probe"), 20, "the probe's QEMU has ended")
    parts = refused(site, "vm", "start", "probe")
    check("being stopped" in parts["cause"], f"nothing starts meanwhile: {parts['cause']}; {parts['mend']}")
    check(site.launcher.running() and state(site, "deaf") == "running", "the one that does not hear has time left")
    os.kill(site.pids_of("holdfastd")[0], signal.SIGKILL)
    site.wait_answers()
    parts = refused(site, "vm", "start", "probe")
    check("being stopped" in parts["cause"], "a new holdfastd learns that too")
    site.cli("site", "stop", "--force", timeout=60)
    site.launcher.wait(10)
    check(not site.pids_of("qemu-system"), "site stop --force cut its power")


def restarted(site, directory):
    step("site restart")
    site.start()
    console = starts(site, directory, 4)
    before = {name: site.pids_of(name) for name in ("holdfastd", "holdfast-vault", "holdfast-link", "qemu-system", "holdfast-keeper")}
    shown = site.json("vm", "show", "probe")
    began = time.monotonic()
    site.cli("site", "restart", timeout=60)
    site.launcher.wait(10)
    now = site.json("vm", "show", "probe")
    check(now["state"] == "running" and (now["qemu_pid"], now["keeper_pid"]) == (shown["qemu_pid"], shown["keeper_pid"]),
          f"guest and keeper are the same after {time.monotonic() - began:.1f} s")
    console.wait_for_end(10)
    console = site.vm_console("probe", directory / "console5")
    # It begins wherever the guest is by now.
    done = max(wait_until(lambda: list(probe.rounds(console)), 30, "the guest is heard again"))
    wait_until(lambda: max(probe.rounds(console)) >= done + 5, 60, "the guest goes on")
    check(True, "its disks, variables and TPM go on")
    site.cli("site", "stop", timeout=60)
    console.wait_for(SHUT_DOWN, 5)
    check(not run(["pgrep", "-f", f"qemu-system.*{shown['id']}"], check=False).stdout, "site stop ended it in order")


def test(directory):
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    data = probe.make_data_disk(directory / "data.img", rate=5)
    for path in (image, data):
        path.chmod(0o644)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 310000)
        try:
            site.init()
            site.start()
            site.vm_create("probe", [image, data], "--memory", "512M")
            site.cli("vm", "create", "deaf", "--blank", "16M", "--memory", "256M")
            console = starts(site, directory, 1)
            site.cli("vm", "start", "deaf")
            one_is_deaf(site, console)
            stopped_in_order(site, directory)
            stopped_by_signal(site, directory)
            restarted(site, directory)
        finally:
            site.cli("site", "stop", "--force", check=False, timeout=60)  # a launcher that the restart made is no child of ours
            site.end()


if __name__ == "__main__":
    main(test)
