#!/usr/bin/env python3
"""What many quiet VMs cost, what shipping costs, and what waiting clients cost.

Two whole sites on this machine. The guests are stand-ins (bench/standin_qemu.cpp) in QEMU's place, in a mount namespace of
this run's own, so that what is measured is Holdfast itself: CPU, wake-ups, threads and memory of all its processes.

Shipping is measured as catching up: a disk's writes are made while the other site is down, then it comes up. With --before
COMMIT each round runs that commit's build too, interleaved (its programs are built below build/before).

The last line is JSON; --json prints only that; --quick is for trying it out. Needs root (mount namespace, users).
"""

import argparse
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from lib import site as site_module  # noqa: E402
from lib.process import Failure, Processes, run, wait_until  # noqa: E402
from lib.site import Site, bin_dir, pair  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
QEMU = pathlib.Path("/usr/bin/qemu-system-x86_64")
MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_BIND = 0x20000, 0x4000, 1 << 18, 0x1000


def replace_qemu():
    """For this process and its children only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise Failure(f"a mount namespace: {os.strerror(ctypes.get_errno())}; run the bench as root")
    stand_in = bin_dir() / "holdfast-standin-qemu"
    if libc.mount(os.fsencode(stand_in), os.fsencode(QEMU.resolve()), None, MS_BIND, None) != 0:
        raise Failure(f"bind {stand_in} over {QEMU}: {os.strerror(ctypes.get_errno())}")


class Usage:
    """CPU seconds and context switches of processes, all threads, since it was made."""

    def __init__(self, pids):
        self.pids = pids
        self.begin = time.monotonic()
        self.before = {pid: self._read(pid) for pid in pids}

    @staticmethod
    def _read(pid):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / TICK
            switches = 0
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                for line in (task / "status").read_text().splitlines():
                    if "ctxt_switches" in line:
                        switches += int(line.split()[1])
            return cpu, switches
        except OSError:
            return None

    def end(self):
        """{pid: (cpu seconds, switches)}, and how long it took."""
        seconds = time.monotonic() - self.begin
        result = {}
        for pid, before in self.before.items():
            after = self._read(pid)
            if before and after:
                result[pid] = (after[0] - before[0], after[1] - before[1])
        return result, seconds


def status_field(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def site_pids(site):
    """{pid: program} without the guests' stand-ins and the launcher's own parent."""
    return {pid: name for pid, name in site.pids().items() if not name.startswith("qemu-system") and "standin" not in name}


def two_sites(processes, directory):
    north, south = Site(processes, directory, "north", 410000), Site(processes, directory, "south", 460000)
    for site in (north, south):
        site.init()
        site.start()
    return north, south


def streaming(site, name):
    shown = site.json("protection", "show", name)
    return shown.get("state") == "streaming" and shown.get("lag_records", 1) == 0


def measure_idle(north, south, vms, seconds, say):
    def threads(site, program):
        return sum(status_field(pid, "Threads") for pid in site.pids_of(program))

    def add(first, last):
        for number in range(first, last):
            name = f"vm{number:03}"
            north.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", name)
            north.cli("protection", "enable", name, "--to", "south")
        for number in range(first, last):
            wait_until(lambda: streaming(north, f"vm{number:03}"), 60, f"vm{number:03} is replicated", interval=0.1)

    add(0, 1)
    few = {program: threads(north, program) for program in ("holdfastd", "holdfast-link")}
    add(1, vms)
    say(f"{vms} VMs run and are protected; settling")
    time.sleep(90 if vms > 8 else 5)  # firmware that never hands over is watched for a minute
    sites = {"north": north, "south": south}
    usages = {name: Usage(site_pids(site)) for name, site in sites.items()}
    programs = {name: site_pids(site) for name, site in sites.items()}
    time.sleep(seconds)
    result = {"idle_core_percent": {}, "wakeups_per_s": {}, "by_program": {}}
    for name, usage in usages.items():
        used, took = usage.end()
        result["idle_core_percent"][name] = round(100 * sum(cpu for cpu, _ in used.values()) / took, 2)
        result["wakeups_per_s"][name] = round(sum(switches for _, switches in used.values()) / took, 1)
        for pid, (cpu, switches) in used.items():
            key = f"{name} {programs[name][pid]}"
            total = result["by_program"].setdefault(key, {"core_percent": 0.0, "wakeups_per_s": 0.0, "processes": 0})
            total["core_percent"] = round(total["core_percent"] + 100 * cpu / took, 3)
            total["wakeups_per_s"] = round(total["wakeups_per_s"] + switches / took, 1)
            total["processes"] += 1
    keyless = south.pids_of("holdfast-keeper")
    result["keyless_rss_kib"] = max((status_field(pid, "RssAnon") for pid in keyless), default=0)
    result["keyless_threads"] = max((status_field(pid, "Threads") for pid in keyless), default=0)
    result["threads_few"] = few
    result["threads"] = {program: threads(north, program) for program in ("holdfastd", "holdfast-link")}
    return result


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Blocking: waits where the backlog is full, which a socket with Python's own time limit does not.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 60, 0))
        self.sock.connect(str(self.path))
        self.sock.settimeout(60)


def measure_waiters(north, waiters, asks):
    """How long GET /v1/site takes while clients wait for a job and for events."""
    api = north.state / "run/api.sock"
    north.cli("vm", "create", "stuck", "--blank", "16M", "--memory", "256M")
    north.cli("vm", "start", "stuck")
    os.kill(north.qemu_pid("stuck"), signal.SIGSTOP)  # a guest that hears nothing: the job goes on for a while
    stopping = subprocess.Popen([str(word) for word in north.argv("vm", "stop", "stuck", "--timeout", "60")],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        job = wait_until(lambda: next((job for job in north.json("job", "list")
                                       if job["subject"] == "stuck" and job["state"] == "running"), None), 10, "a job runs")
        newest = max((event["id"] for event in north.json("event", "list")), default=0)
        paths = [f"/v1/jobs/{job['id']}?wait_ms=20000&seen=1000000", f"/v1/events?wait_ms=20000&after={newest + 1000}"]
        connections = []
        for number in range(waiters):
            connection = UnixConnection(api)
            connection.request("GET", paths[number % 2])
            connections.append(connection)
        time.sleep(0.5)
        times = []
        asking = UnixConnection(api)
        for _ in range(asks):
            begin = time.monotonic()
            asking.request("GET", "/v1/site")
            asking.getresponse().read()
            times.append((time.monotonic() - begin) * 1000)
            time.sleep(0.002)
        for connection in connections:
            connection.close()
        return {"p50": round(statistics.median(times), 2), "p99": round(sorted(times)[int(len(times) * 0.99)], 2)}
    finally:
        os.kill(north.qemu_pid("stuck") or os.getpid(), signal.SIGCONT)
        stopping.wait(90)


def ship_once(processes, directory, mib):
    """MB/s and CPU seconds a 4 KiB record of all processes, from the peer's return to the last acknowledgement."""
    directory.mkdir()
    directory.chmod(0o711)
    north, south = two_sites(processes, directory)
    try:
        pair(north, south)
        north.cli("vm", "create", "web", "--blank", f"{max(64, mib)}M", "--memory", "256M")
        north.cli("vm", "start", "web")
        north.cli("protection", "enable", "web", "--to", "south")
        wait_until(lambda: streaming(north, "web"), 30, "web is replicated")
        south.kill_whole()
        run(["fio", "--name=load", "--ioengine=nbd", f"--uri=nbd+unix:///disk1?socket={north.run_dir('web') / 'disk1.nbd'}",
             f"--size={max(64, mib)}M", f"--io_size={mib}M", "--rw=randwrite", "--bs=4k", "--iodepth=16", "--randrepeat=1",
             "--norandommap", "--end_fsync=1"], cwd=directory, timeout=300)
        start = north.json("protection", "show", "web").get("acknowledged", 0)
        begin_usage = Usage(site_pids(north))
        south.start()
        moved = wait_until(lambda: max(0, north.json("protection", "show", "web").get("acknowledged", 0) - start), 60,
                           "the replica takes something", interval=0.01)
        begin = time.monotonic()
        south_usage = Usage(site_pids(south))
        wait_until(lambda: streaming(north, "web"), 300, "web is replicated", interval=0.02)
        took = time.monotonic() - begin
        shown = north.json("protection", "show", "web")
        records = shown["acknowledged"] - start
        cpu = sum(used for used, _ in begin_usage.end()[0].values()) + sum(used for used, _ in south_usage.end()[0].values())
        return {"mb_s": (records - moved) * 4096 / 1e6 / took, "cpu_us_record": cpu * 1e6 / records, "records": records}
    finally:
        north.end()
        south.end()


