#!/usr/bin/env python3
# timeout: 120
# needs: alone
# programs: holdfast-keeper holdfast-vault
"""A keeper whose guest does nothing sleeps: what costs little a VM costs a host with a thousand of them its cores."""

import pathlib
import time

from lib.keeper import Keeper, Vault
from lib.nbd import Nbd
from lib.process import Processes
from lib.report import check, main, step

MIB = 1 << 20
DISK = 64 * MIB
SECONDS = 10
WAKEUPS_PER_SECOND_MAX = 2


def switches(pid):
    """{thread: (name, how often it went to sleep by itself)}."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        except FileNotFoundError:
            continue  # it has just ended
        found[task.name] = (lines["Name"], int(lines["voluntary_ctxt_switches"]))
    return found


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measure(keeper, what):
    pid = keeper.process.pid
    before, cpu = switches(pid), cpu_seconds(pid)
    time.sleep(SECONDS)
    after, cpu = switches(pid), cpu_seconds(pid) - cpu
    woke = {name + " " + task: count - before.get(task, ("", 0))[1] for task, (name, count) in after.items()}
    rate = sum(woke.values()) / SECONDS
    step(f"{what}: {rate:.1f} wake-ups/s, {len(after)} threads, {cpu:.2f} s of CPU in {SECONDS} s; {woke}")
    check(rate <= WAKEUPS_PER_SECOND_MAX, f"{what}: it wakes at most {WAKEUPS_PER_SECOND_MAX} times a second")


def settle(keeper):
    """Until what a start or a write sets off is done: syncs, the next segment, the freshness record; the kernel's I/O threads end after 5 s."""
    time.sleep(8)


def test(directory):
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": DISK})
        keeper.create()
        keeper.start()
        keeper.wait_serving()
        settle(keeper)
        measure(keeper, "after its start")

        client = Nbd(keeper.socket_path("disk1"), "disk1")
        client.write(0, b"\x5a" * 4096)
        client.flush()
        settle(keeper)
        measure(keeper, "with a client that wrote once and went quiet")
        client.write(4096, b"\xa5" * 4096)
        check(client.read(0, 8192) == b"\x5a" * 4096 + b"\xa5" * 4096, "and is there at once when it is needed")
        client.close()
        keeper.stop()


main(test)
