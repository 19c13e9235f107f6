#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""Protection is begun and ended by level: an answer that is lost, a holdfastd that dies between, a command that is given twice
leave nothing that the same command does not finish, and what a refusal says to do leads on.
"""

import os
import signal
import sqlite3
import subprocess
import time

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import CliError, Site, pair, wait_protected

TRIES = 5


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


def refused(site, *words):
    """The three parts of a refusal."""
    try:
        site.cli(*words)
    except CliError as error:
        parts = error.parts()
        check(error.status == 1 and all(parts.values()), f"`{' '.join(words)}` at {site.name}: {parts['cause']}")
        return parts
    raise Failure(f"`{' '.join(words)}` at {site.name} was not refused")


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


def lost_removal(north, south):
    vm_id = north.vm_id("cut-north")
    replica = south.state / "vms" / vm_id
    disable = command(north, "protection", "disable", "cut-north")
    while replica.exists() and disable.poll() is None:
        time.sleep(0.001)
    kill(south, "holdfast-link")
    ended(disable)
    south.wait_answers()
    reachable(north)
    north.cli("protection", "disable", "cut-north")
    wait_until(lambda: not has_vm(south, vm_id), 20, "south's replica is gone")
    shown = north.json("vm", "show", "cut-north")
    check(not shown["protected"], "an answer to the withdrawal is lost: disabled again, both sites are rid of it")
    north.cli("protection", "enable", "cut-north", "--to", "south")
    wait_protected(north, "cut-north")
    check(True, "and it can be protected there again")


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
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