def build_before(commit):
    """That commit's programs, built below build/before and nowhere else in the tree."""
    source = REPOSITORY / "build" / "before" / commit
    if not (source / "script").exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        run(["git", "-C", str(REPOSITORY), "worktree", "add", "--detach", "--force", str(source), commit], timeout=60)
    run([str(source / "script/build"), "dev"], timeout=3600)
    return source / "build/dev/bin"


def measure_shipping(directory, mib, rounds, before, say):
    builds = {"now": os.environ.get("HOLDFAST_BIN", str(REPOSITORY / "build/dev/bin"))}
    if before:
        builds["before"] = str(build_before(before))
    samples = {name: [] for name in builds}
    for number in range(rounds):
        for name, place in builds.items():
            os.environ["HOLDFAST_BIN"] = place
            site_module.bin_dir.cache_clear()
            with Processes(directory) as processes:
                sample = ship_once(processes, directory / f"{number}-{name}", mib)
            say(f"shipping, round {number + 1}, {name}: {sample['mb_s']:.0f} MB/s, {sample['cpu_us_record']:.1f} µs a record")
            samples[name].append(sample)
    os.environ["HOLDFAST_BIN"] = builds["now"]
    site_module.bin_dir.cache_clear()
    return samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--vms", type=int)
    parser.add_argument("--before", metavar="COMMIT", help="also measure shipping by this commit's build")
    parser.add_argument("--only", choices=["idle", "ship", "waiters"])
    arguments = parser.parse_args()
    vms = arguments.vms or (4 if arguments.quick else 64)

    def say(text):
        if not arguments.json:
            print(text, flush=True)

    replace_qemu()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-scale-"))
    directory.chmod(0o711)
    summary = {"vms": vms}
    try:
        if arguments.only != "ship":
            with Processes(directory) as processes:
                north, south = two_sites(processes, directory)
                try:
                    pair(north, south)
                    if arguments.only != "waiters":
                        idle = measure_idle(north, south, vms, 5 if arguments.quick else 30, say)
                        say(json.dumps(idle, indent=2))
                        summary |= {"idle_core_percent_64": max(idle["idle_core_percent"].values()),
                                    "wakeups_per_s_64": max(idle["wakeups_per_s"].values()),
                                    "keyless_keeper_rss_mib": round(idle["keyless_rss_kib"] / 1024, 2),
                                    "keyless_keeper_threads": idle["keyless_threads"],
                                    "threads_daemon": idle["threads"]["holdfastd"],
                                    "threads_link": idle["threads"]["holdfast-link"],
                                    "threads_at_one_vm": idle["threads_few"]}
                    if arguments.only != "idle":
                        waiters = measure_waiters(north, 50 if arguments.quick else 500, 200 if arguments.quick else 1000)
                        summary |= {"site_get_ms_p50_500_waiters": waiters["p50"], "site_get_ms_p99_500_waiters": waiters["p99"]}
                finally:
                    north.end()
                    south.end()
        if arguments.only in (None, "ship"):
            samples = measure_shipping(directory, 64 if arguments.quick else 1024, 1 if arguments.quick else 3,
                                       arguments.before, say)
            summary["ship_mb_s"] = round(statistics.median(sample["mb_s"] for sample in samples["now"]), 1)
            if "before" in samples:
                summary["ship_mb_s_before"] = round(statistics.median(sample["mb_s"] for sample in samples["before"]), 1)
                summary["ship_cpu_ratio"] = round(statistics.median(
                    now["cpu_us_record"] / then["cpu_us_record"]
                    for now, then in zip(samples["now"], samples["before"], strict=True)), 2)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(summary))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bench: {failure}")
