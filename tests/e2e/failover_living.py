#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Failover while the source lives: its guest is stopped for good and all it wrote has arrived, then the VM runs at the
other site; again and again, on two sites that go on. An answer that was lost is given again when the command is.

HOLDFAST_ROUNDS=n (environment) sets how many VMs are failed over; 3 by default.
"""

import os
import signal
import sqlite3
import subprocess
import time

from lib.outcome import no_job_hangs, no_sanitizer_reports, sanitized
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, refused, wait_protected

ROUNDS = int(os.environ.get("HOLDFAST_ROUNDS", "3"))
RUNNING_MS_MAX = 3000
LOSSES_MAX = 10  # tries to end a holdfastd between a question and its answer


def role(site, vm):
    """As the catalog has it, without asking holdfastd."""
    link = sqlite3.connect(f"file:{site.state / 'daemon/catalog.sqlite'}?mode=ro", uri=True)
    try:
        return link.execute("SELECT role FROM vms WHERE name = ?", (vm,)).fetchone()[0]
    finally:
        link.close()


def start_protected(north, name):
    north.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
    north.cli("vm", "start", name)
    north.cli("protection", "enable", name, "--to", "south")
    wait_protected(north, name)


def at_rest(site, vm):
    """Until nothing of a superseded VM is left; seconds waited."""
    start = time.monotonic()
    shown = wait_until(lambda: (view := site.json("vm", "show", vm)) and not view["qemu_pid"] and not view["keeper_pid"] and view,
                       10, f"nothing of {vm} runs at {site.name}")
    if shown["state"] != "superseded":
        raise Failure(f"{vm} is {shown['state']} at {site.name}")
    return time.monotonic() - start


def end_vm(north, south, name):
    """Both sites are rid of it, by the commands that an operator has."""
    north.cli("vm", "delete", name, "--yes")
    if south.json("vm", "show", name)["state"] != "running":
        raise Failure(f"{name} does not run at south after north deleted what was left of it")
    south.cli("vm", "stop", name, "--force")
    south.cli("vm", "delete", name, "--yes")


def one_round(north, south, number):
    name = f"vm{number}"
    start_protected(north, name)
    acknowledged = north.json("protection", "show", name)["acknowledged"]
    qemu = north.qemu_pid(name)
    job = south.json("failover", "unplanned", name, "--yes", timeout=40)
    if os.path.exists(f"/proc/{qemu}"):
        raise Failure(f"{name}'s guest still runs at north when south's runs")
    south_shown = south.json("vm", "show", name)
    if south_shown["state"] != "running" or role(south, name) != "active":
        raise Failure(f"{name} is {south_shown['state']} at south")
    rest = at_rest(north, name)
    if job["received_sequence"] < acknowledged:
        raise Failure(f"south began from record {job['received_sequence']}, and had acknowledged {acknowledged}")
    if job["source"] != "the source stopped, and shipped all that it had":
        raise Failure(f"the answer of the source: {job['source']}")
    step(f"{name}: vCPUs run after {job['failover_ms']} ms {job['phases_ms']}; "
         f"records {acknowledged} acknowledged, {job['received_sequence']} taken over; north at rest {rest:.1f} s later")
    end_vm(north, south, name)
    return job["failover_ms"]


def lose_an_answer(north, south, name):
    """south's holdfastd dies after north has given the VM up and before south knows. False: it was too late."""
    start_protected(north, name)
    (daemon,) = south.pids_of("holdfastd")
    command = subprocess.Popen([str(word) for word in south.argv("failover", "unplanned", name, "--yes")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: role(north, name) == "superseded", 20, "north gave the VM up", interval=0.001)
        os.kill(daemon, signal.SIGSTOP)
        lost = role(south, name) == "standby"
        os.kill(daemon, signal.SIGKILL if lost else signal.SIGCONT)
    finally:
        command.wait(60)
    south.wait_answers()
    if not lost:
        at_rest(north, name)
        end_vm(north, south, name)
    return lost


def answer_lost(north, south):
    names = [f"lost{number}" for number in range(LOSSES_MAX)]
    name = next((name for name in names if lose_an_answer(north, south, name)), None)
    if name is None:
        raise Failure(f"south's holdfastd could not be ended in time, {LOSSES_MAX} times")
    check(role(north, name) == "superseded" and role(south, name) == "standby",
          "north gave the VM up, and its answer never reached south")
    at_rest(north, name)
    refused(north, "vm", "start", name)
    parts = refused(north, "vm", "delete", name, "--yes")
    check("failover unplanned" in parts["mend"], f"what north has left is not deleted before: {parts['mend']}")
    job = south.json("failover", "unplanned", name, "--yes", timeout=40)
    check(job["source"].startswith("the source stopped") and south.json("vm", "show", name)["state"] == "running",
          f"the same command again: {job['source']}, and the VM runs at south after {job['failover_ms']} ms")
    end_vm(north, south, name)


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            daemons = [site.pids_of("holdfastd") for site in (north, south)]
            times = [one_round(north, south, number) for number in range(1, ROUNDS + 1)]
            check(sanitized() or max(times) < RUNNING_MS_MAX, f"{ROUNDS} times: at south after {min(times)} to {max(times)} ms")
            check(daemons == [site.pids_of("holdfastd") for site in (north, south)], "both holdfastd live on")
            answer_lost(north, south)
            no_job_hangs(north, south)
            if sanitized():
                no_sanitizer_reports(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
