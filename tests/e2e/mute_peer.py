#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""A site that can be reached and says nothing holds up its own VMs' replication and no other site's: a holdfastd that begins anew
asks it about many stopped VMs, while a running VM's stream to a third site opens at once.
"""

import os
import signal
import time

from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

STOPPED = 6  # each was waited for 3 s
STREAMS_MAX = 6  # seconds


def protect(north):
    """The VM with the highest id, which comes last where it goes by ids, runs and goes to west; all others are stopped."""
    names = [f"vm{number}" for number in range(STOPPED + 1)]
    for name in names:
        north.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
    names.sort(key=north.vm_id)
    for name in names[:-1]:
        north.cli("protection", "enable", name, "--to", "south")
    north.cli("protection", "enable", names[-1], "--to", "west")
    north.cli("vm", "start", names[-1])
    wait_protected(north, names[-1])
    return names


def test(directory):
    with Processes(directory) as processes:
        north, south, west = (Site(processes, directory, name, base)
                              for name, base in (("north", 310000), ("south", 360000), ("west", 410000)))
        directory.chmod(0o711)
        stopped = []
        try:
            for site in (north, south, west):
                site.init()
                site.start()
            pair(north, south)
            pair(north, west)
            names = protect(north)
            # South's link goes on, and answers for a holdfastd that does not.
            stopped = [south.launcher.pid, *south.pids_of("holdfastd")]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            step("south can be reached and says nothing")
            (daemon,) = north.pids_of("holdfastd")
            os.kill(daemon, signal.SIGKILL)
            wait_until(lambda: north.pids_of("holdfastd") not in ([], [daemon]), 20, "north's holdfastd is another one")
            north.wait_answers()
            begun = time.monotonic()
            wait_until(lambda: north.json("protection", "show", names[-1])["state"] == "streaming", 60, "the stream to west", interval=0.05)
            waited = time.monotonic() - begun
            check(waited < STREAMS_MAX, f"the stream to west stands {waited:.1f} s after north's holdfastd began anew, with {STOPPED} "
                  "stopped VMs at south")
            wait_protected(north, names[-1], 10)
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
            stopped = []
            north.cli("vm", "start", names[0], timeout=60)
            wait_protected(north, names[0], 60)
            check(True, "south answers again: a VM of its own is replicated")
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
            for site in (north, south, west):
                site.end()


if __name__ == "__main__":
    main(test)
