"""A relay between two ship sockets that belongs to somebody else: it reads frames, and makes others of them.

It has no key: what it alters has correct lengths, checksums, digests and chains (src/replication/wire.h,
src/journal/format/format.h), which anybody can compute.
"""

import contextlib
import functools
import hashlib
import struct
import threading

from .ship import Relay

HELLO, ANSWER, RECORDS, ACK, AUTH, BEGIN = 1, 2, 3, 4, 13, 14
HOME, REPLICA = 0, 1
_FRAME = struct.Struct("<4sHBBII16s")
_RECORDS_HEAD = 48
_WRITE = 1


@functools.cache
def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ _crc_table()[(value ^ byte) & 0xff]
    return value ^ 0xffffffff


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tree(leaves):
    """RFC 6962 §2.1: the left half is the largest power of two below the count."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", tree(leaves[:half]), tree(leaves[half:]))


class Record:
    """One sealed record of a batch, at bytes[at:]."""

    def __init__(self, data):
        self.header, = (bytearray(data[:192]),)
        self.payload_size, = struct.unpack_from("<I", self.header, 88)
        self.size = (192 + self.payload_size + 63) // 64 * 64
        self.payload = bytearray(data[192:192 + self.payload_size])
        self.is_write = self.header[6] == _WRITE and self.payload_size > 0
        self.offset, self.length = struct.unpack_from("<QQ", self.header, 72)

    def seal(self, previous):
        """Digest, chain and checksum as home would have written them for these bytes."""
        self.header[112:144] = self.digest()
        self.header[144:176] = previous
        struct.pack_into("<I", self.header, 176, crc32c(self.header[:176]))

    def digest(self):
        """Of a write the root over its units, the volume's blocks of 4096 bytes, each with its tag (docs/formats/journal.md)."""
        if not self.is_write:
            return sha256(self.payload)
        leaves, at, left, room = [], 0, self.length, 4096 - self.offset % 4096
        while left:
            size = min(left, room)
            leaves.append(sha256(b"\0", self.payload[at:at + size + 16]))
            at, left, room = at + size + 16, left - size, 4096
        return tree(leaves)

    def chain(self):
        return sha256(self.header[144:176], sha256(self.header))

    def end(self):
        """As a frame names a position: incarnation, sequence, chain after it."""
        return bytes(self.header[32:64]) + bytes(self.header[8:16]) + self.chain()

    def bytes(self):
        return bytes(self.header + self.payload).ljust(self.size, b"\0")


def records_of(body):
    found, at = [], _RECORDS_HEAD
    while at < len(body):
        found.append(Record(body[at:]))
        at += found[-1].size
    return found


def frame(kind, vm, body):
    return _FRAME.pack(b"HFRP", 2, kind, 0, len(body), 0, vm) + body


def rewritten(body, count=3):
    """The batch with other bytes in its last writes, in order again; None where it has no write."""
    records = records_of(body)
    first = next((len(records) - back for back in range(1, len(records) + 1)
                  if sum(record.is_write for record in records[len(records) - back:]) == min(
                      count, sum(record.is_write for record in records))), None)
    if first is None or not any(record.is_write for record in records):
        return None
    previous = bytes(records[first].header[144:176])
    for record in records[first:]:
        before = record.bytes()
        record.seal(previous)
        if record is records[first] and record.bytes() != before:
            raise AssertionError("what is not altered must come out as it went in")
        if record.is_write:
            record.payload[0] ^= 0x40
            record.seal(previous)
        previous = record.chain()
    return body[:_RECORDS_HEAD] + b"".join(record.bytes() for record in records)


class Meddler(Relay):
    """`meddle(side, kind, vm, body)` of each frame that `side` sends: [(to, frame)…] of what is passed, or None: it passes."""

    def __init__(self, home, replica, meddle=None):
        self.meddle = meddle
        self.meddled = 0
        self.heard = []  # (side, kind, frame)
        self._locks = [threading.Lock(), threading.Lock()]
        super().__init__(home, replica)

    def _pump(self, ends, at, broken):
        data = b""
        try:
            while not broken.is_set() and not self._ended.is_set():
                try:
                    more = ends[at].recv(1 << 18)
                except TimeoutError:
                    continue
                if not more:
                    break
                data += more
                while len(data) >= _FRAME.size:
                    _, _, kind, _, length, _, vm = _FRAME.unpack_from(data)
                    if len(data) < _FRAME.size + length:
                        break
                    whole, data = data[:_FRAME.size + length], data[_FRAME.size + length:]
                    self._pass(ends, at, (kind, vm, whole), broken)
        except OSError:
            pass
        broken.set()

    def _pass(self, ends, at, read, broken):
        kind, vm, whole = read
        self.heard.append((at, kind, whole))
        passed = self.meddle(at, kind, vm, whole[_FRAME.size:]) if self.meddle else None
        if passed is not None:
            self.meddled += 1
        for to, one in [(1 - at, whole)] if passed is None else passed:
            with self._locks[to]:
                left = memoryview(one)
                while left and not broken.is_set() and not self._ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        left = left[ends[to].send(left):]
