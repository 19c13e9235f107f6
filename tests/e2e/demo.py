#!/usr/bin/env python3
# timeout: 600
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Fails a VM over while both sites live, then loses a whole site: each VM runs on at the other, unlocked, with its data.
What script/demo runs.

Ends with one line of JSON; with --json it prints that line only. Anything unproved makes "ok" false and the status 1.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback

from lib import probe
from lib.process import Failure, Processes, run
from lib.site import Site, pair, wait_protected

RPO_MS_MAX = 1000
FAILOVER_MS_MAX = 3000
KILL_ROUNDS = (4, 20)  # from where it has come
UID_BASES = {"north": 210000, "south": 260000}


class Story:
    """Tells a person what happens and gathers what was proved."""

    def __init__(self, quiet):
        self.quiet = quiet
        self.start = time.monotonic()
        self.open_step = False
        self.proved = []

    def _print(self, text):
        if not self.quiet:
            print(text, flush=True)

    def title(self, text):
        self._print(f"\n{text}")

    def step(self, text):
        self._print(f"  {time.monotonic() - self.start:6.1f} s  {text}")

    def proof(self, holds, text):
        """A fact that the result stands on."""
        self.proved.append((bool(holds), text))
        self._print(f"  {time.monotonic() - self.start:6.1f} s  {'proved' if holds else 'NOT PROVED'}: {text}")
        return bool(holds)

    def all_proved(self):
        return bool(self.proved) and all(holds for holds, _ in self.proved)


