#!/usr/bin/env python3
# timeout: 180
# programs: holdfast-nbd-memory
"""Other people's NBD clients and our server agree, by content: nbdinfo, nbdcopy, qemu-img, qemu-io, fio; hostile ones do no harm."""

import hashlib
import json
import os
import pathlib
import socket
import struct

from lib.process import Processes, run
from lib.report import check, main, step
from lib.site import bin_dir

MIB = 1 << 20
DISK_MIB = 256
CONNECTIONS_MAX = 32  # NbdServer::kConnectionsMax


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def make_image(path):
    """Random data, a hole, zeroes that are written, random data up to the very end."""
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(os.urandom(MIB))
        file.seek(128 * MIB)
        file.write(bytes(8 * MIB))
        file.seek((DISK_MIB - 4) * MIB)
        file.write(os.urandom(4 * MIB))


def nbdinfo_says_what_we_offer(uri):
    export = json.loads(run(["nbdinfo", "--json", uri]).stdout)
    check(export["protocol"] == "newstyle-fixed" and export["structured"], "nbdinfo: fixed newstyle, structured replies")
    export = export["exports"][0]
    check(export["export-size"] == DISK_MIB * MIB, "nbdinfo: the size")
    wanted = ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df", "can_multi_conn")
    check(all(export[name] for name in wanted), f"nbdinfo: {', '.join(wanted)}")
    check(not export["is_read_only"] and export["block_size_maximum"] == 32 * MIB, "nbdinfo: writable, requests to 32 MiB")
    listed = json.loads(run(["nbdinfo", "--json", "--list", uri]).stdout)
    check([entry["export-name"] for entry in listed["exports"]] == ["disk"], "nbdinfo --list: one export")


def nbdcopy_there_and_back(uri, directory, image, digest):
    for options in (["--requests=64", "--connections=4"], ["--connections=1", "--request-size=33554432", "--requests=4"],
                    ["--connections=1", "--requests=1", "--request-size=4096", "--synchronous"]):
        back = directory / "back"
        back.unlink(missing_ok=True)
        run(["nbdcopy", "--flush", *options, image, uri])
        run(["nbdcopy", *options, uri, back])
        check(sha256(back) == digest, f"nbdcopy there and back by SHA-256 ({' '.join(options)})")


def qemu_img_agrees(uri, directory, image):
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", image, uri])
    compared = run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri])
    check("identical" in compared.stdout, "qemu-img convert, then compare: identical")
    info = json.loads(run(["qemu-img", "info", "-f", "raw", "--output=json", uri]).stdout)
    check(info["virtual-size"] == DISK_MIB * MIB, "qemu-img info: the size")
    qcow = directory / "copy.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, qcow])
    compared = run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow, uri])
    check("identical" in compared.stdout, "qemu-img convert to qcow2, then compare: identical")


def qemu_io_agrees(uri):
    script = ["write -P 0x11 0 32M", "write -f -P 0x22 1M 64k", "write -z 2M 1M", "discard 4M 1M", "flush",
              "aio_write -P 0x33 8M 1M", "aio_write -P 0x44 9M 1M", "aio_write -f -P 0x55 10M 512", "aio_flush",
              "read -P 0x11 0 1M", "read -P 0x22 1M 64k", "read -P 0 2M 1M", "read -P 0 4M 1M", "read -P 0x33 8M 1M",
              "read -P 0x44 9M 1M", "read -P 0x55 10M 512", "read -P 0x11 11M 21M"]
    done = run(["qemu-io", "-f", "raw", *[word for line in script for word in ("-c", line)], uri])
    check("verification failed" not in done.stdout and "failed" not in done.stdout,
          "qemu-io: patterns, FUA, zeroes, discard, 32 MiB requests")


def fio_verifies(uri, directory):
    shapes = {"one connection": ["--iodepth=32"],
              "four connections": ["--iodepth=8", "--numjobs=4", "--offset_increment=48m"]}
    for name, options in shapes.items():
        output = directory / "fio.json"
        run(["fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw", "--bsrange=512-256k",
             "--blockalign=512", "--size=48m", "--verify=crc32c", "--verify_fatal=1", "--fsync=64",
             "--output-format=json", f"--output={output}", *options], cwd=directory, timeout=90)
        jobs = json.loads(output.read_text())["jobs"]
        written = sum(job["write"]["io_bytes"] for job in jobs)
        read = sum(job["read"]["io_bytes"] for job in jobs)
        check(all(job["error"] == 0 for job in jobs) and read > written,
              f"fio --verify, {name}: {written >> 20} MiB written and verified")


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
    make_image(image)
    digest = sha256(image)
    with Processes(directory) as processes:
        server = processes.start([bin_dir() / "holdfast-nbd-memory", path, DISK_MIB])
        processes.wait_for_socket(server, path)
        nbdinfo_says_what_we_offer(uri)
        nbdcopy_there_and_back(uri, directory, image, digest)
        qemu_img_agrees(uri, directory, image)
        qemu_io_agrees(uri)
        fio_verifies(uri, directory)
        hostile_clients_do_no_harm(path, uri, server)
        server.child.terminate()
        check(server.wait(5) == 0, "ends in order on SIGTERM")


main(test)
