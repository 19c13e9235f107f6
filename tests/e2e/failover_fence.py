#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A VM that another site has taken over does not run here, whatever else is at work on it: not behind a stop that waits
for its guest, not through a holdfastd that begins anew, not because it was just being started. And a stop, the
operator's or the peer's, ends a start that is under way; nobody hangs.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time

from lib.outcome import no_job_hangs
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

STOPS = 6  # of a start, by the operator
RUNNING_MS_MAX = 3000
END_MAX = 15  # seconds for a command that is overtaken by another


def command(site, *words):
    return subprocess.Popen([str(word) for word in site.argv(*words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)


def ended(process, what):
    """(exit status, what it printed) of a command; Failure when it hangs."""
    try:
        text, _ = process.communicate(timeout=END_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failure(f"{what}: no end within {END_MAX} s") from None
    return process.returncode, text


def no_guest(site, vm_id, limit, what):
    """Until no QEMU of the VM is there; seconds waited. By the processes, not by what holdfastd says."""
    start = time.monotonic()

    def gone():
        for pid in site.pids_of("qemu-system-x86"):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as words:
                    if vm_id.encode() in words.read().replace(b"-", b""):
                        return False
            except OSError:
                pass
        return True

    wait_until(gone, limit, what)
    return time.monotonic() - start


def create(site, name):
    site.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
    return site.vm_id(name)


def start_protected(north, name):
    vm_id = create(north, name)
    north.cli("vm", "start", name)
    north.cli("protection", "enable", name, "--to", "south")
    wait_protected(north, name)
    return vm_id


def operator_stops_a_start(site, moments):
    vm_id = create(site, "hasty")
    begun = time.monotonic()
    site.cli("vm", "start", "hasty")
    takes = time.monotonic() - begun
    site.cli("vm", "stop", "hasty", "--force")
    outcomes = []
    for _ in range(STOPS):
        start = command(site, "vm", "start", "hasty")
        time.sleep(moments.uniform(0, takes))
        stop = command(site, "vm", "stop", "hasty", "--force")
        start_status, start_text = ended(start, "the start")
        stop_status, stop_text = ended(stop, "the stop")
        # Too early, and there is nothing to stop yet.
        early = stop_status != 0 and "does not run" in stop_text
        if stop_status != 0 and not early:
            raise Failure(f"the stop: {stop_text}")
        if start_status != 0 and "told to stop while it was started" not in start_text:
            raise Failure(f"the start: {start_text}")
        if early:
            site.cli("vm", "stop", "hasty", "--force")
        no_guest(site, vm_id, 1, "the guest is off after the stop")
        shown = site.json("vm", "show", "hasty")
        if shown["keeper_pid"] or shown["state"] != "stopped":
            raise Failure(f"after the stop: {shown}")
        outcomes.append("before it" if early else "after it" if start_status == 0 else "during it")
    check("during it" in outcomes, f"a stop against a start, {STOPS} times: {', '.join(outcomes)}")
    site.cli("vm", "start", "hasty")
    stop = command(site, "vm", "stop", "hasty", "--timeout", "120")  # firmware does not hear it
    wait_until(lambda: any(job["kind"] == "vm-stop" and job["state"] == "running" for job in site.json("job", "list")), 10,
               "the stop waits for the guest")
    site.cli("vm", "stop", "hasty", "--force")
    ended(stop, "the stop that waited")
    no_guest(site, vm_id, 1, "the guest is off")
    step("a forced stop does not wait for one that waits for the guest")
    site.cli("vm", "delete", "hasty", "--yes")


def peer_stops_a_start(north, south, moments):
    for number in range(3):
        name = f"race{number}"
        vm_id = start_protected(north, name)
        north.cli("vm", "stop", name, "--force")
        start = command(north, "vm", "start", name)
        time.sleep(moments.uniform(0, 0.6))
        job = south.json("failover", "unplanned", name, "--yes", timeout=40)
        no_guest(north, vm_id, 0.2, "north has no guest when south's runs")
        status, _ = ended(start, "the start at north")
        no_guest(north, vm_id, 0.2, "north's start left no guest")
        north.wait_idle(name, 10)
        wait_until(lambda: north.json("vm", "show", name)["state"] == "standby", 10, "north stands by for it")
        check("handed the VM over" in job["source"] and job["failover_ms"] < RUNNING_MS_MAX,
              f"north was starting it ({'it ran already' if status == 0 else 'the start ended'}), south has it after "
              f"{job['failover_ms']} ms")
        south.cli("vm", "stop", name, "--force")


def taken_over_unseen(north, south, name):
    """south takes it over, on the operator's word, while nothing of north is heard: its link stands still, and then goes on."""
    (link,) = north.pids_of("holdfast-link")
    os.kill(link, signal.SIGSTOP)
    try:
        south.cli("failover", "unplanned", name, "--source-is-off", "--yes", timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(link, signal.SIGCONT)


def held_by_a_job(north, south):
    vm_id = start_protected(north, "held")
    stop = command(north, "vm", "stop", "held", "--timeout", "200")
    wait_until(lambda: any(job["kind"] == "vm-stop" and job["state"] == "running" for job in north.json("job", "list")), 10,
               "a job holds the VM")
    taken_over_unseen(north, south, "held")
    waited = no_guest(north, vm_id, 10, "north's guest is killed")
    check(True, f"north's guest is dead {waited:.1f} s after north could know, though a stop waits 200 s for it")
    ended(stop, "the stop that waited")
    north.wait_idle("held", 10)
    check(north.json("vm", "show", "held")["state"] == "superseded", "and all of the VM is at rest there")
    south.cli("vm", "stop", "held", "--force")


def through_a_restart(north):
    """The role is stored, then holdfastd dies before it could act on it."""
    vm_id = create(north, "crash")
    north.cli("vm", "start", "crash")
    (daemon,) = north.pids_of("holdfastd")
    os.kill(daemon, signal.SIGSTOP)
    catalog = sqlite3.connect(north.state / "daemon/catalog.sqlite")
    catalog.execute("UPDATE vms SET role = 'superseded', epoch = epoch + 1 WHERE name = 'crash'")
    catalog.commit()
    catalog.close()
    os.kill(daemon, signal.SIGKILL)  # ends a stopped process too
    waited = no_guest(north, vm_id, 15, "the guest of a VM that is superseded is killed at holdfastd's start")
    north.wait_answers()
    north.wait_idle("crash", 10)
    check(north.json("vm", "show", "crash")["state"] == "superseded",
          f"a holdfastd that begins anew ends a superseded VM, {waited:.1f} s after the old one died")
    log = (north.state / "run/log/daemon.log").read_text(errors="replace")
    check("VM crash runs on" not in log, "it was not taken up again")


def test(directory):
    seed = random.randrange(1 << 32)
    step(f"seed {seed}")
    moments = random.Random(seed)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            operator_stops_a_start(north, moments)
            peer_stops_a_start(north, south, moments)
            held_by_a_job(north, south)
            through_a_restart(north)
            no_job_hangs(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
