#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A failover that cannot succeed leaves the source alone, and what its refusal says to do leads on. What a site has left
of a VM that was taken over is removed there, and only there.
"""

import shutil

from lib.process import Processes, wait_until
from lib.report import check, main
from lib.site import Site, pair, refused, wait_protected


def empty_replica(north, south):
    north.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
    # A VM that does not run is shipped as well: so its journal is away.
    journal = north.state / "vms" / north.vm_id("web") / "journal"
    away = journal.with_name("away")
    journal.rename(away)
    north.cli("protection", "enable", "web", "--to", "south")
    for words in ((), ("--source-is-off",)):
        parts = refused(south, "failover", "unplanned", "web", "--yes", *words)
        check("empty" in parts["cause"] and "not asked to stop" in parts["effect"], parts["effect"])
    shown = north.json("vm", "show", "web")
    check(shown["role"] == "active" and shown["epoch"] == 1, "north is its home as before")
    # What the refusal says: start it at its source, wait, fail over.
    shutil.rmtree(journal, ignore_errors=True)
    away.rename(journal)
    north.cli("vm", "start", "web")
    wait_protected(north, "web")
    south.cli("failover", "unplanned", "web", "--yes")
    check(south.json("vm", "show", "web")["state"] == "running", "started once at north, it fails over")


def stands_by(north, south):
    """South runs the VM, and north stands by for it without a command."""
    wait_until(lambda: north.json("vm", "show", "web")["state"] == "standby", 10, "north stands by")
    wait_protected(south, "web")
    refused(north, "vm", "start", "web")
    parts = refused(north, "protection", "disable", "web")
    check("at site south: holdfast protection disable web" in parts["mend"], f"its mend: {parts['mend']}")
    parts = refused(north, "vm", "delete", "web", "--yes")
    check("at site south: holdfast protection disable web" in parts["mend"], f"nor is it deleted: {parts['mend']}")
    check(south.json("vm", "show", "web")["state"] == "running", "south's VM is untouched by that")
    north.cli("failover", "unplanned", "web", "--yes")
    check(north.json("vm", "show", "web")["state"] == "running", "and it is failed over again, back to north")


def left_overs(north, south):
    """South is lost and taken over from, and comes back: it has a superseded copy."""
    wait_until(lambda: south.json("vm", "show", "web")["state"] == "standby", 10, "south stands by")
    wait_protected(north, "web")
    north.stop()
    south.cli("failover", "unplanned", "web", "--yes", "--source-is-off", timeout=60)
    south.stop()
    north.start()
    wait_until(lambda: not north.json("vm", "show", "web")["qemu_pid"], 20, "north runs nothing by itself")
    south.start()
    wait_until(lambda: north.json("vm", "show", "web")["state"] == "superseded", 30, "north learns of it")
    refused(north, "vm", "start", "web")
    south.stop()
    parts = refused(north, "vm", "delete", "web", "--yes")
    check("--without-peer" in parts["mend"], f"while south is not there: {parts['mend']}")
    south.start()
    wait_until(lambda: any(peer["state"] == "reachable" for peer in north.json("site", "peers")), 20, "south is back")
    north.cli("vm", "delete", "web", "--yes")
    check(not any(vm["name"] == "web" for vm in north.json("vm", "list")), "north is rid of it")
    south.cli("vm", "start", "web")
    check(south.json("vm", "show", "web")["state"] == "running", "south has it whole")
    # The way back: its new home protects it to where it came from.
    south.cli("protection", "enable", "web", "--to", "north")
    wait_protected(south, "web")
    north.cli("failover", "unplanned", "web", "--yes")
    check(north.json("vm", "show", "web")["state"] == "running", "and it can be failed over again, back to north")


def source_without_the_vm(north, south):
    """south holds a replica of a VM of which north expelled it, on a word, before it deleted the VM."""
    north.cli("vm", "create", "gone", "--blank", "16M", "--memory", "256M")
    north.cli("vm", "start", "gone")
    north.cli("protection", "enable", "gone", "--to", "south")
    wait_protected(north, "gone")
    north.cli("vm", "stop", "gone", "--force")
    south.stop()
    north.cli("protection", "disable", "gone")  # the replica stays at south: it cannot be asked
    parts = refused(north, "vm", "delete", "gone", "--yes")
    check("disable gone --without-peer" in parts["mend"], f"its mend: {parts['mend']}")
    north.cli("protection", "disable", "gone", "--without-peer")
    north.cli("vm", "delete", "gone", "--yes")
    south.start()
    parts = refused(south, "failover", "unplanned", "gone", "--yes")
    check("--source-is-off" in parts["mend"], f"its source has nothing of it: {parts['cause']}; {parts['mend']}")
    parts = refused(south, "failover", "unplanned", "gone", "--yes", "--source-is-off")
    check("no part in VM gone" in parts["cause"] and "replica evict gone" in parts["mend"],
          f"it was let go before that: {parts['cause']}; {parts['mend']}")
    south.cli("replica", "evict", "gone", "--yes")
    check(all(vm["name"] != "gone" for vm in south.json("vm", "list")), "what was here of it is gone")


def source_that_refuses(north, south):
    """north has the VM for itself again, and answers so: no word makes it off."""
    north.cli("vm", "create", "mine", "--blank", "16M", "--memory", "256M")
    north.cli("vm", "start", "mine")
    north.cli("protection", "enable", "mine", "--to", "south")
    wait_protected(north, "mine")
    asked = refused(south, "failover", "unplanned", "mine", "--source-is-off")
    check("--yes" in asked["mend"] and "was written" in asked["cause"] and "Site north answers" in asked["cause"] and
          "its power is cut" in asked["cause"], f"what is asked first: {asked['cause']}")
    south.stop()
    silent = north.json("protection", "disable", "mine")
    check(not silent["replica_removed"], "the replica stays at south")
    north.cli("protection", "disable", "mine", "--without-peer")
    south.start()
    wait_until(lambda: all(site.json("site", "peers")[0]["state"] == "reachable" for site in (north, south)), 20,
               "the sites reach each other")
    for words in ((), ("--source-is-off",)):
        parts = refused(south, "failover", "unplanned", "mine", "--yes", *words)
        check("site north answers and did not hand the VM over" in parts["cause"] and "at site north" in parts["mend"],
              f"its mend: {parts['mend']}")
    check(north.json("vm", "show", "mine")["state"] == "running" and south.json("vm", "show", "mine")["role"] == "standby",
          "north runs it, and south does not")
    shown = south.json("protection", "show", "mine")
    check(shown["lag_records"] is None, f"how far north has come is not known at south: {shown['state']}")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            empty_replica(north, south)
            stands_by(north, south)
            left_overs(north, south)
            source_without_the_vm(north, south)
            source_that_refuses(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
