#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A failover whose holdfastd is killed after the received journal became the VM's and before it was looked into: the next
start takes baseline, history and key out of it all the same, and the boot is judged by them, not learned.
"""

import os
import signal
import sqlite3
import subprocess
import time

from lib import probe
from lib.attest import BOOT, Boots, expect_healthy
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main
from lib.site import Site, pair, wait_protected

VM = "probe"


def catalog(site, query):
    link = sqlite3.connect(f"file:{next(site.state.rglob('catalog.sqlite'))}?mode=ro", uri=True)
    try:
        return link.execute(query).fetchall()
    finally:
        link.close()


def failover_cut_off(site):
    """The VM is the site's, durably; then the keeper without the key ends and the one with it takes a while to open the journal."""
    (daemon,) = site.pids_of("holdfastd")
    job = subprocess.Popen([str(word) for word in site.argv("failover", "unplanned", VM, "--source-is-off", "--yes")],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pending = "SELECT adopt_pending FROM vms"
    end = time.monotonic() + 30
    while catalog(site, pending) != [(1,)]:
        if time.monotonic() > end:
            raise Failure("the VM never became the site's")
    os.kill(daemon, signal.SIGKILL)
    job.wait(60)
    site.wait_answers()
    check(catalog(site, pending) == [(1,)], "holdfastd was killed after the VM was the site's and before its journal was looked into")


def test(directory):
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    image.chmod(0o644)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 470000), Site(processes, directory, "south", 480000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.vm_create(VM, [image], "--memory", "512M")
            boots = Boots(north, VM)
            boots.start()
            expect_healthy(boots.verdict(BOOT), "the first boot")
            learned = boots.show()["baseline"]["learned_us"]
            north.cli("protection", "enable", VM, "--to", "south")
            wait_protected(north, VM)
            vm_id = north.vm_id(VM)
            north.kill_whole()
            failover_cut_off(south)
            wait_until(lambda: not any(job["state"] == "running" for job in south.json("job", "list")), 60, "no job is left")
            boots = Boots(south, VM)
            boots.start()
            shown = boots.show()
            check(shown["verdict"] == "Unknown" and "token" not in shown["newest"], f"as it boots: {shown['note']}")

            def here():
                newest = boots.show()["newest"]
                return newest if newest["site"] == "south" and newest["trigger"] == BOOT else None

            record = wait_until(here, 90, "a verdict at the other site", interval=0.1)
            expect_healthy(record, "the boot at the other site")
            shown = boots.show()
            check(shown["baseline"]["learned_us"] == learned
                  and not any(reason["code"] == "baseline_learned" for reason in record["reasons"]),
                  "the next start judged by the baseline that came with the journal and learned nothing")
            check(any(entry.get("site") == "north" for entry in shown["history"]), "the history came along")
            check(catalog(south, "SELECT adopt_pending FROM vms") == [(0,)], "nothing is left to adopt")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
