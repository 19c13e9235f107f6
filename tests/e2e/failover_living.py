#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Failover while the source lives: its guest is stopped hard, all it wrote arrives, the VM runs at the other site, and
is protected the other way round without a command; to and fro, on two sites that go on. An answer that was lost is
given again when the command is.

HOLDFAST_ROUNDS=n (environment) sets how many failovers there are, over three VMs; 6 by default.
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

ROUNDS = int(os.environ.get("HOLDFAST_ROUNDS", "6"))
VMS = 3
RUNNING_MS_MAX = 3000
PROTECTED_S_MAX = 10
HANDED_OVER = "the source stopped and handed the VM over"
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


def stands_by(site, vm):
    """Until the VM's old home is the standby of who has it; seconds waited."""
    start = time.monotonic()
    wait_until(lambda: (view := site.json("vm", "show", vm)) and view["state"] == "standby" and not view["qemu_pid"] and
               not view["keeper_pid"], PROTECTED_S_MAX, f"{vm} stands by at {site.name}", interval=0.05)
    return time.monotonic() - start


def end_vm(holder, other, name):
    """Both sites are rid of it, by the commands that an operator has."""
    holder.cli("vm", "stop", name, "--force")
    holder.cli("protection", "disable", name)
    holder.cli("vm", "delete", name, "--yes")
    if any(vm["name"] == name for vm in other.json("vm", "list")):
        raise Failure(f"{other.name} still has {name}")


def fail_over(source, target, name):
    """To `target`, and protected there; (ms until vCPUs run, seconds until it is protected again)."""
    acknowledged = source.json("protection", "show", name)["acknowledged"]
    qemu = source.qemu_pid(name)
    job = target.json("failover", "unplanned", name, "--yes", timeout=60)
    done = time.monotonic()
    if os.path.exists(f"/proc/{qemu}"):
        raise Failure(f"{name}'s guest still runs at {source.name} when {target.name}'s runs")
    shown = target.json("vm", "show", name)
    if shown["state"] != "running" or role(target, name) != "active" or not shown["title"]["here"]:
        raise Failure(f"{name} is {shown['state']} at {target.name}")
    if job["received_sequence"] < acknowledged or not job["source_shipped_all"]:
        raise Failure(f"{target.name} began from record {job['received_sequence']}, and had acknowledged {acknowledged}")
    if job["source"] != HANDED_OVER or job["protected_by"] != source.name:
        raise Failure(f"the answer of the source: {job['source']}, protected by {job['protected_by']}")
    stands_by(source, name)
    wait_protected(target, name, PROTECTED_S_MAX)
    again = time.monotonic() - done
    step(f"{name} to {target.name}: vCPUs run after {job['failover_ms']} ms {job['phases_ms']}; protected again {again:.1f} s later")
    return job["failover_ms"], again


def rounds(north, south):
    names = [f"vm{number}" for number in range(1, VMS + 1)]
    for name in names:
        start_protected(north, name)
    where = {name: (north, south) for name in names}
    measured = []
    for number in range(ROUNDS):
        name = names[number % VMS]
        measured.append(fail_over(*where[name], name))
        where[name] = where[name][::-1]
    for name in names:
        chain = where[name][0].json("vm", "title", name)["chain"]
        turns = sum(one["kind"] == "hand-over" for one in chain)
        check(turns == len(measured[names.index(name)::VMS]), f"{name}'s title names each of its {turns} hand-overs")
        end_vm(*where[name], name)
    return measured


def lose_an_answer(north, south, name):
    """south's holdfastd dies after north has given the VM up and before south knows. False: it was too late."""
    start_protected(north, name)
    (daemon,) = south.pids_of("holdfastd")
    command = subprocess.Popen([str(word) for word in south.argv("failover", "unplanned", name, "--yes")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: role(north, name) in ("superseded", "standby"), 20, "north gave the VM up", interval=0.001)
        os.kill(daemon, signal.SIGSTOP)
        lost = role(south, name) == "standby"
        os.kill(daemon, signal.SIGKILL if lost else signal.SIGCONT)
    finally:
        command.wait(60)
    south.wait_answers()
    if not lost:
        stands_by(north, name)
        end_vm(south, north, name)
    return lost


def answer_lost(north, south):
    names = [f"lost{number}" for number in range(LOSSES_MAX)]
    name = next((name for name in names if lose_an_answer(north, south, name)), None)
    if name is None:
        raise Failure(f"south's holdfastd could not be ended in time, {LOSSES_MAX} times")
    stands_by(north, name)
    check(role(south, name) == "standby", "north gave the VM up, and its answer never reached south")
    parts = refused(north, "vm", "start", name)
    check("failover unplanned" in parts["mend"], f"north does not start it: {parts['cause']}")
    refused(north, "vm", "delete", name, "--yes")
    parts = refused(south, "replica", "evict", name, "--yes")
    check("failover unplanned" in parts["mend"], f"south does not evict what it holds: {parts['cause']}")
    job = south.json("failover", "unplanned", name, "--yes", timeout=60)
    check(south.json("vm", "show", name)["state"] == "running",
          f"the same command again: the VM runs at south after {job['failover_ms']} ms")
    wait_protected(south, name, PROTECTED_S_MAX)
    end_vm(south, north, name)


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
            measured = rounds(north, south)
            times = [ms for ms, _ in measured]
            check(sanitized() or max(times) < RUNNING_MS_MAX, f"{ROUNDS} times: running after {min(times)} to {max(times)} ms")
            step(f"protected again after {max(again for _, again in measured):.1f} s at most")
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
