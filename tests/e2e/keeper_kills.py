#!/usr/bin/env python3
# timeout: 300
# needs: alone
# programs: holdfast-keeper holdfast-vault
"""A keeper is killed with kill -9 under load, again and again. What was acknowledged survives it, as one prefix of the
writes; no client sees an error; the next keeper answers on the same sockets.

The load here is many times a guest's: the pauses are reported, and bounded only so that a keeper that hangs is found. The bar
on the pause that a guest sees is kills_under_load.py's.

HOLDFAST_KILLS=n (environment) sets how often; 20 by default, 200 in script/nightly.
"""

import os
import random
import threading
import time

from lib import nbd, sequence_load
from lib.keeper import Keeper, Vault
from lib.process import Processes
from lib.report import check, main

MIB = 1 << 20
KILLS = int(os.environ.get("HOLDFAST_KILLS", "20"))
LONGEST_MS_MAX = 1000


class Pulse(threading.Thread):
    """Writes to a disk one at a time, and comes back at once when the server is gone; the longest gap between answers."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.gap, self.writes, self.ended, self.error = path, 0.0, 0, False, None

    def run(self):
        disk, last = None, time.monotonic()
        while not self.ended:
            try:
                if disk is None:
                    disk = nbd.Nbd(self.path)
                disk.write(self.writes % 1024 * 4096, bytes([self.writes % 251]) * 4096)
            except (ConnectionError, TimeoutError):
                disk = None
                continue
            except OSError as error:
                self.error = error
                return
            now = time.monotonic()
            self.gap, last, self.writes = max(self.gap, now - last), now, self.writes + 1
            time.sleep(0.001)

    def take_gap_ms(self):
        gap, self.gap = self.gap, 0.0
        return gap * 1000


def killed_under_load(keeper):
    chance = random.Random(20)
    pulse = Pulse(keeper.socket_path("disk2"))
    pulse.start()
    disk = nbd.Nbd(keeper.socket_path("disk3"))
    number, pauses = 0, []
    for _ in range(KILLS):
        end = time.monotonic() + chance.uniform(0.05, 0.4)
        load = sequence_load.Load(disk, number)
        killer = threading.Timer(end - time.monotonic(), keeper.process.child.kill)
        pulse.take_gap_ms()
        killer.start()
        flushed = number
        try:
            while True:
                flushed = load.run_batch()
        except (ConnectionError, TimeoutError):
            pass
        keeper.process.kill()
        keeper.start(successor=True)
        disk = nbd.Nbd(keeper.socket_path("disk3"))
        number = sequence_load.verify(disk, flushed)
        before = pulse.writes
        while pulse.writes < before + 3 and pulse.error is None:
            time.sleep(0.005)
        pauses.append(pulse.take_gap_ms())
        check(pulse.error is None, f"killed at write {number}: one prefix, nothing lost, no error; pause {pauses[-1]:.0f} ms")
    pulse.ended = True
    check(number > 20 * KILLS and pulse.writes > 20 * KILLS, f"{number} and {pulse.writes} writes in between")
    pauses.sort()
    check(pauses[-1] < LONGEST_MS_MAX,
          f"pauses: median {pauses[len(pauses) // 2]:.0f} ms, p99 {pauses[-1 - len(pauses) // 100]:.0f} ms, longest {pauses[-1]:.0f} ms")
    disk.close()


def test(directory):
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": 64 * MIB, "disk2": 64 * MIB, "disk3": 64 * MIB}, vtpm=False)
        keeper.create()
        keeper.start()
        keeper.wait_serving()
        killed_under_load(keeper)
        status = keeper.control("status")
        check(status["state"] == "serving", f"still serving, at record {status['durable']}")
        keeper.stop()


main(test)
