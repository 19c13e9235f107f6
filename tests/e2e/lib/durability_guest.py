"""Runs inside the appliance: vault and keeper over /data, a write load, and every flush that was answered said aloud."""

import json
import os
import pathlib
import sys

from . import nbd, sequence_load
from .keeper import Keeper, Vault
from .process import Failure, Processes, wait_until

DATA = pathlib.Path("/data")
SOCKETS = pathlib.Path("/run/hf")
DISK_BYTES = 64 << 20


def say(text):
    sys.stdout.write(f"HF {text}\n")
    sys.stdout.flush()


def start_all(processes):
    vault = Vault(processes, SOCKETS)
    vault.dir = DATA / "vault"
    notes = DATA / "notes.json"
    fresh = not notes.exists()
    if fresh:
        made = vault.init()
        notes.write_text(json.dumps({"site": made["site_id"]}))
    vault.start()
    wait_until(lambda: not vault.process.running() or vault.keys.exists(), 10, "the vault")
    if fresh:
        notes.write_text(json.dumps({"site": made["site_id"], "vm": vault.create_vm().hex()}))
    told = json.loads(notes.read_text())
    keeper = Keeper(processes, SOCKETS, vault, told["site"], {"disk1": DISK_BYTES}, vtpm=False,
                    vm=bytes.fromhex(told["vm"]), segment_bytes=4 << 20, merge_keep_segments=2)
    keeper.journal = DATA / "journal"
    keeper.config.update(journal_dir=str(keeper.journal), vmgs_path=str(keeper.journal / "guest.vmgs"))
    if fresh:
        keeper.create(uefi_template="/e2e/template.fd")
        os.sync()
    else:
        vault.release(keeper.vm, 0)
    keeper.start()
    keeper.wait_serving(60)
    return keeper


def main():
    arguments = dict(word.split("=", 1) for word in sys.argv if "=" in word)
    SOCKETS.mkdir(parents=True)
    pathlib.Path("/e2e/template.fd").write_bytes(bytes(540672))
    try:
        with Processes("/run") as processes:
            keeper = start_all(processes)
            disk = nbd.Nbd(keeper.socket_path("disk1"), "disk1")
            newest = sequence_load.verify(disk, int(arguments["flushed"]))
            say(f"VERIFIED newest={newest}")
            unsynced = DATA / "unsynced"
            say(f"UNSYNCED {unsynced.read_text() if unsynced.exists() else 0}")
            load = sequence_load.Load(disk, newest)
            while True:
                number = load.run_batch()
                unsynced.write_text(f"{number:020d}")  # never synced: a kill must lose it, or it proves nothing
                say(f"FLUSHED {number}")
    except (Failure, OSError) as failure:
        say(f"FAILED {failure}".replace("\n", " | "))
        for log in sorted(pathlib.Path("/run").glob("*.log")):
            print(f"--- {log}\n{log.read_text(errors='replace')[-2000:]}", flush=True)
