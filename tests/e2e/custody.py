#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Key custody. The VM's key, a marker that the guest wrote to disk only, and the secret of its encrypted disk are
searched, raw, in hex and in base64: in the memory of both daemons and launchers, in all logs, both catalogs, the journals
of both sites, both vaults' files, and in all that went over the wire. None is there. The same search finds them where
they must be: the key in the keeper's memory, the others in the guest's.

Reading the memory of these processes needs root: they deny it to their own user.
"""

import os
import socket
import struct

from lib import probe, secrets
from lib.process import Failure, Processes, run
from lib.recorder import Recorder
from lib.report import check, main, step
from lib.site import Site, wait_protected

FETCH_KEY = 0x0201
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
    second.json("site", "pair", token, "--address", wires[second.name].address)


def search_everywhere(sites, wires, directory, wanted):
    """{place: what was found} over all places where none of it may be."""
    found = {}
    for site in sites:
        for pid, program in site.pids().items():
            if program.startswith(("holdfastd", "holdfast-launch")):
                hit = secrets.search_process(pid, wanted)
                if hit:
                    found[f"memory of {program} at {site.name}"] = hit
                step(f"searched the memory of {program} at {site.name}")
    found.update(secrets.search_files([site.state for site in sites] + sorted(directory.glob("*.log")) +
                                      sorted(directory.glob("*.console")) + sorted(directory.glob("*.wire")), wanted))
    return found


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
            wanted = {"the VM's key": key, "the marker": marker,
                      "the disk's secret": secrets.revealed_luks_secret(shown["qemu_pid"])}
            in_keeper = secrets.search_process(shown["keeper_pid"], {"the VM's key": key})
            check("the VM's key (raw)" in in_keeper, "the search finds the VM's key in its keeper")
            in_guest = secrets.search_process(shown["qemu_pid"], wanted)
            check({"the marker (raw)", "the disk's secret (raw)"} <= in_guest and "the VM's key (raw)" not in in_guest,
                  "the search finds marker and disk secret in the guest, and no VM key there")

            found = search_everywhere(sites, wires, directory, wanted)
            seen = sum(wire.bytes_seen for wire in wires.values())
            check(seen > 20 << 20, f"{seen >> 20} MiB went over the wire, the disk among them")
            check(not found, f"neither key nor marker nor disk secret anywhere else {found or ''}")
            north.cli("vm", "stop", "probe", "--force")
            for wire in wires.values():
                wire.close()
            found = search_everywhere(sites, wires, directory, wanted)
            check(not found, f"nor after the VM was stopped and its guest state was written to a file {found or ''}")
            check(secrets.search_files([directory / "disk2.raw"], {"the marker": marker}),
                  "the same search finds the marker in a plain copy of the disk")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
