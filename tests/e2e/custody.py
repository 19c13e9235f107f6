#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Key custody. The VM's key, a marker that the guest wrote to disk only, and the secret of its encrypted disk are
searched, raw, in hex and in base64: in the memory of both daemons, links and launchers, in all logs, both catalogs, the journals
of both sites, both vaults' files, and in all that went over the wire. None is there: while the VM runs, after it was
stopped, and while it runs at the other site after a failover. The same search finds them where they must be: the key in
the memory of the keeper and the vault, the others in the guest's; and wherever it finds none of them, it finds something
else that must be there.

Reading the memory of these processes needs root: they deny it to their own user.
"""

import base64
import hashlib
import os
import socket
import struct

from lib import probe, secrets
from lib.process import Failure, Processes, run
from lib.recorder import Recorder
from lib.report import check, main, step
from lib.site import Site, wait_protected

FETCH_KEY = 0x0201
KEY = "the VM's key"
KEY_BYTES = 32


def fetch_key(site, vm_id, uid):
    """The VM's key as its keeper gets it: asked of the vault by a process of the keeper's user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            body = bytes.fromhex(vm_id)
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(site.state / "run/vault-keys.sock"))
                link.sendall(struct.pack("<4sHHII", b"HFVP", 1, FETCH_KEY, 1, len(body)) + body)
                answer = b""
                while data := link.recv(4096):
                    answer += data
                    if len(answer) >= 16 and len(answer) == 16 + struct.unpack_from("<I", answer, 12)[0]:
                        break
            os.write(writer, answer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if len(answer) < 18 + KEY_BYTES or struct.unpack_from("<H", answer, 16)[0] != 0:
        raise Failure(f"the vault gave the keeper's user no key: {answer[18:]!r}")
    return answer[18:18 + KEY_BYTES]


def pair_through(first, second, wires):
    """Pairs two sites so that each reaches the other through a recorder only."""
    token = first.json("site", "pair", "--new-token", "--address", wires[first.name].address)["token"]
    second.json("site", "pair", "-", "--address", wires[second.name].address, text=token)


# As the kernel keeps them: 15 characters.
SEARCHED_WHOLE = ("holdfastd", "holdfast-launch", "holdfast-link")


def search_everywhere(sites, wires, directory, vm_id, wanted):
    """Where any of `wanted` is found: {place: what}. Every search also looks for something that must be there, so that one
    that reads nothing, or not what it should, is noticed."""
    found = {}

    def note(place, hits, control):
        if control is not None and not any(hit.startswith("control") for hit in hits):
            raise Failure(f"the search in {place} does not even find {control!r}")
        hits = {hit for hit in hits if not hit.startswith("control")}
        if hits:
            found[place] = hits

    for site in sites:
        searched = set()
        for pid, program in site.pids().items():
            # What the launcher has begun and is not yet another program may end at any moment: no finding, and no fault.
            try:
                if program.startswith(SEARCHED_WHOLE):
                    control = b"holdfast-link" if program.startswith("holdfast-link") else str(site.state).encode()
                    hits = secrets.search_process(pid, wanted | {"control": control})
                    in_files = secrets.search_memory_files(pid, wanted)
                elif program.startswith("holdfast-vault"):
                    others = {label: secret for label, secret in wanted.items() if label != KEY}
                    control = str(site.state).encode()
                    hits, in_files = secrets.search_process(pid, others | {"control": control}), set()
                else:
                    continue
            except (FileNotFoundError, ProcessLookupError):
                hits, in_files = set(), set()
            if pid not in site.pids():
                continue
            note(f"the memory of {program} at {site.name}", hits, control)
            note(f"memory files of {program} at {site.name}", in_files, None)
            searched.add(program)
        if not searched >= {*SEARCHED_WHOLE, "holdfast-vault"}:
            raise Failure(f"at {site.name} only the memory of {sorted(searched)} was searched")
    vm = bytes.fromhex(vm_id)
    for site in sites:
        files = secrets.search_files([site.state], wanted | {"control": vm})
        for must in (f"vms/{vm_id}/journal/segment-", f"vault/key-{vm_id}", "vault/audit.log", "daemon/catalog.sqlite"):
            read = [path for path in files if path.startswith(str(site.state / must))]
            if not read:
                raise Failure(f"the search does not even find the VM's id in {site.state / must}*")
        for path, hits in files.items():
            note(path, hits, None)
    for wire in wires.values():
        hello = b"holdfast-"  # how the protocols' names begin, which TLS sends in clear
        hits = secrets.search_files([wire.path], wanted | {"control": hello}).get(str(wire.path), set())
        note(str(wire.path), hits, hello)
    logs = sorted(directory.glob("*.log")) + sorted(directory.glob("*.console"))
    for path, hits in secrets.search_files(logs, wanted).items():
        note(path, hits, None)
    return found


def search_finds_every_spelling(directory, wanted):
    """Each secret in each spelling, as a log or a dump might hold it, is found."""
    for label, secret in wanted.items():
        texts = [secret, secret.hex().encode(), secret.hex().upper().encode()]
        texts += [base64.b64encode(b"x" * shift + secret + b"tail") for shift in range(3)]
        for text in texts:
            planted = directory / "planted"
            planted.write_bytes(os.urandom(5000) + b'"' + text + b'"' + os.urandom(5000))
            if not secrets.search_files([planted], wanted):
                raise Failure(f"the search does not find {label} in {text!r}")
            planted.unlink()
    step("ok: planted in a file, each of them is found raw, in hex and in base64 at each alignment")


def check_holds_key(key, pid, who):
    check(f"{KEY} (raw)" in secrets.search_process(pid, {KEY: key}), f"the search finds the VM's key in {who}")


def test(directory):
    if os.geteuid() != 0:
        return step("left out: needs root, to read the memory of processes that deny it to their own user")
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    data = probe.make_data_disk(directory / "data.img", rate=4, reveal=1)
    for path in (image, data):
        path.chmod(0o644)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        sites = (north, south)
        wires = {site.name: Recorder(site.listen, directory / f"{site.name}.wire") for site in sites}
        try:
            for site in sites:
                site.init()
                site.start()
            pair_through(north, south, wires)
            north.vm_create("probe", [image, data], "--memory", "512M")
            north.cli("vm", "start", "probe")
            north.cli("protection", "enable", "probe", "--to", "south")
            console = north.vm_console("probe", directory / "probe.console")
            probe.wait_unlocked(console)
            probe.wait_round(console, 10, 60)
            wait_protected(north, "probe")
            shown = north.json("vm", "show", "probe")

            key = fetch_key(north, shown["id"], north.uid_base + 16 + 2 * shown["vm_number"])
            marker = probe.read_marker(north.export_disk("probe", "disk2", directory / "disk2.raw"))
            wanted = {KEY: key, "the marker": marker,
                      "the disk's secret": secrets.revealed_luks_secret(shown["qemu_pid"])}
            search_finds_every_spelling(directory, wanted)
            id_of_key = hashlib.sha256(b"holdfast gsp key id v1" + key).hexdigest()[:32]
            check(id_of_key == shown["key"]["id"], "the key is the one whose id the vault shows")
            check_holds_key(key, shown["keeper_pid"], "its keeper")
            check_holds_key(key, north.pids_of("holdfast-vault")[0], "the vault, while the VM runs")
            in_guest = secrets.search_process(shown["qemu_pid"], wanted)
            check({"the marker (raw)", "the disk's secret (raw)"} <= in_guest and f"{KEY} (raw)" not in in_guest,
                  "the search finds marker and disk secret in the guest, and no VM key there")

            found = search_everywhere(sites, wires, directory, shown["id"], wanted)
            seen = sum(wire.bytes_seen for wire in wires.values())
            check(seen > 20 << 20, f"{seen >> 20} MiB went over the wire, the disk among them")
            check(not found, f"neither key nor marker nor disk secret anywhere else {found or ''}")
            north.cli("vm", "stop", "probe", "--force")
            for wire in wires.values():
                wire.close()
            found = search_everywhere(sites, wires, directory, shown["id"], wanted)
            check(not found, f"nor after the VM was stopped and its guest state was written to a file {found or ''}")
            north.stop()
            south.cli("failover", "unplanned", "probe", "--source-is-off", "--yes")
            check_holds_key(key, south.keeper_pid("probe"), "the keeper at south, after a failover")
            found = search_everywhere((south,), wires, directory, shown["id"], wanted)
            check(not found, f"nor at south while the VM runs there {found or ''}")
            check(secrets.search_files([directory / "disk2.raw"], {"the marker": marker}),
                  "the same search finds the marker in a plain copy of the disk")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
