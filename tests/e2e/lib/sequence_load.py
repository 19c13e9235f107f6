"""A write load whose state after any crash can be judged: write number s goes to a block that s alone decides.

The blocks then hold, for each block, the largest s so far; whoever knows the last number that was flushed can say
for each block what must be there at least, and whether all blocks together are one prefix of the order of writes.
"""

import struct
import threading
import time

from . import nbd
from .process import Failure

BLOCK_BYTES = 4096
BLOCKS = 256


def block_of(number):
    return (number * 2654435761 >> 7) % BLOCKS


def content(number):
    return struct.pack("<8sQ", b"HFSEQ001", number) * (BLOCK_BYTES // 16)


def number_in(data):
    """The number of the write that left this block, 0 for a blank one. Failure for a torn or strange one."""
    if not any(data):
        return 0
    number = struct.unpack_from("<8sQ", data)[1]
    if data != content(number):
        raise Failure(f"a block that is torn: it begins with number {number}")
    return number


def verify(disk, flushed):
    """Reads all blocks and judges them; the number of the newest write that is there."""
    whole = disk.read(0, BLOCKS * BLOCK_BYTES)
    found = [number_in(whole[at:at + BLOCK_BYTES]) for at in range(0, len(whole), BLOCK_BYTES)]
    newest = max(found)
    if newest < flushed:
        raise Failure(f"write {flushed} was flushed; the newest that is there is {newest}")
    expected = [0] * BLOCKS
    for number in range(max(1, newest - 64 * BLOCKS), newest + 1):  # 64 rounds over all blocks reach each of them
        expected[block_of(number)] = number
    for block, (there, due) in enumerate(zip(found, expected)):
        if there != due:
            raise Failure(f"block {block} holds write {there}, not {due}: no prefix of the writes up to {newest}")
    return newest


class Load:
    """Writes on and on over one connection, `depth` in flight; flushes after each `batch`."""

    def __init__(self, disk, number, depth=8, batch=24):
        self.disk, self.number, self.depth, self.batch = disk, number, depth, batch

    def run_batch(self):
        """Writes a batch and flushes it; the last number, which is durable now."""
        in_flight = 0
        for _ in range(self.batch):
            self.number += 1
            self.disk.send(nbd.WRITE, block_of(self.number) * BLOCK_BYTES, data=content(self.number))
            in_flight += 1
            if in_flight == self.depth:
                self._take()
                in_flight -= 1
        while in_flight:
            self._take()
            in_flight -= 1
        self.disk.flush()
        return self.number

    def _take(self):
        _, error, _ = self.disk.receive()
        if error:
            raise OSError(error, "write failed")


class Writer(threading.Thread):
    """Writes and flushes on and on, on a thread, until it is stopped or its disk goes."""

    def __init__(self, path, number=0, export="disk1"):
        super().__init__(daemon=True)
        self._disk = nbd.Nbd(path, export)
        self._stopping = threading.Event()
        self.number = number  # of the newest write that was flushed
        self.failure = None
        self.start()

    def run(self):
        load = Load(self._disk, self.number)
        try:
            while not self._stopping.is_set():
                self.number = load.run_batch()
                time.sleep(0.01)
        except (OSError, Failure) as failure:
            self.failure = failure

    def end(self):
        """Its disk may be gone by now; the number of the newest write that was flushed."""
        self._stopping.set()
        self.join(60)
        if self.is_alive():
            raise Failure("the load is stuck in a write")
        self._disk.close()
        return self.number

    def stop(self):
        self.end()
        if self.failure:
            raise Failure(f"the load met an error: {self.failure}")
