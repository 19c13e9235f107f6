#!/usr/bin/env python3
# timeout: 120
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""The group holdfast-operators: who is in it works with a site as root does, at holdfastd's socket and at the vault's for
operators; who is not is told so, who may, and how he becomes one. holdfastd's own user is no operator, whatever its groups.

The group is made in a mount namespace of the test's own, for which it needs root.
"""

import ctypes
import os
import pathlib
import pwd

from lib.process import Failure, Processes, run
from lib.report import check, main, step
from lib.site import Site, message_parts

GROUP = "holdfast-operators"
GID = 64123
CLONE_NEWNS = 0x20000


def own_groups_file(directory, text):
    """/etc/group as this process and its children see it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise Failure("unshare: " + os.strerror(ctypes.get_errno()))
    run(["mount", "--make-rprivate", "/"])
    own = directory / "group"
    own.write_text(pathlib.Path("/etc/group").read_text() + text)
    own.chmod(0o644)
    run(["mount", "--bind", own, "/etc/group"])


def as_user(site, uid, groups, *words):
    return run(site.argv(*words), check=False, user=uid, group=uid, extra_groups=groups)


def test(directory):
    if os.geteuid() != 0:
        return step("left out: a mount namespace is made as root only")
    directory.chmod(0o711)
    nobody = pwd.getpwnam("nobody").pw_uid
    own_groups_file(directory, f"{GROUP}:x:{GID}:\n")
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 700000)
        try:
            site.init()
            site.start()
            for words in (("vm", "list"), ("site", "pair", "--new-token")):
                done = as_user(site, nobody, [], *words)
                said = message_parts(done.stderr)
                check(done.returncode == 1 and f"user {nobody} (nobody) may not use" in said["cause"] and
                      f"group {GROUP}" in said["cause"] and f"usermod -aG {GROUP} nobody" in said["mend"],
                      f"who is in no group: {' '.join(words)}: {said['cause']} | {said['mend']}")
            for words in (("vm", "create", "web", "--blank", "1M"), ("vm", "show", "web"), ("site", "pair", "--new-token"),
                          ("vm", "delete", "web", "--yes")):
                done = as_user(site, nobody, [GID], *words)
                check(done.returncode == 0, f"a member: {' '.join(words)} {done.stderr}")
            done = as_user(site, site.uid_base + 1, [GID], "site", "pair", "--new-token")
            check(done.returncode == 1, f"holdfastd's user, though a member, is no operator: {done.stderr}")
            done = as_user(site, site.uid_base + 16, [GID], "site", "pair", "--new-token")
            check(done.returncode == 1, f"a keeper's user, though a member, is no operator: {done.stderr}")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
