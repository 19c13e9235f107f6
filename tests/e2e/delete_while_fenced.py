#!/usr/bin/env python3
# timeout: 120
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper holdfast-effects
"""What a site has left of a VM that was taken from it is deleted as soon as that is asked for: its guest, which is just being
ended because of that, is waited for, and nobody has to stop a VM that is another site's.
"""

import subprocess
import time

from lib.held import Hold
from lib.process import Failure, Processes
from lib.report import check, main
from lib.scenes import silent
from lib.site import Site, pair, wait_protected


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
            hold = Hold(north, north.vm_id("web"), "fence fence before")
            with silent(north):
                south.cli("failover", "unplanned", "web", "--yes", "--source-is-off")
            hold.wait()
            check(north.json("vm", "show", "web")["role"] == "superseded", "north has learned of it, and its guest is there still")
            delete = subprocess.Popen([str(word) for word in north.argv("vm", "delete", "web", "--yes")], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, text=True)
            time.sleep(1)
            if delete.poll() is not None:
                raise Failure(f"the deletion did not wait: {delete.communicate()[1]}")
            hold.drop()
            said = delete.communicate(timeout=60)[1]
            check(delete.returncode == 0, f"then it is deleted: {said.splitlines()[-1] if said else ''}")
            check(not north.json("vm", "list") and south.json("vm", "show", "web")["state"] == "running", "north is rid of it, and south runs it")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
