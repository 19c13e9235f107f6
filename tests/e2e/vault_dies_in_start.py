#!/usr/bin/env python3
# timeout: 400
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""The vault is killed while a VM is being started: the start ends soon, well or with a reason, and all of holdfastd goes on. What
has to be done for the vault that begins anew must not hold up the launcher's answers, which that start waits for.

HOLDFAST_KILLS=n (environment) sets how often; 16 by default.
"""

import os
import random
import signal
import subprocess
import time

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site

KILLS = int(os.environ.get("HOLDFAST_KILLS", "16"))
END_MAX = 14  # seconds; a call to the launcher that is not answered takes 15


def start_and_kill(site, after):
    """Seconds from the vault's death to the end of the start, and its exit status."""
    start = subprocess.Popen([str(word) for word in site.argv("vm", "start", "web")], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    killed = time.monotonic()
    for pid in site.pids_of("holdfast-vault"):
        os.kill(pid, signal.SIGKILL)
    _, stderr = start.communicate(timeout=100)
    waited = time.monotonic() - killed
    if start.returncode != 0 and "mend:" not in stderr:
        raise Failure(f"the start ended without a reason: {stderr}")
    return waited, start.returncode


def test(directory):
    seed = random.randrange(1 << 32)
    step(f"seed {seed}")
    moments = random.Random(seed)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 310000)
        directory.chmod(0o711)
        try:
            site.init()
            site.start()
            for name in ("web", "other"):
                site.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
            site.cli("vm", "start", "other")
            longest, failed = 0, 0
            for _ in range(KILLS):
                waited, status = start_and_kill(site, moments.uniform(0, 0.6))
                longest, failed = max(longest, waited), failed + (status != 0)
                if waited >= END_MAX:
                    raise Failure(f"the start ended {waited:.1f} s after the vault's death")
                time.sleep(2.5)  # the vault is another one: more than five ends in 10 s would be a crash loop, which waits
                site.cli("vm", "stop", "web", "--force", check=False)
            check(True, f"the vault was killed in {KILLS} starts: each ended within {longest:.1f} s, {failed} of them with a reason")
            # One that died so often is started again ever more slowly: until then a command says "try again".
            wait_until(lambda: site.cli("vm", "start", "web", check=False).returncode == 0, 40, "it starts", interval=0.5)
            shown = [site.json("vm", "show", name)["state"] for name in ("web", "other")]
            check(shown == ["running", "running"], "then it starts, and the other VM has been running all the time")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
