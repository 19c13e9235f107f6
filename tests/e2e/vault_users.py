#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Who has a word with the vault: a VM's key goes to its keeper's user and no other, whatever the daemon's user asks; local
users that crowd its socket hold nobody up; and a keeper that dies right after the vault comes back by itself.
"""

import contextlib
import os
import signal
import socket
import struct
import time

from lib.process import Processes, wait_until
from lib.report import check, main, step
from lib.site import Site
from lib.users import as_user
from lib.vault_words import ask

RELEASE, FETCH_KEY, BIND_KEEPERS = 0x0105, 0x0201, 0x0301
STRANGERS = (71001, 71002, 71003, 71004)


def crowd(path, count):
    """Connections of users that are no keepers; each sends a byte of a request. How many are still open after it."""
    links = []
    for _ in range(count):
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(path))
        link.settimeout(10)
        with contextlib.suppress(ConnectionError):
            link.send(b"H")
        links.append(link)
    held = 0
    for link in links:
        with contextlib.suppress(ConnectionError):
            held += link.recv(1) != b""
    return struct.pack("<I", held)


def nobody_else(site, web):
    run = site.state / "run"
    base = site.uid_base
    users = {"the daemon's user": base + 1, "the VM's QEMU": base + 17 + 2 * number_of(site), "a stranger": STRANGERS[0]}
    for who, uid in users.items():
        check(as_user(uid, lambda: ask(run / "vault-keys.sock", FETCH_KEY, web)) == b"closed",
              f"{who} asks for the key of a running VM: the vault closes the connection")
        check(as_user(uid, lambda: ask(run / "vault-launcher.sock", BIND_KEEPERS, struct.pack("<QI", 1000, 0))) == b"denied",
              f"{who} cannot speak with the vault in the launcher's place")
    # What took any key for a user of the daemon's choice.
    status = as_user(base + 1, lambda: ask(run / "vault-admin.sock", RELEASE, web + struct.pack("<I", STRANGERS[0])))[:2]
    check(status not in (b"", b"\0\0"), "the daemon's user cannot name whom a key is released to")
    status = as_user(base + 1, lambda: ask(run / "vault-admin.sock", BIND_KEEPERS, struct.pack("<QI", 1000, 0)))[:2]
    check(status not in (b"", b"\0\0"), "nor say who a keeper is")
    status = as_user(base + 1, lambda: ask(run / "vault-admin.sock", RELEASE, bytes(range(16))))[:2]
    check(status not in (b"", b"\0\0"), "nor release a VM that no keeper was started for")
    answer = as_user(base + 16 + 2 * number_of(site), lambda: ask(run / "vault-keys.sock", FETCH_KEY, web))
    check(answer[:2] == b"\0\0" and len(answer) == 54, "its keeper's user has it")
    answer = as_user(base + 16 + 2 * number_of(site), lambda: ask(run / "vault-keys.sock", FETCH_KEY, bytes(16)))
    check(answer[:2] not in (b"", b"\0\0"), "and no other VM's")


def number_of(site):
    """The number of the only VM: from its keeper's user."""
    with open(f"/proc/{site.keeper_pid('web')}/status", encoding="ascii") as status:
        uid = next(int(line.split()[1]) for line in status if line.startswith("Uid:"))
    return (uid - site.uid_base - 16) // 2


def crowded(site):
    keys = site.state / "run/vault-keys.sock"
    children = []
    stop, go_on = os.pipe()
    for uid in STRANGERS:
        child = os.fork()
        if child == 0:
            os.close(go_on)
            with contextlib.suppress(BaseException):
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                os.set_blocking(stop, False)
                while True:  # until the other end is closed
                    with contextlib.suppress(BlockingIOError):
                        if os.read(stop, 1) == b"":
                            break
                    crowd(keys, 100)
            os._exit(0)
        children.append(child)
    try:
        held = as_user(STRANGERS[0], lambda: crowd(keys, 100))
        check(held == bytes(4), "users that are no keepers hold no connection")
        start = time.monotonic()
        site.cli("vm", "create", "b", "--blank", "16M", "--memory", "256M")
        site.cli("vm", "start", "b")
        step(f"ok: while four users crowd the vault's socket a VM is made and started ({time.monotonic() - start:.1f} s)")
        site.cli("vm", "stop", "b", "--force")
    finally:
        os.close(go_on)
        os.close(stop)
        for child in children:
            os.waitpid(child, 0)


def comes_back(site, web):
    keeper, qemu = site.keeper_pid("web"), site.qemu_pid("web")
    (vault,) = site.pids_of("holdfast-vault")
    os.kill(vault, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: site.keeper_pid("web") not in (0, None, keeper), 20, "the keeper is started again")
    wait_until(lambda: site.json("vm", "show", "web")["state"] == "running", 20, "the VM runs")
    wait_until(lambda: as_user(site.uid_base + 16 + 2 * number_of(site),
                               lambda: ask(site.state / "run/vault-keys.sock", FETCH_KEY, web))[:2] == b"\0\0", 20,
               "the VM is released again")
    check(site.qemu_pid("web") == qemu, "vault and keeper killed together: the keeper is back with its key, QEMU never ended")


def test(directory):
    if os.geteuid() != 0:
        step("skipped: only root can give a site users of its own")
        return
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 410000)
        directory.chmod(0o711)
        try:
            site.init()
            site.start()
            site.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            site.cli("vm", "start", "web")
            web = bytes.fromhex(site.vm_id("web"))
            keeper_user = site.uid_base + 16 + 2 * number_of(site)
            nobody_else(site, web)
            crowded(site)
            comes_back(site, web)
            site.cli("vm", "stop", "web", "--force")
            site.wait_idle("web")
            check(as_user(keeper_user, lambda: ask(site.state / "run/vault-keys.sock", FETCH_KEY, web)) == b"closed",
                  "once its keeper has ended, its user has no word with the vault")
            site.stop()
        finally:
            site.end()


main(test)