class Demo:
    def __init__(self, story, processes, directory):
        self.story, self.processes, self.directory = story, processes, directory
        self.north = Site(processes, directory, "north", UID_BASES["north"])
        self.south = Site(processes, directory, "south", UID_BASES["south"])
        self.result = {"ok": False, "secure_boot": False, "unlocked_by_vtpm": False, "fresh_vtpm_unlocked": None,
                       "last_acked": None, "recovered": {"disk": None, "tpm": None, "uefi": None}, "rpo_ms": None,
                       "failover_ms": None, "living_failover_ms": None, "living_lost_rounds": None}

    def watch_boot(self, console):
        """Tells how far the guest has come, until its root is open; what it found."""
        self.story.step("firmware …")
        for pattern, text in ((r"^HF GRUB", "the signed shim started GRUB; kernel and initrd are checked …"),
                              (r"^HF BOOT", "the signed kernel runs; the vTPM is asked for the disk's key …")):
            console.wait_for(pattern, probe.UNLOCK_SECONDS_MAX)
            self.story.step(text)
        found, _ = probe.wait_unlocked(console)
        return found

    # -- 1

    def make_sites(self):
        self.story.title("1. Two sites on this machine, each with its own daemon, vault and secret")
        for site in (self.north, self.south):
            site.init()
            site.start()
            users = f"users {site.uid_base} and up" if site.uid_base else "this user (no root: one user for all)"
            self.story.step(f"site {site.name} runs on {site.listen} as {users}")
        if self.south.uid_base:
            self.story.proof(self.south_is_shut_out(), "processes of south can't read north's directory")
        pair(self.north, self.south)
        self.story.step("paired by a one-time token; both show the same fingerprints")

    def south_is_shut_out(self):
        """Whether south's daemon user and a VM's users are refused north's vault, catalog and journals."""
        targets = [self.north.state / "vault", self.north.state / "daemon"]
        for uid in (self.south.uid_base, self.south.uid_base + 1, self.south.uid_base + 16, self.south.uid_base + 17):
            for target in targets:
                child = os.fork()
                if child == 0:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                    try:
                        os.listdir(target)
                    except PermissionError:
                        os._exit(0)
                    os._exit(1)
                if os.waitpid(child, 0)[1] != 0:
                    return False
        return True

    # -- 2

    def make_vm(self):
        self.story.title("2. A VM at north whose disk opens only with its own vTPM")
        self.create("probe")
        self.console = self.start("probe")
        found = self.watch_boot(self.console)
        self.story.step(f"unlocked by its vTPM, counters {self.counters(found)}")

    def create(self, name):
        image = self.directory / f"{name}.img"
        run(["cp", "--sparse=always", probe.image(), image])
        data = probe.make_data_disk(self.directory / f"{name}.data.img", rate=2)
        for path in (image, data):
            path.chmod(0o644)
        start = time.monotonic()
        self.north.vm_create(name, [image, data], "--memory", "512M")
        self.story.step(f"created and imported in {time.monotonic() - start:.1f} s; the image holds no key")

    def start(self, name):
        self.north.cli("vm", "start", name)
        console = self.north.vm_console(name, self.directory / f"north.{name}.console")
        self.story.step("started; at its first boot it makes its key, seals it to the vTPM, and forgets it")
        return console

    # -- 3

    def protect(self, name):
        start = time.monotonic()
        self.north.cli("protection", "enable", name, "--to", "south")
        wait_protected(self.north, name)
        self.story.step(f"south has all of it, {time.monotonic() - start:.1f} s after the command")

    # -- 4

    def move_between_living_sites(self):
        self.story.title("4. A second VM is failed over while both sites live: no word is needed, nothing is lost")
        self.create("second")
        console = self.start("second")
        self.watch_boot(console)
        self.protect("second")
        line = probe.wait_round(console, 6, 60)
        self.story.step(f"its guest counts: {line.text.split(' raw')[0].removeprefix('HF ').lower()}")
        qemu = self.north.qemu_pid("second")
        start = time.monotonic()
        self.south.cli("failover", "unplanned", "second", "--yes")
        moved_ms = self.result["living_failover_ms"] = round((time.monotonic() - start) * 1000)
        self.story.proof(moved_ms < FAILOVER_MS_MAX,
                         f"from the command to running vCPUs at south {moved_ms} ms (< {FAILOVER_MS_MAX})")
        self.story.proof(not os.path.exists(f"/proc/{qemu}"), "its guest at north had ended by then")
        console.wait_for_end(20)
        last = max(probe.rounds(console))
        moved = self.south.vm_console("second", self.directory / "south.second.console")
        found = self.watch_boot(moved)
        self.result["living_lost_rounds"] = max(0, last - found.disk)
        self.story.proof(found.disk >= last and self.in_one_order(found),
                         f"unlocked by its vTPM, with every round that north saw: {last} seen, {self.counters(found)}")
        self.south.cli("vm", "stop", "second", "--force")

    # -- 5

    def lose_north(self):
        self.story.title("5. North is lost at a random moment: no drain, no wait")
        moment = random.uniform(0, 0.5)
        so_far = max(probe.rounds(self.console), default=0)
        number = so_far + random.randrange(*KILL_ROUNDS)
        self.story.step(f"the guest counts, {so_far} so far; the blow falls {moment:.2f} s after round {number}")
        for mark in range((so_far // 10 + 1) * 10, number, 10):
            probe.wait_round(self.console, mark, 120)
            self.story.step(f"round {mark}")
        line = probe.wait_round(self.console, number, 120)
        time.sleep(max(0, line.at + moment - time.monotonic()))
        self.killed_at = time.monotonic()
        killed = self.north.kill_whole()
        self.console.wait_for_end(10)
        self.north.state.rename(self.directory / "north.lost")
        names = ", ".join(sorted(set(killed.values())))
        self.story.step(f"kill -9 of {len(killed)} processes ({names}); its directory is moved away")
        self.rounds = probe.rounds(self.console)
        self.result["last_acked"] = max(self.rounds)
        self.story.step(f"the last round that north's console printed: {self.result['last_acked']}")

    # -- 6

    def fail_over(self):
        self.story.title("6. Failover at south")
        start = time.monotonic()
        self.south.cli("failover", "unplanned", "probe", "--source-is-off", "--yes")
        self.result["failover_ms"] = round((time.monotonic() - start) * 1000)
        console = self.south.vm_console("probe", self.directory / "south.console")
        self.story.proof(self.result["failover_ms"] < FAILOVER_MS_MAX,
                         f"from the command to running vCPUs {self.result['failover_ms']} ms (< {FAILOVER_MS_MAX})")
        found = self.watch_boot(console)
        story, result = self.story, self.result
        result["unlocked_by_vtpm"] = story.proof(True, "the guest unlocked its disk by its vTPM")
        result["secure_boot"] = story.proof(console.find(r"^HF SECUREBOOT 1$"), "it sees Secure Boot on")
        result["recovered"] = {"disk": found.disk, "tpm": found.tpm, "uefi": found.uefi}
        story.proof(self.in_one_order(found), f"it found one order across all parts: {self.counters(found)}")
        result["rpo_ms"] = self.rpo_ms(found.uefi)
        story.proof(result["rpo_ms"] is not None and result["rpo_ms"] < RPO_MS_MAX,
                    f"the newest round recovered whole, {found.uefi}, was {result['rpo_ms']} ms old at the blow "
                    f"(< {RPO_MS_MAX}); {result['last_acked']} had been seen")
        line = probe.wait_round(console, found.disk + 3, 60)
        story.step(f"and it goes on counting: {line.text.split(' raw')[0].removeprefix('HF ').lower()}")

    def rpo_ms(self, recovered):
        """The kill minus the time of the newest recovered round; a round that nobody saw printed counts as none lost."""
        if recovered > self.result["last_acked"]:
            return 0
        if recovered not in self.rounds:
            return None
        return round((self.killed_at - self.rounds[recovered]) * 1000)

    # -- 7

    def counter_proof(self):
        self.story.title("7. Counter-proof: the same disk with another vTPM")
        copies = [self.south.export_disk("probe", disk, self.directory / f"{disk}.copy") for disk in ("disk1", "disk2")]
        for copy in copies:
            copy.chmod(0o644)
        self.south.vm_create("stranger", copies, "--memory", "512M")
        self.south.cli("vm", "start", "stranger")
        console = self.south.vm_console("stranger", self.directory / "stranger.console")
        self.story.step("a VM with a copy of the replica's disks and a fresh vTPM boots …")
        _, line, match = console.wait_for(r"^HF (UNLOCKED|REFUSED tpm rc=0x[0-9A-Fa-f]+)", probe.UNLOCK_SECONDS_MAX,
                                          unless=r"^HF FAILED")
        self.result["fresh_vtpm_unlocked"] = match[1] == "UNLOCKED"
        self.story.proof(match[1] != "UNLOCKED", f"the guest reports the TPM's refusal: {line.text}")

    @staticmethod
    def in_one_order(found):
        return (found.disk - found.tpm in (0, 1) and found.tpm - found.uefi in (0, 1) and
                found.raw - found.disk in (0, 1))

    @staticmethod
    def counters(found):
        return f"disk {found.disk}, TPM {found.tpm}, UEFI variable {found.uefi}"

    def run(self):
        self.make_sites()
        self.make_vm()
        self.story.title("3. Protection: disk, UEFI variables and TPM replicated in one order")
        self.protect("probe")
        self.move_between_living_sites()
        self.lose_north()
        self.fail_over()
        self.counter_proof()
        self.result["ok"] = self.story.all_proved()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", action="store_true", help="prints the result's line only")
    arguments.add_argument("--keep", action="store_true", help="keeps both sites' directories, also after success")
    options = arguments.parse_args()
    story = Story(options.json)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-demo-"))
    directory.chmod(0o711)  # service users pass through; each site's directory is its own
    result = None
    try:
        with Processes(directory) as processes:
            demo = Demo(story, processes, directory)
            result = demo.result
            try:
                demo.run()
            finally:
                demo.north.end()
                demo.south.end()
    except Failure as failure:
        print(f"not proved: {failure}", file=sys.stderr)
    except Exception:  # a bug of the demo itself: the last line stays the result
        traceback.print_exc()
    if result["ok"] and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"logs and state are kept in {directory}", file=sys.stderr)
    if result["ok"]:
        story.title(f"The VM survived the loss of its site: {len(story.proved)} facts proved, "
                    f"{time.monotonic() - story.start:.0f} s.\n")
    print(json.dumps(result, separators=(",", ":")), flush=True)
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
