#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""Protection is begun and ended by level: an answer that is lost, a holdfastd that dies between, a command that is given twice
leave nothing that the same command does not finish, and what a refusal says to do leads on.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, refused, wait_protected

TRIES = 5
KILLS = 5
REFUSED = 5


def rows(site, sql, *values):
    """Read from the site's catalog beside its holdfastd."""
    catalog = sqlite3.connect(f"file:{site.state}/daemon/catalog.sqlite?mode=ro", uri=True, timeout=5)
    try:
        return catalog.execute(sql, values).fetchall()
    finally:
        catalog.close()


def has_vm(site, vm_id):
    return bool(rows(site, "SELECT 1 FROM vms WHERE id = ?", vm_id))


def command(site, *words):
    return subprocess.Popen([str(word) for word in site.argv(*words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, limit=60):
    """(exit status, stderr)."""
    try:
        _, stderr = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failure(f"no end within {limit} s") from None
    return process.returncode, stderr


def kill(site, program):
    for pid in site.pids_of(program):
        os.kill(pid, signal.SIGKILL)


def reachable(site):
    wait_until(lambda: all(peer["state"] == "reachable" for peer in site.json("site", "peers")), 30,
               f"{site.name} reaches its peer")


def create(site, name):
    site.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
    return site.vm_id(name)


def cut_off(north, south, name, victim, program):
    """`protection enable` whose answer never comes: `program` at `victim` is killed once south has entered the VM."""
    for _ in range(TRIES):
        vm_id = north.vm_id(name)
        enable = command(north, "protection", "enable", name, "--to", "south")
        while not has_vm(south, vm_id) and enable.poll() is None:
            time.sleep(0.001)
        kill(victim, program)
        status, stderr = ended(enable)
        for site in (north, south):
            site.wait_answers()
        reachable(north)
        if status != 0:
            return stderr
        step("the answer was there first; once more")
        north.cli("protection", "disable", name)
    raise Failure("the answer was never lost")


def lost_answer(north, south):
    vm_id = create(north, "lost")
    north.cli("vm", "start", "lost")
    said = cut_off(north, south, "lost", south, "holdfast-link")
    check("enable lost --to south" in said, f"the answer is lost, and what is said names the same again: {said.splitlines()[-1]}")
    if has_vm(south, vm_id):
        mend = refused(south, "vm", "delete", "lost", "--yes")["mend"]
        check("at site north: holdfast protection disable lost" in mend, f"south's refusal to delete says where: {mend}")
    north.cli("protection", "enable", "lost", "--to", "south")
    wait_protected(north, "lost")
    check(True, "the same again finishes it: the VM is replicated")


def killed_between(north, south):
    for victim in (north, south):
        name = f"cut-{victim.name}"
        create(north, name)
        cut_off(north, south, name, victim, "holdfastd")
        north.cli("protection", "enable", name, "--to", "south")
        north.cli("vm", "start", name)
        wait_protected(north, name)
        check(True, f"{victim.name}'s holdfastd was killed while south took the VM: enabled again, it is replicated")


def repeated(north, south):
    keepers = south.pids_of("holdfast-keeper")
    for _ in range(3):
        north.cli("protection", "enable", "lost", "--to", "south")
    wait_protected(north, "lost")
    check(south.pids_of("holdfast-keeper") == keepers, "enabled three times more: south's keepers are the same processes")
    north.cli("protection", "disable", "lost")
    wait_until(lambda: not has_vm(south, north.vm_id("lost")), 10, "south's replica is gone")
    for _ in range(2):
        north.cli("protection", "disable", "lost")
    check(True, "disabled three times: the replica is gone")


def settled(north, south, vm_id, name):
    """Until south has removed its replica, north has that noted, and no job is at it any more."""
    wait_until(lambda: not has_vm(south, vm_id), 60, "south's replica is gone")
    wait_until(lambda: not rows(north, "SELECT 1 FROM protections WHERE vm = ?", vm_id), 60, "north has it noted")
    wait_until(lambda: not any(job["subject"] == name and job["state"] == "running" for job in north.json("job", "list")), 20,
               "no job is at it")


def lost_removal(north, south):
    vm_id = north.vm_id("cut-north")
    replica = south.state / "vms" / vm_id
    disable = command(north, "protection", "disable", "cut-north")
    while replica.exists() and disable.poll() is None:
        time.sleep(0.001)
    kill(south, "holdfast-link")
    ended(disable)
    south.wait_answers()
    settled(north, south, vm_id, "cut-north")
    north.cli("protection", "disable", "cut-north")
    shown = north.json("vm", "show", "cut-north")
    check(not shown["protected"], "an answer to the withdrawal is lost: both sites are rid of it, and disabled again it stays so")
    north.cli("protection", "enable", "cut-north", "--to", "south")
    wait_protected(north, "cut-north")
    check(True, "and it can be protected there again")


def peer_away(north, south):
    """south is away when the protection is ended: it is asked when it is back, and until then it is still who may take over."""
    vm_id = create(north, "away")
    north.cli("vm", "start", "away")
    north.cli("protection", "enable", "away", "--to", "south")
    wait_protected(north, "away")
    north.cli("vm", "stop", "away", "--force")
    south.stop()
    done = north.json("protection", "disable", "away")
    check(not done["replica_removed"] and "--without-peer" in done["replica_error"]["mend"], f"{done['replica_error']['effect']}")
    check(north.json("protection", "show", "away")["state"] == "withdrawing", "it is remembered")
    mend = refused(north, "vm", "delete", "away", "--yes")["mend"]
    check("--without-peer" in mend, f"nothing is deleted meanwhile: {mend}")
    kill(north, "holdfastd")
    north.wait_answers()
    mend = refused(north, "vm", "start", "away")["mend"]
    check("--without-peer" in mend, f"nor started unasked: {mend}")
    south.start()
    settled(north, south, vm_id, "away")
    north.cli("vm", "start", "away")
    check(True, "back, south is asked again by itself, and removes it; the VM starts")


def away_and_taken_over(north, south):
    """Instead of that, south takes the VM over before it hears of it."""
    north.cli("protection", "enable", "away", "--to", "south")
    wait_protected(north, "away")
    south.stop()
    north.cli("protection", "disable", "away")
    north.stop()
    south.start()
    south.cli("failover", "unplanned", "away", "--source-is-off", "--yes")
    north.start()
    wait_until(lambda: north.json("vm", "show", "away")["role"] == "superseded", 30, "north learns of it by itself")
    north.wait_idle("away")
    cause = refused(north, "vm", "start", "away")["cause"]
    check(south.json("vm", "show", "away")["state"] == "running", f"south has it, and north does not start it: {cause}")
    cause = refused(north, "protection", "disable", "away")["cause"]
    check("taken over" in cause, f"nor withdraws it: {cause}")
    check(south.json("vm", "show", "away")["state"] == "running", "south's is untouched")
    south.cli("vm", "stop", "away", "--force")
    south.cli("vm", "delete", "away", "--yes")
    north.cli("vm", "delete", "away", "--yes", "--without-peer")


def forgotten(north, south):
    """North has forgotten what south still holds: south says so, and keeps the copy until it is told otherwise."""
    vm_id = create(north, "orphan")
    north.cli("vm", "start", "orphan")
    north.cli("protection", "enable", "orphan", "--to", "south")
    wait_protected(north, "orphan")
    mend = refused(south, "protection", "disable", "orphan")["mend"]
    check("at site north: holdfast protection disable orphan" in mend, f"while north protects it: {mend}")
    south.stop()
    north.cli("protection", "disable", "orphan", "--without-peer")
    check(not north.json("vm", "show", "orphan")["protected"], "north forgets it by the operator's word")
    south.start()
    reachable(south)
    parts = refused(south, "protection", "disable", "orphan")
    check("last copy" in parts["cause"] and "--without-peer" in parts["mend"], parts["mend"])
    north.cli("protection", "enable", "orphan", "--to", "south")
    wait_protected(north, "orphan")
    check(True, "north can protect it there again")
    south.stop()
    north.cli("protection", "disable", "orphan", "--without-peer")
    south.start()
    reachable(south)
    south.cli("protection", "disable", "orphan", "--without-peer")
    check(not has_vm(south, vm_id), "or south removes it")


def withdrawn_in_a_failover(north, south):
    """While south takes the VM over, north's operator ends its protection: that is refused, and the VM runs at south."""
    create(north, "race")
    north.cli("vm", "start", "race")
    north.cli("protection", "enable", "race", "--to", "south")
    wait_protected(north, "race")
    keeper, = south.keepers_of("race")
    os.kill(keeper, signal.SIGSTOP)
    try:
        failover = command(south, "failover", "unplanned", "race", "--yes")
        wait_until(lambda: any(job["kind"] == "failover" and job["state"] == "running" for job in south.json("job", "list")), 10,
                   "the failover is under way")
        parts = refused(north, "protection", "disable", "race")
    finally:
        os.kill(keeper, signal.SIGCONT)
    check("failover" in parts["cause"], f"{parts['cause']}; {parts['effect']}")
    status, stderr = ended(failover)
    if status != 0:
        raise Failure(f"the failover: {stderr}")
    check(south.json("vm", "show", "race")["state"] == "running", "the failover goes on: south has the VM")
    wait_until(lambda: north.json("vm", "show", "race")["role"] == "standby", 10, "north knows, and stands by")
    south.cli("vm", "stop", "race", "--force")


def left_sealed(north, south):
    """A replica that was sealed for a failover which died takes records again."""
    create(north, "sealed")
    north.cli("vm", "start", "sealed")
    north.cli("protection", "enable", "sealed", "--to", "south")
    wait_protected(north, "sealed")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as control:
        control.settimeout(10)
        control.connect(str(south.run_dir("sealed") / "control.sock"))
        control.sendall(b'{"op":"seal"}\n')
        check(b"durable" in control.recv(4096), "the replica is sealed, as in a failover")
    kill(south, "holdfastd")
    south.wait_answers()
    north.cli("vm", "stop", "sealed", "--force")
    north.cli("vm", "start", "sealed")
    waited = wait_protected(north, "sealed", 40)
    check(True, f"its holdfastd died before it took the VM over: replication goes on, after {waited:.1f} s")


def number_of_next(site):
    """The number that the next VM at the site has."""
    create(site, "probe")
    number = site.json("vm", "show", "probe")["vm_number"]
    site.cli("vm", "delete", "probe", "--yes")
    return number


def spent_numbers(north, south):
    """Offers that south cannot carry out spend none of its VM numbers, nor does a VM that came and went."""
    if os.geteuid() != 0:
        step("skipped: only root can put another user's directory in the way")
        return
    vm_id = create(north, "spent")
    before = number_of_next(south)
    for _ in range(REFUSED):
        # In the way of the replica's sockets: another user's.
        (south.state / "run/vms" / vm_id / "his").mkdir(parents=True)
        os.chown(south.state / "run/vms" / vm_id, 1, 1)
        refused(north, "protection", "enable", "spent", "--to", "south")
        check(not has_vm(south, vm_id) and not (south.state / "vms" / vm_id).exists(), "nothing of it is left at south")
    number = number_of_next(south)
    check(number == before, f"{REFUSED} offers that failed and a VM that went: the next VM has number {number} again")
    north.cli("protection", "enable", "spent", "--to", "south")
    north.cli("vm", "start", "spent")
    wait_protected(north, "spent")
    check(south.json("vm", "show", "spent")["vm_number"] == before, "and the one that succeeds has it too")


def nobodys_directory(north, south):
    """What lies where a replica would lie, of a catalog that was lost, say, is not removed with an offer that fails."""
    vm_id = create(north, "found")
    journal = south.state / "vms" / vm_id / "journal"
    journal.mkdir(parents=True)
    (journal / "MANIFEST").write_text("the only copy, it may be")
    parts = refused(north, "protection", "enable", "found", "--to", "south")
    check((journal / "MANIFEST").exists() and "at site south" in parts["mend"], f"it is still there: {parts['mend']}")
    (south.state / "vms" / vm_id).rename(south.state / "away")
    north.cli("protection", "enable", "found", "--to", "south")
    north.cli("vm", "start", "found")
    wait_protected(north, "found")
    check(True, "moved away, the VM can be protected")


def killed_failovers(north, south):
    """holdfastd at south dies somewhere in a failover: the same command again ends it."""
    found = []
    for number in range(KILLS):
        name = f"taken{number}"
        create(north, name)
        north.cli("vm", "start", name)
        north.cli("protection", "enable", name, "--to", "south")
        wait_protected(north, name)
        (daemon,) = south.pids_of("holdfastd")
        failover = command(south, "failover", "unplanned", name, "--yes")
        # The first is let begin only; then later and later.
        given_up = lambda: any(role in str(rows(north, "SELECT role FROM vms WHERE name = ?", name)) for role in ("superseded", "standby"))
        wait_until(lambda: given_up() or failover.poll() is not None,
                   20, "north has stopped", interval=0.0005)
        time.sleep(number * 0.01)
        os.kill(daemon, signal.SIGKILL)
        ended(failover)
        south.wait_answers()
        reachable(south)
        shown = south.json("vm", "show", name)
        if shown["role"] == "standby":
            south.cli("failover", "unplanned", name, "--yes")
        elif shown["state"] != "running":
            south.cli("vm", "start", name)
        if south.json("vm", "show", name)["state"] != "running":
            raise Failure(f"killed when it was {shown['role']} and {shown['state']}: it does not run")
        found.append(shown["role"])
        south.cli("vm", "stop", name, "--force")
    check(True, f"killed after north had stopped, when south was {', '.join(found)}: the same again, and it runs")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            lost_answer(north, south)
            killed_between(north, south)
            repeated(north, south)
            lost_removal(north, south)
            peer_away(north, south)
            away_and_taken_over(north, south)
            forgotten(north, south)
            withdrawn_in_a_failover(north, south)
            left_sealed(north, south)
            spent_numbers(north, south)
            nobodys_directory(north, south)
            killed_failovers(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
