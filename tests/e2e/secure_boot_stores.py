#!/usr/bin/env python3
# timeout: 900
# needs: qemu-2
# programs: holdfast
"""Variable stores that `holdfast secure-boot` edited, under the real firmware: what an added key signed boots, shim
boots with only the 2023 CA in db, GRUB signed by an enrolled MOK boots, a revoked shim does not. A reclaim that was cut
off ends as the firmware ends it; one that was cut off in its first block, at which the firmware crashes, is ended by
Holdfast. Signed updates that Holdfast made are taken by the firmware of a running guest, and forged ones are not.
"""

import json
import os
import pathlib
import shutil
import struct

from lib import probe
from lib.agent import Agent
from lib.boot_chain import change_image
from lib.machine import VARS_MICROSOFT_KEYS
from lib.peer_machine import PeerMachine
from lib.process import Processes, run
from lib.report import check, main, step
from lib.uefi_vars import IMAGE_SECURITY, Variables, cut_reclaim, make_key

BLOCK_BYTES = 0x1000
HOLDFAST = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast"
DBX = f"/sys/firmware/efi/efivars/dbx-{IMAGE_SECURITY}"
APPEND_ATTRIBUTES = 0x67  # those of dbx, and EFI_VARIABLE_APPEND_WRITE
SHIM = "/usr/lib/shim/shimx64.efi.signed"


def edit(store, verb, *words):
    out = run([HOLDFAST, "-q", "secure-boot", verb, store, *words]).stdout
    step(f"secure-boot {verb} {' '.join(str(word) for word in words[:2])}: {out.strip()}")


class Bench:
    def __init__(self, processes, directory, data):
        self.processes, self.directory, self.data = processes, directory, data

    def machine(self, name, store, variant=None, key=None):
        image = self.directory / f"{name}.disk"
        run(["cp", "--sparse=always", probe.image(), image])
        if variant:
            change_image(variant, image, key)
        return PeerMachine(self.processes, self.directory / name, image, self.data, store)

    def boots(self, what, machine):
        console = machine.start()
        console.wait_for(r"^HF SECUREBOOT 1$", probe.UNLOCK_SECONDS_MAX)
        machine.kill()
        step(f"ok: {what} boots, with Secure Boot on")

    def takes_updates(self, machine, key, stranger):
        """The running guest hands updates to its firmware, which does with them what `apply-update` does."""
        machine.with_agent = True
        mine = self.directory / "mine.fd"
        shutil.copy(machine.vars, mine)
        console = machine.start()
        console.wait_for(r"^HF SECUREBOOT 1$", probe.UNLOCK_SECONDS_MAX)
        step("ok: Debian's shim boots with only the 2023 CA in db, with Secure Boot on")
        console.wait_for(r"^HF UNLOCKED by=vtpm", probe.UNLOCK_SECONDS_MAX)
        writer = self.directory / "efi_write"
        run(["clang-19", "-static", "-Os", "-o", writer, pathlib.Path(__file__).parent / "lib/efi_write.c"])
        agent = Agent(machine.agent_path)
        agent.write("/run/efi_write", writer.read_bytes())
        agent.run("/bin/busybox", "chmod", "755", "/run/efi_write")
        for what, signer, value, taken in (("of a stranger's key", stranger, stranger[1], False),
                                           ("of the KEK", key, stranger[1], True)):
            update = self.directory / "dbx.auth"
            run([HOLDFAST, "-q", "secure-boot", "sign-update", "dbx", value, "--append", "--key", signer[0], "--certificate",
                 signer[1], "--out", update])
            agent.write("/run/update", struct.pack("<I", APPEND_ATTRIBUTES) + update.read_bytes())
            status, _ = agent.run("/run/efi_write", DBX, "/run/update", check=False)
            check((status == 0) == taken, f"an update of dbx {what}: the firmware {'takes' if taken else 'refuses'} it, errno {status}")
        agent.close()
        machine.kill()
        edit(mine, "apply-update", update)
        check(Variables(machine.vars).get("dbx") == Variables(mine).get("dbx"), "Holdfast makes the same dbx of it, to the byte")

    def refused(self, what, machine, says):
        console = machine.start()
        console.wait_for(says, probe.UNLOCK_SECONDS_MAX, unless=r"^HF BOOT")
        machine.kill()
        step(f"ok: {what} does not boot: {says}")


def shown(path):
    return json.loads(run([HOLDFAST, "-o", "json", "secure-boot", "show", path]).stdout)["variables"]


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=10)
    key = make_key(directory, "own")
    stores = {name: directory / f"{name}.fd" for name in ("db", "2023", "mok", "dbx", "cut")}
    for store in stores.values():
        shutil.copy(VARS_MICROSOFT_KEYS, store)
    edit(stores["db"], "append", "db", key[1])
    edit(stores["2023"], "profile", "microsoft-2023", "--guest", "linux", "--kek", key[1])
    edit(stores["mok"], "append", "MokList", key[1])
    edit(stores["dbx"], "revoke", SHIM)
    with Processes(directory) as processes:
        bench = Bench(processes, directory, data)
        bench.boots("a loader signed by a key added to db", bench.machine("db", stores["db"], "signed-loader", key))
        bench.takes_updates(bench.machine("2023", stores["2023"]), key, make_key(directory, "stranger"))
        bench.boots("GRUB signed by an enrolled MOK", bench.machine("mok", stores["mok"], "signed-grub", key))
        bench.refused("a shim revoked by its digest", bench.machine("dbx", stores["dbx"]), r"Access Denied|Security Violation")

        before = shown(stores["cut"])
        cut_reclaim(stores["cut"], BLOCK_BYTES)
        machine = bench.machine("cut", stores["cut"])
        bench.boots("a store whose reclaim was cut off behind its first block", machine)
        check(shown(machine.vars) == before, "the firmware brought it to its end")
        check(shown(stores["cut"]) == before, "Holdfast reads the same from the store as it was")

        cut_reclaim(stores["db"], 0)
        edit(stores["db"], "append", "MokList", key[1])
        machine = bench.machine("first", stores["db"], "signed-loader", key)
        bench.boots("a store whose reclaim was cut off in its first block, ended by Holdfast,", machine)


if __name__ == "__main__":
    main(test)
