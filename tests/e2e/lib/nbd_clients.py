"""Other people's NBD clients, each checking by content what it wrote: nbdinfo, nbdcopy, qemu-img, qemu-io, fio."""

import hashlib
import json
import os

from .process import run
from .report import check

MIB = 1 << 20


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_image(path, size):
    """Random data, a hole, zeroes that are written, random data up to the very end."""
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(os.urandom(MIB))
        file.seek(size // 2)
        file.write(bytes(8 * MIB))
        file.seek(size - 4 * MIB)
        file.write(os.urandom(4 * MIB))


def nbdinfo_says_what_we_offer(uri, size, name="disk"):
    export = json.loads(run(["nbdinfo", "--json", uri]).stdout)
    check(export["protocol"] == "newstyle-fixed" and export["structured"], "nbdinfo: fixed newstyle, structured replies")
    export = export["exports"][0]
    check(export["export-size"] == size, "nbdinfo: the size")
    wanted = ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df", "can_multi_conn")
    check(all(export[name] for name in wanted), f"nbdinfo: {', '.join(wanted)}")
    check(not export["is_read_only"] and export["block_size_maximum"] == 32 * MIB, "nbdinfo: writable, requests to 32 MiB")
    listed = json.loads(run(["nbdinfo", "--json", "--list", uri]).stdout)
    check([entry["export-name"] for entry in listed["exports"]] == [name], "nbdinfo --list: one export")


def nbdcopy_there_and_back(uri, directory, image):
    digest = sha256(image)
    for options in (["--requests=64", "--connections=4"], ["--connections=1", "--request-size=33554432", "--requests=4"],
                    ["--connections=1", "--requests=1", "--request-size=4096", "--synchronous"]):
        back = directory / "back"
        back.unlink(missing_ok=True)
        run(["nbdcopy", "--flush", *options, image, uri])
        run(["nbdcopy", *options, uri, back])
        check(sha256(back) == digest, f"nbdcopy there and back by SHA-256 ({' '.join(options)})")


def qemu_img_agrees(uri, directory, image, size):
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", image, uri])
    compared = run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri])
    check("identical" in compared.stdout, "qemu-img convert, then compare: identical")
    info = json.loads(run(["qemu-img", "info", "-f", "raw", "--output=json", uri]).stdout)
    check(info["virtual-size"] == size, "qemu-img info: the size")
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
