#!/usr/bin/env python3
# timeout: 240
# programs: holdfast-keeper holdfast-vault
"""A keeper is killed with kill -9 while a guest counts, writes, extends and sets the clock in its vTPM. The next one has
every value that was answered, and of the command under way the old or the new one; the clock never went back.

No QEMU: raw TPM commands play the guest. HOLDFAST_KILLS=n (environment) sets how often; 12 by default, 200 in script/nightly.
"""

import hashlib
import os
import random
import statistics
import struct
import threading
import time

from lib.keeper import Keeper, Vault
from lib.process import Failure, Processes
from lib.report import check, main, step
from lib.tpm_machine import TpmMachine

KILLS = int(os.environ.get("HOLDFAST_KILLS", "12"))
DISK = 16 << 20
OWNER, PASSWORD = 0x40000001, struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
ALL, NO_DA, ORDERLY = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18, 1 << 25, 1 << 26  # owner and index write and read
COUNTER, BITS, EXTEND = 1 << 4, 2 << 4, 4 << 4
INDICES = {"counter": (0x01500001, COUNTER, 8), "orderly counter": (0x01500002, COUNTER | ORDERLY, 8), "bits": (0x01500003, BITS, 8),
           "extend": (0x01500004, EXTEND, 32), "ordinary": (0x01500005, 0, 16), "orderly ordinary": (0x01500006, ORDERLY, 16)}
UNWRITTEN, STATE = 0x14A, 1


class Gone(Exception):
    """The TPM died before it answered."""


class Guest:
    def __init__(self, keeper, directory, number):
        self.machine = TpmMachine(keeper.socket_path("tpm"), directory, f"guest{number}")
        self.machine.power_on()
        self.ask(0x144, struct.pack(">H", 0), sessions=False)

    def send(self, code, body, sessions=True):
        """(response code, what follows the header)."""
        command = struct.pack(">HII", 0x8002 if sessions else 0x8001, 10 + len(body), code) + body
        try:
            answer = self.machine.command(command)
        except OSError as error:
            raise Gone from error
        if answer is None:
            raise Gone
        return struct.unpack(">I", answer[6:10])[0], answer[10:]

    def ask(self, code, body, sessions=True):
        result, rest = self.send(code, body, sessions)
        if result != 0:
            raise Failure(f"TPM command 0x{code:x} answered 0x{result:x}")
        return rest

    def on_index(self, code, index, parameters=b""):
        return self.send(code, struct.pack(">II", OWNER, index) + PASSWORD + parameters)

    def define(self, index, attributes, size):
        public = struct.pack(">IHIHH", index, 0xB, attributes | ALL | NO_DA, 0, size)
        self.ask(0x12A, struct.pack(">I", OWNER) + PASSWORD + struct.pack(">HH", 0, len(public)) + public)

    def read(self, index, size):
        """None: not written."""
        code, rest = self.on_index(0x14E, index, struct.pack(">HH", size, 0))
        if code not in (0, UNWRITTEN):
            raise Failure(f"index 0x{index:x} answered 0x{code:x}")
        return rest[6:6 + size] if code == 0 else None

    def clock(self):
        """(clock, resets, restarts, safe)."""
        return struct.unpack(">QIIB", self.ask(0x181, b"", sessions=False)[8:])

    def set_clock(self, to):
        return self.send(0x128, struct.pack(">I", OWNER) + PASSWORD + struct.pack(">Q", to))[0]

    def extend_pcr(self):
        self.ask(0x182, struct.pack(">I", 10) + PASSWORD + struct.pack(">IH", 1, 0xB) + bytes(32))


def next_value(chance, kind, old):
    """(command code, parameters, the value after it)."""
    if "counter" in kind:
        return 0x134, b"", struct.pack(">Q", struct.unpack(">Q", old or bytes(8))[0] + 1)
    if kind == "bits":
        bit = 1 << chance.randrange(64)
        return 0x135, struct.pack(">Q", bit), struct.pack(">Q", struct.unpack(">Q", old or bytes(8))[0] | bit)
    data = chance.randbytes(16)
    if kind == "extend":
        return 0x136, struct.pack(">H", 16) + data, hashlib.sha256((old or bytes(32)) + data).digest()
    return 0x137, struct.pack(">H", 16) + data + struct.pack(">H", 0), data


