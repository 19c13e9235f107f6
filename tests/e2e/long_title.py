#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""A VM whose title has grown longer than one message holds is protected, handed over, handed back and unprotected as any other:
what an offer, an order's answer or a resignation has no room for is fetched.
"""

import os

from lib import turned as t
from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

STATEMENTS = 300  # a message holds some 180


def test(directory):
    if os.geteuid() != 0:
        return step("skipped: only root can write into a vault's directory")
    directory.chmod(0o711)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 1110000), Site(processes, directory, "south", 1160000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.vm_create("web", [], "--blank", "16M", "--memory", "256M")
            vm = bytes.fromhex(north.vm_id("web"))
            north.stop()
            keys = t.Turned(north)
            chain = keys.title(vm)
            for number in range(STATEMENTS):
                chain.append(chain[-1].then("policy", keys.site, start_after=60 * (1 - number % 2)).signed_by(keys))
            t.put_title(keys, vm, chain)
            north.start()
            length = len(north.json("vm", "title", "web")["chain"])
            check(length == STATEMENTS + 1, f"web's title has {length} statements")
            north.cli("protection", "enable", "web", "--to", "south", timeout=60)
            north.cli("vm", "start", "web")
            wait_protected(north, "web")
            check(len(south.json("vm", "title", "web")["chain"]) > STATEMENTS, "south has all of it, and stands by")
            for there, here in ((north, south), (south, north)):
                here.cli("failover", "unplanned", "web", "--yes", timeout=90)
                check(here.json("vm", "show", "web")["state"] == "running", f"web was handed over to {here.name}")
                wait_until(lambda there=there: there.json("vm", "show", "web")["qemu_pid"] == 0, 20, f"{there.name} has stopped it")
                wait_protected(here, "web", 60)
            done = north.json("protection", "disable", "web", timeout=60)
            check(done["replica_removed"], "and its protection is ended in order")
            north.cli("vm", "stop", "web", "--force")
            north.cli("vm", "start", "web", timeout=60)
            check(north.json("vm", "show", "web")["state"] == "running", "nobody is asked any more before it starts")
            for site in (north, south):
                site.stop()
        finally:
            north.end()
            south.end()


main(test)
