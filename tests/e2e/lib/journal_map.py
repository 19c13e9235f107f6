"""An independent reader of the journal's maps, written from docs/formats/journal-maps.md alone.

    python3 journal_map.py MAP                       every entry, in order
    python3 journal_map.py MAP VOLUME OFFSET LENGTH  the entries that touch a range, by way of the filters

A difference to what the page says is an error, also where a lenient reader could go on. Signatures are
not checked here: the standard library has no Ed25519.
"""
import hashlib
import struct
import sys

PAGE_MAX, FOOTER, MASK = 16384, 512, 2**64 - 1


class Damaged(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damaged(what)


class Numbers:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            need(byte or not shift, "a longer form than needed")
            value |= (byte & 127) << shift
            need(value <= MASK, "more than 64 bits")
            if byte < 128:
                return value
            shift += 7

    def difference(self, before):
        coded = self.varint()
        return (before + (coded >> 1 ^ (MASK if coded & 1 else 0))) & MASK


def mix(x):
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ x >> 27) * 0x94d049bb133111eb & MASK
    return x ^ x >> 31


def may_hold(bits, major, minor):
    if not bits:
        return True
    h = mix((minor + mix((major + 0x9e3779b97f4a7c15) & MASK)) & MASK)
    for i in range(7):
        bit = ((h + i * (h >> 32 | 1)) % 2**32) * len(bits) * 8 >> 32
        if not bits[bit // 8] >> bit % 8 & 1:
            return False
    return True


class Table:
    def __init__(self, data):
        self.data = data
        footer = data[-FOOTER:]
        need(len(footer) == FOOTER and hashlib.sha256(footer[:480]).digest() == footer[480:], "the footer's digest differs")
        magic, version, self.kind, length, self.entries, self.levels = struct.unpack_from("<4sHHQQB", footer)
        need((magic, version, length) == (b"HFFT", 1, len(data)), "not a table of this length")
        self.root = struct.unpack_from("<QQQI4x32s", footer, 32)

    def read(self, offset, length, digest):
        need(length <= PAGE_MAX and offset + length <= len(self.data) - FOOTER, "leads out of the table")
        found = self.data[offset:offset + length]
        need(hashlib.sha256(found).digest() == digest, f"the hash at {offset} differs")
        return found

    def blocks(self, level=None, page=None):
        """(first key, next key or None, filter, (offset, length, hash)) of each block."""
        if level is None:
            if not self.levels:
                return
            level, page = self.levels, self.root
        data = self.read(page[2], page[3], page[4])
        need(data[0] == level and data[1] == 0 and data[4:8] == bytes(4), "a page's header differs")
        at, references = 8, []
        for _ in range(struct.unpack_from("<H", data, 2)[0]):
            major, minor, offset, length, bits, digest = struct.unpack_from("<QQQII32s", data, at)
            references.append(((major, minor, offset, length, digest), data[at + 64:at + 64 + bits]))
            at += 64 + bits
        need(at == len(data), "a page's length differs")
        need(references[0][0][:2] == page[:2], "a page begins at another key")
        for reference, bits in references:
            if level > 1:
                yield from self.blocks(level - 1, reference)
            else:
                yield reference, bits

    def extents(self, reference):
        data = self.read(*reference[2:])
        numbers, before = Numbers(data[2:]), None
        for _ in range(struct.unpack_from("<H", data)[0]):
            before = extent(numbers, before)
            yield before
        need(numbers.at == len(numbers.data), "a block's length differs")


def extent(numbers, before):
    flags = numbers.take(1)[0]
    need(flags < 32 and (before or flags & 12 == 8), "flags that are none")
    unit = 512 if flags & 2 else 1
    entry = dict(before or dict(sequence=0, segment=0), zero=flags & 1)
    if flags & 8:
        entry["volume"] = numbers.varint()
    end = 0 if flags & 8 else before["offset"] + before["length"]
    entry["offset"] = end + numbers.varint() * unit
    entry["length"] = numbers.varint() * unit
    entry["skip"] = numbers.varint() * unit if flags & 16 else 0
    if not flags & 4:
        entry["sequence"] = numbers.difference(entry["sequence"])
        entry["segment"] = numbers.difference(entry["segment"])
        entry["place"] = numbers.varint() * 64
        entry["leaf"] = numbers.take(16)
    need(entry["length"] > 0 and max(v for v in entry.values() if isinstance(v, int)) <= 2**62, "a number above the limit")
    return entry


def may_touch(bits, volume, offset, length):
    if length > 8 << 20:
        return True
    return (any(may_hold(bits, volume, 2 * granule + 1) for granule in range(offset // 65536, (offset + length - 1) // 65536 + 1)) or
            any(may_hold(bits, volume, 2 * block) for block in range(offset // 4096, (offset + length - 1) // 4096 + 1)))


def shown(entry):
    return "{volume} {offset} {length} {zero} {sequence} {segment} {place} {skip} ".format(**entry) + entry["leaf"].hex()


def main(path, volume=None, offset=None, length=None):
    with open(path, "rb") as file:
        table = Table(file.read())
    need(table.kind == 1, "not a map")
    count = 0
    for reference, bits in table.blocks():
        if volume is not None and not may_touch(bits, int(volume), int(offset), int(length)):
            continue
        for entry in table.extents(reference):
            count += 1
            if volume is None or (entry["volume"] == int(volume) and entry["offset"] < int(offset) + int(length) and
                                  entry["offset"] + entry["length"] > int(offset)):
                print(shown(entry))
    need(volume is not None or count == table.entries, "the footer counts other entries")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Damaged as error:
        sys.exit(f"{sys.argv[1]}: damaged: {error}")
