#!/usr/bin/env python3
# timeout: 240
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Bad input is refused by exit status 1 and the three parts of a message (cause, effect, the command that mends), and
changes nothing: a hash over the state directory is the same before and after.

The hash takes every file's path, mode and content but for what only tells what happened: run/ (sockets, logs), the
catalog's job list and audit, the vault's audit log. The catalog counts by the content of its other tables; but a VM
number that was given out stays spent, so that no user id is ever used for two VMs.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import sqlite3
import struct

from lib import probe
from lib.process import Failure, Processes, run
from lib.report import check, main, step
from lib.site import Site, message_parts, pair

TOLD_ONLY = ("run/", "daemon/catalog.sqlite", "vault/audit")
TOLD_TABLES = {"jobs", "audit", "sqlite_sequence", "vm_numbers"}


def catalog_lines(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as catalog:
        tables = [name for name, in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for table in tables:
            if table not in TOLD_TABLES:
                yield from (f"{table} {row!r}" for row in sorted(map(repr, catalog.execute(f"SELECT * FROM {table}"))))


def state_of(directory):
    """{path: hash} of a state directory as the module says."""
    out = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not name.startswith(TOLD_ONLY) and path.is_file() and not path.is_symlink():
            out[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    catalog = directory / "daemon/catalog.sqlite"
    if catalog.exists():
        out["catalog"] = hashlib.sha256("\n".join(catalog_lines(catalog)).encode()).hexdigest()
    return out


def refused(what, site, argv, timeout=60, expect=""):
    """Runs a command that must be refused and must change nothing in the site's state."""
    before = state_of(site.state)
    done = run(argv, timeout=timeout, check=False)
    after = state_of(site.state)
    parts = message_parts(done.stderr)
    if done.returncode != 1:
        raise Failure(f"{what}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    if not all(parts.values()) or expect not in done.stderr:
        raise Failure(f"{what}: a message without its three parts or {expect!r}:\n{done.stderr}")
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    check(not changed, f"{what}: {parts['cause']} | {parts['effect']} | {parts['mend']} | state unchanged {changed or ''}")


def bad_images(site, directory):
    small, other, good = directory / "small.raw", directory / "other.qcow2", directory / "good.raw"
    small.write_bytes(bytes(512))
    run(["qemu-img", "create", "-q", "-f", "qcow2", other, "16M"])
    good.write_bytes(os.urandom(8 << 20))
    refused("disk image missing", site, site.argv("vm", "create", "bad", "--disk", directory / "none.raw"))
    refused("disk image too small", site, site.argv("vm", "create", "bad", "--disk", small))
    refused("disk image of another format", site, site.argv("vm", "create", "bad", "--disk", other), expect="qcow2")
    return good


def bad_pairing(site, other, processes, directory):
    token = site.json("site", "pair", "--new-token")["token"]
    other.json("site", "pair", token)
    third = Site(processes, directory, "third")
    third.init()
    third.start()
    refused("a token used twice", third, third.argv("site", "pair", token))
    third.stop()

    # Another site, with a CA of its own, answers under the address of the paired one.
    site.cli("vm", "create", "web", "--blank", "1M")
    other.stop()
    impostor = Site(processes, directory, "impostor")
    impostor.listen = other.listen
    impostor.init()
    impostor.start()
    refused("a peer with the wrong certificate", site, site.argv("protection", "enable", "web", "--to", other.name),
            expect="certificate")
    impostor.stop()


def bad_directories(site, processes):
    refused("two daemons on one state directory", site, site.argv("site", "start"))
    site.stop()
    for name in ("vault", "daemon", f"vms/{next((site.state / 'vms').iterdir()).name}/journal"):
        place = site.state / name
        mode = place.stat().st_mode & 0o777
        place.chmod(0o755)
        refused(f"{name.split('/')[0]} readable by others", site, site.argv("site", "start"))
        place.chmod(mode)


def bad_secret(processes, directory):
    site = Site(processes, directory, "secret")
    secret = directory / "secret.txt"
    secret.write_text("correct horse battery staple\n")
    secret.chmod(0o600)
    site.init("--secret-file", secret)
    site.start()
    site.stop()
    secret.write_text("correct horse battery stable\n")
    refused("wrong vault secret", site, site.argv("site", "start"))
    secret.write_text("correct horse battery staple\n")
    site.start()
    site.stop()
    step("ok: the right secret opens the same vault")


def places_in_segment(segment):
    """{what: offset} of a byte in a record, the close and the extent table of a closed segment."""
    data = segment.read_bytes()
    footer = data.rindex(b"HFFF")
    close, table = struct.unpack_from("<QQ", data, footer + FOOTER_CLOSE_AT)
    return {"segment": 4096 + 192 + 100, "close": close + 192 + 40, "table": table + 10}


FOOTER_CLOSE_AT = 8


def bad_journal(site, good):
    site.start()
    site.cli("vm", "create", "db", "--disk", good)
    journal = site.state / "vms" / site.vm_id("db") / "journal"
    closed = sorted(journal.glob("segment-*"))[0]
    whole = closed.read_bytes()
    places = places_in_segment(closed)

    def start():
        return site.argv("vm", "start", "db")

    for what, at in places.items():
        for how in ("flipped bit", "truncated"):
            if how == "truncated":
                os.truncate(closed, at)
            else:
                with open(closed, "r+b") as file:
                    file.seek(at)
                    file.write(bytes([whole[at] ^ 0x10]))
            refused(f"journal {what}, {how}", site, start(), expect=closed.name)
            closed.write_bytes(whole)
    manifest = journal / "MANIFEST"
    kept = manifest.read_bytes()
    manifest.write_bytes(kept[:60] + bytes([kept[60] ^ 1]) + kept[61:])
    refused("journal MANIFEST, flipped bit", site, start(), expect="MANIFEST")
    manifest.write_bytes(kept)
    site.cli("vm", "start", "db")
    site.cli("vm", "stop", "db", "--force")
    step("ok: with every byte back the same journal opens")


def full_disk(processes, directory, good):
    """A small tmpfs as the state directory. Needs root, for the mount."""
    if os.geteuid() != 0:
        return step("left out: a full disk needs root, for a mount")
    site = Site(processes, directory, "full")
    site.state.mkdir(mode=0o755)
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "hf-full", site.state], check=False)
    if mounted.returncode != 0:
        return step(f"left out: a full disk, mount refused: {mounted.stderr.strip()}")
    try:
        site.init()
        site.start()
        refused("a full disk", site, site.argv("vm", "create", "big", "--disk", good))
        site.stop()
    finally:
        site.end()
        run(["umount", "-l", site.state], check=False)


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north"), Site(processes, directory, "south")
        for site in (north, south):
            site.init()
            site.start()
        good = bad_images(north, directory)
        bad_pairing(north, south, processes, directory)
        bad_directories(north, processes)
        bad_secret(processes, directory)
        bad_journal(north, good)
        north.stop()
        big = directory / "big.raw"
        shutil.copy(good, big)
        with open(big, "ab") as file:
            file.write(os.urandom(16 << 20))
        full_disk(processes, directory, big)


if __name__ == "__main__":
    main(test)
