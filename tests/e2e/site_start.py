#!/usr/bin/env python3
# timeout: 180
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""What a site keeps of whoever started it: no descriptor, in no process. Whom it keeps out: another user of the host is told
that he may not, and who may. And whose users it has: no other site's.
"""

import json
import os
import pathlib
import pwd

from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main, step
from lib.site import Site, message_parts

PROGRAMS = ("holdfast-launch", "holdfastd", "holdfast-vault", "holdfast-link", "holdfast-keeper", "qemu-system-x86")


def holders(inode, pids):
    """{pid: program} of those that have the pipe open."""
    found = {}
    for pid, name in pids.items():
        try:
            numbers = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for number in numbers:
            try:
                if os.readlink(number) == f"pipe:[{inode}]":
                    found[pid] = name
            except OSError:
                continue
    return found


class Background:
    """What Site.pids() needs of a launcher that is nobody's child."""

    def __init__(self, site):
        self.pid = int((site.state / "run/lock").read_text())

    def running(self):
        return pathlib.Path(f"/proc/{self.pid}").exists()


def start_with(site, close_standard):
    """`site start` as a shell or a service manager might do it: with a pipe of its own open. The pipe's inode."""
    ours, theirs = os.pipe()
    words = [str(word) for word in site.argv("site", "start")]
    script = 'exec "$@" <&- >&- 2>&-' if close_standard else 'exec "$@"'
    done = run(["sh", "-c", script, "sh", *words], timeout=90, check=False, pass_fds=(theirs,))
    if done.returncode != 0:
        raise Failure(f"site start: exit status {done.returncode}\n{done.stderr}")
    inode = os.fstat(theirs).st_ino
    os.close(theirs)
    site.launcher = Background(site)
    return inode, ours


def nothing_left_open(site, close_standard):
    step("a caller's descriptors" + (", and none of the standard ones" if close_standard else ""))
    inode, ours = start_with(site, close_standard)
    site.cli("vm", "start", "web")
    pids = site.pids()
    missing = [name for name in PROGRAMS if name not in pids.values()]
    check(not missing, f"all of the site's programs run: {sorted(set(pids.values()))}")
    check(holders(inode, pids) == {}, f"none of them holds the caller's pipe: {holders(inode, pids)}")
    os.set_blocking(ours, False)
    check(os.read(ours, 1) == b"", "who reads from it is at its end")
    os.close(ours)
    for number in (0, 1, 2):
        check(os.path.exists(f"/proc/{site.launcher.pid}/fd/{number}"), f"the launcher has descriptor {number}")


def others_are_told(site):
    step("a user who has no part in the site")
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    for words in (("vm", "list"), ("vm", "console", "web")):
        done = run(site.argv(*words), check=False, user=nobody, group=nobody, extra_groups=[])
        said = message_parts(done.stderr)
        check(done.returncode == 1 and f"user {nobody} (nobody) may not use" in said["cause"] and
              f"only root and user {site.uid_base + 1}" in said["cause"] and "sudo holdfast" in said["mend"],
              f"{' '.join(words)}: {said['cause']} | {said['mend']}")


def users_apart(processes, directory):
    """Sites that know of each other, unlike those of other tests."""
    step("two sites of one host")
    if os.geteuid() != 0:
        return
    knowing = {**os.environ, "HOLDFAST_SITES": str(directory / "sites")}

    def init(site, *words, env=knowing):
        return run(site.argv("site", "init", "--name", site.name, "--listen", site.listen, *words, "-o", "json"), env=env, check=False)

    def refused(done, what, *says):
        said = json.loads(done.stderr.splitlines()[-1])["error"] if done.stderr else {}
        check(done.returncode == 1 and said.get("code") == "conflict" and "site one (" in said["cause"] and
              all(text in said["mend"] for text in says), f"{what} is refused: {said}")

    one, two, three = (Site(processes, directory, name) for name in ("one", "two", "three"))
    check(init(one, "--uid-base", "450000").returncode == 0, "the first one is made")
    refused(init(two, "--uid-base", "470000"), "one with the same users", "--uid-base ")
    check(not two.state.exists(), "and nothing of it is there")
    done = init(two)
    chosen = json.loads(done.stdout)["uid_base"]
    check(done.returncode == 0 and abs(chosen - 450000) > 40018 and chosen > 100000, f"without --uid-base, {chosen} is chosen")
    # Made by somebody who did not look.
    check(init(three, "--uid-base", "470000", env={**os.environ, "HOLDFAST_SITES": ""}).returncode == 0, "a third one is made")
    done = run(three.argv("site", "start", "-o", "json"), env=knowing, check=False, timeout=60)
    refused(done, "its start", "--uid-base ")


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        users_apart(processes, directory)
        site = Site(processes, directory, "north", 450000)
        try:
            site.init()
            site.launcher = None
            inode, ours = start_with(site, False)
            os.close(ours)
            site.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            others_are_told(site)
            site.cli("site", "stop", timeout=120)
            for close_standard in (False, True):
                nothing_left_open(site, close_standard)
                site.cli("vm", "stop", "web", "--force")
                site.cli("site", "stop", timeout=120)
                wait_until(lambda: not site.launcher.running(), 10, "the launcher has gone")
        finally:
            if site.launcher and site.launcher.running():
                site.cli("site", "stop", timeout=120, check=False)


if __name__ == "__main__":
    main(test)
