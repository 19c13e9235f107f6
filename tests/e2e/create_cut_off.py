#!/usr/bin/env python3
# timeout: 180
# needs: disk-time
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A VM whose creation is cut off in the middle of its import, by the death of holdfastd or of all of the site, is no VM:
nothing of it is left, no importer goes on, and the same command makes it whole. An orderly stop may let it come to its end.
"""

import os
import signal
import subprocess

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site

IMAGE_MIB = 768  # of bytes that do not compress and are no holes: its import takes seconds


def create(site, image, name):
    return subprocess.Popen([str(word) for word in site.argv("vm", "create", name, "--disk", image)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def importing(site, name):
    def grows():
        shown = site.json("vm", "show", name) if name in names(site) else None
        directory = site.state / "vms" / shown["id"] / "journal" if shown else None
        return directory and directory.is_dir() and any(path.stat().st_size > 1 << 20 for path in directory.glob("segment-*"))

    wait_until(grows, 20, f"{name} is being imported", interval=0.02)
    return site.json("vm", "show", name)


def names(site):
    return [vm["name"] for vm in site.json("vm", "list")]


def nothing_left(site, vm_id, what):
    check(not names(site), f"{what}: no VM is left")
    left = [path for path in (site.state / "vms" / vm_id, site.state / "run/vms" / vm_id, site.state / "vault" / f"key-{vm_id}.hfv")
            if path.exists()]
    check(not left and not site.pids_of("holdfast-keeper"), f"{what}: nor directory, key or importer {left or ''}")


def whole(site, image, name, what):
    shown = site.json("vm", "show", name)
    check((shown["state"], shown["role"]) == ("stopped", "active"), f"{what}: {name} is made")
    site.cli("vm", "start", name)
    back = site.export_disk(name, "disk1", image.parent / "back.raw")
    check(back.read_bytes() == image.read_bytes(), f"{what}: its disk is the image")


def cut_off(site, image, name, how, what, may_be_whole=False, told=""):
    step(what)
    command = create(site, image, name)
    try:
        shown = importing(site, name)
        if shown["state"] != "importing" or shown["role"] != "creating":
            raise Failure(f"it is {shown['state']}, {shown['role']}")
        if site.cli("vm", "start", name, check=False).returncode == 0:
            raise Failure("it was started")
        how()
        if told:
            said = command.communicate(timeout=60)[1]
            check(told in said and "nothing was done" not in said, f"the command says: {said.splitlines()[-3:]}")
    finally:
        command.kill()
        command.communicate(timeout=10)
    site.wait_answers()
    if may_be_whole and names(site):
        whole(site, image, name, what)
        site.cli("vm", "stop", name, "--force")
        site.cli("vm", "delete", name, "--yes")
    nothing_left(site, shown["id"], what)


def daemon_dies(site):
    (daemon,) = site.pids_of("holdfastd")
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: site.pids_of("holdfastd") not in ([], [daemon]), 10, "another holdfastd")


def all_die(site):
    site.kill_whole()
    site.start()


def stopped(site):
    site.stop()
    site.start()


def test(directory):
    directory.chmod(0o711)
    image = directory / "image.raw"
    with open(image, "wb") as file:
        for _ in range(IMAGE_MIB // 16):
            file.write(os.urandom(16 << 20))
    image.chmod(0o644)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 310000)
        try:
            site.init()
            site.start()
            cut_off(site, image, "a", lambda: daemon_dies(site), "holdfastd dies", told="holdfastd ended while the job ran")
            cut_off(site, image, "a", lambda: all_die(site), "all of the site dies")
            cut_off(site, image, "a", lambda: stopped(site), "the site is stopped", may_be_whole=True)
            site.cli("vm", "create", "a", "--disk", image, timeout=120)
            whole(site, image, "a", "the same command")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