def work_until_killed(guest, chance, values, told):
    """The two that may be: values as answered, and as the last command would have left them; and the clock as told."""
    after = dict(values)
    try:
        while True:
            kind = chance.choice([*INDICES, "clock", "clock", "pcr", "pcr", "pcr"])
            if kind == "pcr":
                guest.extend_pcr()
            elif kind == "clock":
                to = told[0] + chance.randrange(1, 1_000_000)
                if chance.random() < 0.3 and guest.set_clock(to) == 0:
                    told = (to, *told[1:])
                told = guest.clock()
            else:
                code, parameters, value = next_value(chance, kind, values[kind])
                after = {**values, kind: value}
                result, _ = guest.on_index(code, INDICES[kind][0], parameters)
                if result != 0:
                    raise Failure(f"{kind}: 0x{result:x}")
                values = after
    except Gone:
        return values, after, told


def compare(guest, values, after, told, restarted=False):
    now = guest.clock()
    if now[0] < told[0] or now[1:3] <= told[1:3] or now[3] != 1:
        raise Failure(f"told clock, resets, restarts, safe {told}, now {now}")
    found = {kind: guest.read(index, size) for kind, (index, _, size) in INDICES.items()}
    for kind, value in found.items():
        if value not in (values[kind], after[kind]) and not (kind == "orderly ordinary" and value is None and not restarted):
            raise Failure(f"{kind}: answered {values[kind]}, under way {after[kind]}, now {value}")
    return found, now


def killed_at_work(keeper, directory, guest):
    chance = random.Random(7)
    values, told = dict.fromkeys(INDICES), guest.clock()
    for kill in range(1, KILLS + 1):
        timer = threading.Timer(chance.uniform(0.01, 0.3), keeper.process.child.kill)
        timer.start()
        values, after, told = work_until_killed(guest, chance, values, told)
        timer.join()
        keeper.process.kill()
        guest.machine.unplug()
        keeper.start()
        keeper.wait_serving()
        guest = Guest(keeper, directory, kill)
        values, told = compare(guest, values, after, told)
    check(values["orderly counter"] is not None, f"{KILLS} kills -9 took nothing back: {struct.unpack('>Q', values['orderly counter'])[0]} "
          f"on the orderly counter, {struct.unpack('>Q', values['counter'])[0]} on the other; the clock is safe at {told[0]} ms")
    return guest, values


def keeps_what_was_saved(keeper, directory, guest, values):
    """TPM2_Shutdown(STATE), as before a hibernation: a TPM Restart has the orderly indices too."""
    for kind in ("orderly ordinary", "orderly counter"):
        code, parameters, values[kind] = next_value(random, kind, values[kind])
        guest.on_index(code, INDICES[kind][0], parameters)
    told = guest.clock()
    guest.ask(0x145, struct.pack(">H", STATE), sessions=False)
    keeper.process.kill()
    guest.machine.unplug()
    keeper.start()
    keeper.wait_serving()
    guest = Guest(keeper, directory, "resumed")
    compare(guest, values, values, told, restarted=True)
    check(True, "what a guest saved by TPM2_Shutdown(STATE) outlives the keeper's kill and its look at the keys")
    return guest


def costs(guest):
    def median_us(act, times=50):
        taken = []
        for _ in range(times):
            start = time.monotonic()
            act()
            taken.append((time.monotonic() - start) * 1e6)
        return statistics.median(taken)

    told = {name: median_us(act) for name, act in {
        "PCR extend": guest.extend_pcr,
        "orderly counter": lambda: guest.on_index(0x134, INDICES["orderly counter"][0]),
        "counter": lambda: guest.on_index(0x134, INDICES["counter"][0]),
        "orderly write": lambda: guest.on_index(0x137, INDICES["orderly ordinary"][0], struct.pack(">H", 16) + os.urandom(16) + bytes(2)),
        "write": lambda: guest.on_index(0x137, INDICES["ordinary"][0], struct.pack(">H", 16) + os.urandom(16) + bytes(2))}.items()}
    step("median µs: " + ", ".join(f"{name} {time:.0f}" for name, time in told.items()))


def test(directory):
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": DISK})
        keeper.create()
        keeper.start()
        keeper.wait_serving()
        guest = Guest(keeper, directory, 0)
        for index, attributes, size in INDICES.values():
            guest.define(index, attributes, size)
        guest, values = killed_at_work(keeper, directory, guest)
        guest = keeps_what_was_saved(keeper, directory, guest, values)
        costs(guest)
        before = keeper.position()
        for _ in range(200):
            guest.extend_pcr()
        check(keeper.position() == before, "200 PCR extends put nothing into the journal")
        guest.machine.unplug()
        keeper.stop()


main(test)
