#!/usr/bin/env python3
# timeout: 300
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper holdfast-effects
"""A site lets its replica go while the holder signs something of its own: both statements follow the same one. Nobody was in
conflict with anybody: the holder joins the two, no conflict is shown for longer than a moment, and what is said about the
protection leads on.

HOLDFAST_ROUNDS=n (environment) sets how often, at random moments, beside those that are held; 8 by default.
"""

import os
import random
import subprocess
import threading
import time

from lib.held import Hold
from lib.mends import follow_mend
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import CliError, Site, message_parts, pair, wait_protected

ROUNDS = int(os.environ.get("HOLDFAST_ROUNDS", "8"))
CONFLICT_S_MAX = 3
VM = "web"


class Watch(threading.Thread):
    """For how long either site shows a conflict, and what as."""

    def __init__(self, *sites):
        super().__init__(daemon=True)
        self.sites, self.longest, self.shown, self.ending = sites, 0.0, "", threading.Event()
        self.start()

    def run(self):
        since = {}
        while not self.ending.wait(0.03):
            for site in self.sites:
                try:
                    shown = site.json("vm", "show", VM)
                except Failure:
                    shown = {"title": {"rivals": []}}
                if not shown["title"]["rivals"] and "conflict" not in shown:
                    since.pop(site, None)
                    continue
                since.setdefault(site, time.monotonic())
                self.longest = max(self.longest, time.monotonic() - since[site])
                self.shown = f"{site.name}: {shown.get('conflict')}, {shown['title']['rivals']}"

    def end(self):
        self.ending.set()
        self.join(10)
        return self.longest


def evict(south):
    """What came of it, in words."""
    try:
        south.cli("replica", "evict", VM, "--yes")
        return "evicted"
    except CliError as error:
        return error.parts()["cause"]


def crossing(north, south, moment, after=0.0):
    """South evicts `after` seconds after the protection began, or where north is held at `moment`."""
    watch = Watch(north, south)
    hold = Hold(north, north.vm_id(VM), moment) if moment else None
    enable = subprocess.Popen([str(word) for word in north.argv("protection", "enable", VM, "--to", "south")],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if hold:
        hold.wait()
    time.sleep(after)
    said = evict(south)
    if hold:
        hold.drop()
    refusal = message_parts(enable.communicate(timeout=60)[1])
    if enable.returncode != 0:
        step(f"north's protection enable: {refusal['cause']}; {refusal['effect']}; {refusal['mend']}")
        step(f"done: {follow_mend(refusal['mend'], north, (north, south))}")
    time.sleep(0.5)  # what crosses has crossed
    longest = lead_on(north, south, watch)
    check(longest < CONFLICT_S_MAX, f"{moment or f'after {after:.2f} s'}: {said}; a conflict was shown for {longest:.2f} s"
          f"{' (' + watch.shown + ')' if longest else ''}; {north.statements} statements by now")


def lead_on(north, south, watch):
    """By what north says of the protection, it comes to stand; for how long a conflict was shown."""
    shown = wait_until(lambda: (shown := north.json("protection", "show", VM)) and (shown["state"] == "streaming" or shown.get("error")) and
                       shown, 20, "north says how the protection stands", interval=0.1)
    if shown["state"] != "streaming":
        step(f"north: {shown['state']}: {shown['error']['cause']}; {shown['error']['mend']}")
        step(f"done: {follow_mend(shown['error']['mend'], north, (north, south))}")
    wait_protected(north, VM, 20)
    longest = watch.end()
    title = north.json("vm", "show", VM)["title"]
    if title["rivals"] or title["holder"] != "north" or title["standbys"] != ["south"]:
        raise Failure(f"north's title: {title}")
    north.statements = title["statements"]
    north.cli("protection", "disable", VM)
    return longest


def test(directory):
    seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
    step(f"HOLDFAST_SEED={seed}")
    moments = random.Random(seed)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.cli("vm", "create", VM, "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", VM)
            for moment in ("protect sign before", "protect sign after", "follow exchange before", "follow exchange after",
                           "follow find-line before", "follow sign before", "follow sign after"):
                crossing(north, south, moment)
            for _ in range(ROUNDS):
                crossing(north, south, None, moments.uniform(0, 0.6))
            joined = sum(one["kind"] == "join" for one in north.json("vm", "title", VM)["chain"])
            check(joined > 0, f"{joined} of them crossed, and were joined")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
