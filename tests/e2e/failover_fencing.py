#!/usr/bin/env python3
# timeout: 180
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""One line of writes is ever current: the source of a failover, started again, learns the higher epoch and does not
start the VM, by itself or when told to; and while it can't ask its peer it starts nothing on its own either.
"""

from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, refused, wait_protected


def runs(site, vm):
    return site.json("vm", "show", vm)["state"] == "running"


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", "web")
            north.cli("protection", "enable", "web", "--to", "south")
            wait_protected(north, "web")
            refused(south, "vm", "start", "web")
            before = north.json("vm", "show", "web")["epoch"]

            north.kill_whole()
            south.stop()
            north.start()
            check(not runs(north, "web"), "north, back alone, does not start the VM by itself")
            refused(north, "vm", "start", "web")
            north.kill_whole()

            south.start()
            refused(south, "failover", "unplanned", "web", "--yes")  # the source does not answer, and nobody says it is dead
            south.cli("failover", "unplanned", "web", "--source-is-off", "--yes")
            check(runs(south, "web"), "south runs it")
            after = south.json("vm", "show", "web")["epoch"]
            check(after > before, f"under a higher epoch: {before}, then {after}")

            north.start()
            wait_until(lambda: north.json("vm", "show", "web")["epoch"] == after, 20,
                       "north learns the higher epoch by itself")
            shown = north.json("vm", "show", "web")
            check(shown["state"] == "superseded" and not shown["qemu_pid"],
                  f"north learned epoch {after} and shows the VM as {shown['state']}")
            refused(north, "vm", "start", "web")
            refused(north, "vm", "start", "web", "--without-peer")
            check(runs(south, "web") and not runs(north, "web"), "south still runs it, north does not")
        finally:
            north.end()
            south.end()
    step("one site ran it at a time")


if __name__ == "__main__":
    main(test)
