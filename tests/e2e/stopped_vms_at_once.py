#!/usr/bin/env python3
# timeout: 200
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""Many stopped VMs are protected at once: for each a keeper without the key is started, ships, and ends. Its end, told while the
next one is being started, must not hold up the launcher's answer to that start, on which all of holdfastd waits.
"""

import subprocess
import time

from lib.process import Failure, Processes, wait_until
from lib.report import check, main
from lib.site import Site, pair

VMS = 8
ROUNDS = 3
LEVEL_MAX = 12  # seconds; a call to the launcher that is not answered takes 15


def at_once(site, names, *words):
    """One `protection` command for each VM, all at the same time."""
    started = [subprocess.Popen([str(word) for word in site.argv("protection", words[0], name, *words[1:])], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True) for name in names]
    for name, process in zip(names, started):
        _, stderr = process.communicate(timeout=60)
        if process.returncode != 0:
            raise Failure(f"protection {words[0]} {name}: {stderr}")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            names = [f"vm{number}" for number in range(VMS)]
            for name in names:
                north.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
            for number in range(ROUNDS):
                at_once(north, names, "enable", "--to", "south")
                begun = time.monotonic()
                wait_until(lambda: all(north.json("protection", "show", name).get("caught_up") for name in names), 60,
                           f"{VMS} replicas are level", interval=0.1)
                waited = time.monotonic() - begun
                check(waited < LEVEL_MAX, f"round {number + 1}: {VMS} replicas are level {waited:.1f} s after the last was offered")
                wait_until(lambda: not north.pids_of("holdfast-keeper"), 10, "the keepers that shipped have ended")
                at_once(north, names, "disable")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
