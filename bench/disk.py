#!/usr/bin/env python3
"""A keeper's disk beside qemu-storage-daemon on a raw file of the same file system, by fio over NBD.

Both serve at the same time; each round runs each workload on one and then the other, so that a slower minute hits both.
Quoted are medians over the rounds, their spread, and the ratio keeper / peer round by round. The floor is the same NBD
server on memory (holdfast-nbd-memory): what the protocol costs without any storage.

The last line is JSON; --json prints only that; --quick is for trying it out.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from lib.keeper import Keeper, Vault  # noqa: E402
from lib.process import Processes, run, wait_until  # noqa: E402
from lib.site import bin_dir  # noqa: E402

MIB = 1 << 20
SIZE = 512 * MIB
WORKLOADS = {
    "write 4k qd1": ["--rw=randwrite", "--bs=4k", "--iodepth=1"],
    "write 4k qd1 fsync": ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"],
    "write 4k qd16": ["--rw=randwrite", "--bs=4k", "--iodepth=16"],
    "write 4k qd16 fsync/32": ["--rw=randwrite", "--bs=4k", "--iodepth=16", "--fsync=32"],
    "read 4k qd1": ["--rw=randread", "--bs=4k", "--iodepth=1"],
    "read 4k qd16": ["--rw=randread", "--bs=4k", "--iodepth=16"],
    "write 256k qd4": ["--rw=write", "--bs=256k", "--iodepth=4"],
}


def fio(uri, directory, workload, seconds):
    output = directory / "fio.json"
    run(["fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE}", "--time_based", f"--runtime={seconds}",
         "--randrepeat=0", "--norandommap", "--output-format=json", f"--output={output}", *WORKLOADS[workload]],
        cwd=directory, timeout=seconds + 60)
    text = output.read_text()
    job = json.loads(text[text.index("{"):])["jobs"][0]
    side = job["read" if "read" in workload else "write"]
    latency = side["clat_ns"]["percentile"]
    return {"iops": side["iops"], "p50_us": latency["50.000000"] / 1e3, "p99_us": latency["99.000000"] / 1e3}


def start_peer(processes, directory):
    image, socket = directory / "peer.img", directory / "peer.nbd"
    with open(image, "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(bytes(MIB))  # written before, as a disk in use is
    processes.start(["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={image}",
                     "--nbd-server", f"addr.type=unix,addr.path={socket}",
                     "--export", "type=nbd,id=disk,node-name=disk,writable=on,name=disk1"], name="peer")
    wait_until(socket.exists, 10, "qemu-storage-daemon's socket")
    return f"nbd+unix:///disk1?socket={socket}"


def start_floor(processes, directory):
    socket = directory / "floor.nbd"
    processes.start([bin_dir() / "holdfast-nbd-memory", socket, str(SIZE // MIB), "disk"], name="floor")
    wait_until(socket.exists, 10, "the memory server's socket")
    return f"nbd+unix:///disk?socket={socket}"


def summary(samples):
    return {key: {"median": round(statistics.median(sample[key] for sample in samples), 1),
                  "min": round(min(sample[key] for sample in samples), 1),
                  "max": round(max(sample[key] for sample in samples), 1)} for key in samples[0]}


def measure(directory, rounds, seconds, quiet):
    result = {}
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": SIZE}, vtpm=False)
        keeper.create()
        keeper.start()
        keeper.wait_serving()
        uris = {"keeper": keeper.uri(), "peer": start_peer(processes, directory), "floor": start_floor(processes, directory)}
        run(["nbdcopy", directory / "peer.img", uris["floor"]])
        run(["fio", "--name=fill", "--ioengine=nbd", f"--uri={uris['keeper']}", f"--size={SIZE}", "--rw=write", "--bs=1m",
             "--output=/dev/null"], cwd=directory, timeout=300)
        for workload in WORKLOADS:
            samples = {name: [] for name in uris}
            for _ in range(rounds):
                for name, uri in uris.items():
                    samples[name].append(fio(uri, directory, workload, seconds))
            ratios = sorted(ours["iops"] / theirs["iops"] for ours, theirs in zip(samples["keeper"], samples["peer"]))
            result[workload] = {name: summary(of) for name, of in samples.items()}
            result[workload]["iops_ratio"] = {"median": round(statistics.median(ratios), 2), "min": round(ratios[0], 2),
                                              "max": round(ratios[-1], 2)}
            if not quiet:
                show(workload, result[workload])
        keeper.stop()
    return result


def show(workload, row):
    parts = [f"{name} {row[name]['iops']['median']:>8.0f}/s p99 {row[name]['p99_us']['median']:>6.0f} us"
             for name in ("keeper", "peer", "floor")]
    ratio = row["iops_ratio"]
    print(f"{workload:24s} {'   '.join(parts)}   keeper/peer {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-bench-", dir="/var/tmp"))
    started = time.monotonic()
    try:
        rows = measure(directory, 2 if arguments.quick else 5, 1 if arguments.quick else 3, arguments.json)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps({"bench": "disk", "quick": arguments.quick, "seconds": round(time.monotonic() - started), "workloads": rows}))


if __name__ == "__main__":
    main()
