#!/usr/bin/env python3
# timeout: 900
# needs: qemu-2
# programs: holdfast-keeper holdfast-vault
"""What was flushed survives power loss. kill -9 never loses the page cache, so the keeper runs inside a machine
which is itself killed, again and again, under load; each time all that was flushed must be there, as one prefix.

HOLDFAST_KILLS=n (environment) sets how often; 10 by default.
"""

import os
import random
import re
import time

from lib.appliance import Appliance
from lib.process import Failure, Processes
from lib.report import check, main, step

KILLS = int(os.environ.get("HOLDFAST_KILLS", "10"))


def last_flushed(console, otherwise):
    numbers = [int(match[1]) for line in list(console.lines) if (match := re.match(r"HF FLUSHED (\d+)$", line.text))]
    return numbers[-1] if numbers else otherwise


def test(directory):
    seed = random.randrange(1 << 32)
    step(f"seed {seed}")
    moments = random.Random(seed)
    flushed = beyond = lost = 0
    with Processes(directory) as processes:
        machine = Appliance(processes, directory, "durability_guest", ["holdfast-keeper", "holdfast-vault"])
        for kill in range(KILLS + 1):
            console = machine.start(flushed=flushed)
            _, line, match = console.wait_for(r"^HF VERIFIED newest=(\d+)", 180)
            newest = int(match[1])
            beyond += newest > flushed
            unsynced = int(console.wait_for(r"^HF UNSYNCED (\d*)$", 10)[2][1] or 0)
            lost += unsynced < flushed
            if kill < KILLS:
                console.wait_for(r"^HF FLUSHED", 60)
                time.sleep(moments.uniform(0.2, 2.5))
                machine.kill()
                console.wait_for_end(10)
                before, flushed = flushed, last_flushed(console, flushed)
                if console.find(r"^HF FAILED"):
                    raise Failure(console.tail())
                step(f"kill {kill + 1}: found {newest}, flushed {flushed - before} more up to {flushed}")
            else:
                machine.kill()
        check(lost > KILLS / 2, f"the kill is a power cut: {lost} of {KILLS} times a file without fsync lost its last bytes")
        check(flushed > 100 * KILLS, f"{KILLS} kills under load, {flushed} flushed writes, none lost, "
                                     f"each time one prefix ({beyond} times with more than was flushed)")


if __name__ == "__main__":
    main(test)
