"""The probe guest as its tests see it: its image, its second disk, its console lines (guests/probe/README.md)."""

import dataclasses
import pathlib
import re
import struct

from .process import Failure, run

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent.parent
DATA_DISK_BYTES = 16 << 20
OPTIONS_OFFSET = 4096
MARKER_OFFSET = 8192
LOG_HEADER_OFFSET = 64 << 10
LOG_OFFSET = 68 << 10
PCR_TEXT_OFFSET = 640 << 10
PCR_COUNT = 24
UNLOCK_SECONDS_MAX = 150  # 15 to 25 s on an idle machine; builds run beside the tests


def image(unsigned=False):
    """Path of the cached image, built first where it is missing."""
    argv = [REPOSITORY / "guests/probe/build"] + (["--unsigned"] if unsigned else [])
    return pathlib.Path(run(argv, timeout=180).stdout.strip())


def make_data_disk(path, **options):
    """The second disk: blank, but for the options of the runs to come (rate=2 rounds=0 fill=0 load=0 …)."""
    text = " ".join(f"{name}={value}" for name, value in options.items()).encode()
    if len(text) >= 1024:
        raise ValueError("options too long")
    with open(path, "wb") as disk:
        disk.truncate(DATA_DISK_BYTES)
        disk.seek(OPTIONS_OFFSET)
        disk.write(text + b"\0")
    return pathlib.Path(path)


def read_marker(path):
    """The 32 bytes that the guest wrote to its second disk, from a raw copy of that disk."""
    with open(path, "rb") as disk:
        disk.seek(MARKER_OFFSET)
        block = disk.read(40)
    if block[:8] != b"HFMARK01":
        raise Failure("the guest left no marker on its second disk")
    return block[8:]


def read_measurements(path):
    """(event log, {bank: {PCR: hex}}) that a guest with log=1 wrote to its second disk, from a raw copy of that disk."""
    with open(path, "rb") as disk:
        disk.seek(LOG_HEADER_OFFSET)
        magic, log_bytes, text_bytes = struct.unpack("<8sQQ", disk.read(24))
        if magic != b"HFEVLOG1":
            raise Failure("the guest left no event log on its second disk")
        disk.seek(LOG_OFFSET)
        log = disk.read(log_bytes)
        disk.seek(PCR_TEXT_OFFSET)
        text = disk.read(text_bytes).decode()
    pcrs = {}
    for line in text.splitlines():
        if line:
            bank, number, value = line.split()
            pcrs.setdefault(bank, {})[int(number)] = value.lower()
    return log, pcrs


def read_raw_counter(path):
    with open(path, "rb") as disk:
        magic, count = struct.unpack("<8sQ", disk.read(16))
    return count if magic == b"HFCOUNT1" else 0


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a boot found. The order of a round's writes allows each difference to be 0 or 1."""
    disk: int
    raw: int
    tpm: int
    uefi: int

    def check_order(self):
        for name, difference in (("raw - disk", self.raw - self.disk), ("disk - tpm", self.disk - self.tpm),
                                 ("tpm - uefi", self.tpm - self.uefi)):
            if difference not in (0, 1):
                raise Failure(f"write order broken: {name} = {difference} in {self}")


def wait_unlocked(console, timeout=UNLOCK_SECONDS_MAX, start=0):
    """Waits until the root is open by the vTPM; what the guest found, and the console line that said so."""
    console.wait_for(r"^HF UNLOCKED by=vtpm", timeout, start)
    _, line, found = console.wait_for(r"^HF FOUND disk=(\d+) raw=(\d+) tpm=(\d+) uefi=(\d+)", 10, start)
    return Counters(*map(int, found.groups())), line


def wait_round(console, number, timeout):
    """Waits for round `number` (a total over all boots) to be printed; its console line."""
    return console.wait_for(rf"^HF ROUND {number}\b", timeout)[1]


def rounds(console):
    """{round: time of its line} of all rounds printed so far."""
    out = {}
    for line in list(console.lines):
        match = re.match(r"HF ROUND (\d+)", line.text)
        if match:
            out[int(match[1])] = line.at
    return out
