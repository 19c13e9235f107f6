#!/usr/bin/env python3
# timeout: 600
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""Two sites were each told to run a VM while the link between them was cut, both on a mistaken word. The conflict has a
name at both, stops nothing that runs, and `failover settle` ends it from either side: one goes on, the other is stopped,
keeps what it wrote aside, is seeded anew and stands by without a command. Its answer lost, given again, from the other
side, by both crosswise, and with holdfastd killed between any two steps.
"""

import contextlib
import os
import random
import signal
import subprocess
import time

from lib import nbd
from lib.outcome import no_job_hangs
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import CliError, Site, pair, refused, wait_protected

SETTLED_S_MAX = 30
KILLS = int(os.environ.get("HOLDFAST_KILLS", "4"))
NORTHS, SOUTHS = 6 << 20, 7 << 20  # where each side writes a mark of its own


@contextlib.contextmanager
def cut(*sites):
    """The links stand still: nothing passes between the sites."""
    links = [pid for site in sites for pid in site.pids_of("holdfast-link")]
    for pid in links:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in links:
            os.kill(pid, signal.SIGCONT)


def mark(site, vm, offset, text):
    disk = nbd.Nbd(site.run_dir(vm) / "disk1.nbd", "disk1")
    disk.write(offset, text.ljust(4096, b"."))
    disk.flush()
    disk.close()


def marks(site, vm):
    disk = nbd.Nbd(site.run_dir(vm) / "disk1.nbd", "disk1")
    found = [disk.read(offset, 4096).rstrip(b".\0") for offset in (NORTHS, SOUTHS)]
    disk.close()
    return found


def both_run(north, south, vm):
    """north goes on without south, and south takes the VM from north; each runs it and writes."""
    north.cli("vm", "create", vm, "--blank", "16M", "--memory", "256M")
    north.cli("vm", "start", vm)
    north.cli("protection", "enable", vm, "--to", "south")
    wait_protected(north, vm)
    with cut(north, south):
        north.cli("vm", "stop", vm, "--force")
        started = subprocess.Popen([str(word) for word in north.argv("vm", "start", vm, "--without-peer")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        south.cli("failover", "unplanned", vm, "--yes", "--source-is-off", timeout=90)
        said = started.communicate(timeout=90)[1]
        if started.returncode != 0:
            raise Failure(f"north did not go on without south: {said}")
        mark(north, vm, NORTHS, b"north wrote this")
        mark(south, vm, SOUTHS, b"south wrote this")
    for site, other in ((north, south), (south, north)):
        wait_until(lambda site=site: site.json("vm", "show", vm).get("conflict"), 30, f"{site.name} knows of the conflict")
        shown = site.json("vm", "show", vm)
        check(shown["conflict"] == other.name and len(shown["title"]["rivals"]) == 1 and shown["state"] == "running",
              f"{site.name}: {vm} runs, and is in conflict with {shown['conflict']}")
    said = north.cli("vm", "list").stdout
    check("CONFLICT WITH" in said, "vm list names it")


def settled(keeps, gives_up, vm, began, text, other):
    """One runs it with what it wrote; the other stands by for it, has the rest aside, and is protected by it."""
    wait_until(lambda: gives_up.json("vm", "show", vm)["state"] == "standby", SETTLED_S_MAX, f"{vm} stands by at {gives_up.name}")
    wait_until(lambda: keeps.json("vm", "show", vm)["state"] == "running", SETTLED_S_MAX, f"{vm} runs at {keeps.name}")
    wait_protected(keeps, vm, SETTLED_S_MAX)
    shown = keeps.json("vm", "show", vm)
    check(not shown["title"]["rivals"] and shown["title"]["here"] and "conflict" not in shown and
          shown["title"]["standbys"] == [gives_up.name], f"{vm} is {keeps.name}'s alone, and protected {time.monotonic() - began:.1f} s later")
    found = marks(keeps, vm)
    check(text in found and other not in found, f"it has what {keeps.name} wrote: {found}")
    asides = sorted((gives_up.state / "aside").glob(gives_up.vm_id(vm) + "-*"))
    check(len(asides) == 1 and any(file.stat().st_size for file in asides[0].iterdir()), f"what {gives_up.name} wrote is in {asides[0]}")
    told = [one for one in gives_up.json("event", "list", vm) if str(asides[0]) in one["text"]]
    check(told, f"which is told: {told[0]['text'] if told else ''}")


NORTH, SOUTH = b"north wrote this", b"south wrote this"


def from_either_side(north, south):
    both_run(north, south, "own")
    parts = refused(north, "protection", "disable", "own")
    check("failover settle own --keep" in parts["mend"], f"nothing else is done about it: {parts['cause']}; {parts['mend']}")
    qemu = south.qemu_pid("own")
    began = time.monotonic()
    parts = refused(north, "failover", "settle", "own", "--keep", "south")
    check("stopped hard" in parts["cause"] and "take" in parts["cause"], f"it asks first: {parts['cause']}")
    parts = refused(north, "failover", "settle", "own", "--keep", "nowhere", "--yes")
    north.cli("failover", "settle", "own", "--keep", "south", "--yes", timeout=90)
    settled(south, north, "own", began, SOUTH, NORTH)
    check(south.qemu_pid("own") == qemu, "south's guest has never stopped")
    (keeper,) = [pid for pid in [south.keeper_pid("own")]]
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: south.keeper_pid("own") not in (None, keeper), 10, "its keeper comes back under it")
    wait_until(lambda: marks(south, "own")[1] == SOUTH, 10, "and serves", interval=0.2)
    for site in (north, south):  # again, from both sides
        site.cli("failover", "settle", "own", "--keep", "south", "--yes", timeout=60)
        parts = refused(site, "failover", "settle", "own", "--keep", "north", "--yes")
        check("no conflict" in parts["cause"], f"given again the other way: {parts['cause']}")
    both_run(north, south, "there")
    began = time.monotonic()
    north.cli("failover", "settle", "there", "--keep", "north", "--yes", timeout=90)
    settled(north, south, "there", began, NORTH, SOUTH)
    south.cli("failover", "unplanned", "there", "--yes", timeout=60)
    wait_protected(south, "there", 20)
    check(marks(south, "there")[0] == NORTH, "and it is failed over as ever")


def answer_lost(north, south):
    """north's holdfastd, which was to give up, dies as soon as it has."""
    both_run(north, south, "lost")
    began = time.monotonic()
    command = subprocess.Popen([str(word) for word in south.argv("failover", "settle", "lost", "--keep", "south", "--yes")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    qemu = north.qemu_pid("lost")
    wait_until(lambda: not os.path.exists(f"/proc/{qemu}"), 20, "north stops its guest", interval=0.001)
    os.kill(north.pids_of("holdfastd")[0], signal.SIGKILL)
    command.wait(90)
    north.wait_answers()
    step(f"the command ended with status {command.returncode}")
    south.cli("failover", "settle", "lost", "--keep", "south", "--yes", timeout=90)
    settled(south, north, "lost", began, SOUTH, NORTH)


def crosswise(north, south):
    both_run(north, south, "cross")
    began = time.monotonic()
    orders = [subprocess.Popen([str(word) for word in site.argv("failover", "settle", "cross", "--keep", other.name, "--yes")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
              for site, other in ((north, south), (south, north))]
    said = [order.communicate(timeout=120)[1] for order in orders]
    step(f"both gave it up: {[order.returncode for order in orders]}")
    holder = wait_until(lambda: [site for site in (north, south) if site.json("vm", "show", "cross")["state"] == "running" and
                                 not site.json("vm", "show", "cross")["title"]["rivals"]], SETTLED_S_MAX, f"one has it: {said}", interval=0.2)
    check(len(holder) == 1, f"{holder[0].name} has it, alone")
    other = south if holder[0] is north else north
    texts = (NORTH, SOUTH) if holder[0] is north else (SOUTH, NORTH)
    settled(holder[0], other, "cross", began, *texts)


def killed(north, south):
    """holdfastd of either dies at any moment of it; the same command ends it."""
    for number in range(KILLS):
        vm = f"kill{number}"
        both_run(north, south, vm)
        began = time.monotonic()
        site = random.choice((north, south))
        victim = random.choice((north, south))
        command = subprocess.Popen([str(word) for word in site.argv("failover", "settle", vm, "--keep", "south", "--yes")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = random.uniform(0.02, 1.2)
        time.sleep(after)
        os.kill(victim.pids_of("holdfastd")[0], signal.SIGKILL)
        command.wait(90)
        victim.wait_answers()
        step(f"{victim.name}'s holdfastd was killed after {after:.2f} s, the command at {site.name} ended with {command.returncode}")
        for _ in range(3):
            try:
                site.cli("failover", "settle", vm, "--keep", "south", "--yes", timeout=90)
                break
            except CliError as error:
                step(f"again: {error.parts()['cause']}; {error.parts()['mend']}")
                time.sleep(2)
        settled(south, north, vm, began, SOUTH, NORTH)


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            from_either_side(north, south)
            answer_lost(north, south)
            crosswise(north, south)
            killed(north, south)
            no_job_hangs(north, south)
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
