#!/usr/bin/env python3
# timeout: 180
# programs: holdfast-nbd-memory
"""Other people's NBD clients and our server agree, by content: nbdinfo, nbdcopy, qemu-img, qemu-io, fio; hostile ones do no harm."""

import os
import pathlib
import socket
import struct

from lib import nbd_clients
from lib.nbd_clients import MIB
from lib.process import Processes, run
from lib.report import check, main, step
from lib.site import bin_dir

DISK_MIB = 256
CONNECTIONS_MAX = 32  # NbdServer::kConnectionsMax


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def open_session(path):
    """A raw client in transmission, without structured replies."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(5)
    link.connect(str(path))
    link.recv(18, socket.MSG_WAITALL)
    link.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk")
    link.recv(10, socket.MSG_WAITALL)
    return link


def closed_by_server(link):
    try:
        while link.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        return False
    return True


def hostile_clients_do_no_harm(path, uri, server):
    for bytes_sent in (os.urandom(4096), struct.pack(">I", 0xFFFFFFFF),
                       struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 0xFFFFFFFF)):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(path))
            link.sendall(bytes_sent)
            check(closed_by_server(link), f"a client that starts with {bytes_sent[:12].hex()}… is closed")
    with open_session(path) as link:
        link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 0xFFFFFFFF))
        check(closed_by_server(link), "a write of 4 GiB is closed")

    before = resident_bytes(server.pid)
    greedy = []
    for _ in range(CONNECTIONS_MAX - 1):
        link = open_session(path)
        link.setblocking(False)
        try:  # asks for much, reads nothing
            while True:
                link.send(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 256 * 1024) * 64)
        except BlockingIOError:
            greedy.append(link)
    grown = resident_bytes(server.pid) - before
    bound = CONNECTIONS_MAX * 6 * MIB
    check(grown < bound, f"{len(greedy)} clients that ask and never read cost {grown >> 20} MiB, under {bound >> 20}")
    run(["qemu-io", "-f", "raw", "-c", "read 0 1M", uri], timeout=10)
    step("ok: another client is served meanwhile")
    extra = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for link in extra:
        link.settimeout(5)
        link.connect(str(path))
    check(sum(closed_by_server(link) for link in extra[1:]) == len(extra) - 1, "connections over the limit are closed at once")
    for link in greedy + extra:
        link.close()
    run(["nbdinfo", "--size", uri], timeout=10)
    step("ok: served again after they left")


def test(directory):
    path = directory / "disk.nbd"
    uri = f"nbd+unix:///disk?socket={path}"
    image = directory / "image"
    nbd_clients.make_image(image, DISK_MIB * MIB)
    with Processes(directory) as processes:
        server = processes.start([bin_dir() / "holdfast-nbd-memory", path, DISK_MIB])
        processes.wait_for_socket(server, path)
        nbd_clients.nbdinfo_says_what_we_offer(uri, DISK_MIB * MIB)
        nbd_clients.nbdcopy_there_and_back(uri, directory, image)
        nbd_clients.qemu_img_agrees(uri, directory, image, DISK_MIB * MIB)
        nbd_clients.qemu_io_agrees(uri)
        nbd_clients.fio_verifies(uri, directory)
        hostile_clients_do_no_harm(path, uri, server)
        server.child.terminate()
        check(server.wait(5) == 0, "ends in order on SIGTERM")


main(test)
