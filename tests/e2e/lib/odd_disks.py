"""Disks that no tool would make: partition tables and FAT file systems with one or two of their fields wrong.

Each is made of a seed, so that a finding can be made again. What is wrong with it is said in `words`.
"""

import binascii
import random
import struct

SECTOR = 512
_ESP = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
_LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
PROGRAM_PATH = ("EFI", "BOOT", "BOOTX64.EFI")


class Fat:
    """A FAT file system with EFI/BOOT/BOOTX64.EFI in it. Fields of the boot sector can be given as they are to stand there."""

    def __init__(self, program, kind, clusters, spc=1, sector=512, fats=2, fat_short=0):
        self.kind, self.clusters, self.spc, self.sector, self.fats = kind, clusters, spc, sector, fats
        self.words = [f"FAT{kind}, {clusters} clusters of {spc} sectors of {sector} bytes"]
        self.reserved = 32 if kind == 32 else 1
        bits = {12: 12, 16: 16, 32: 32}[kind]
        self.fat_sectors = max(1, ((clusters + 2) * bits // 8 + 1 + sector - 1) // sector - fat_short)
        self.root_entries = 0 if kind == 32 else 512
        self.root_at = (self.reserved + fats * self.fat_sectors) * sector
        self.data_at = self.root_at + (self.root_entries * 32 + sector - 1) // sector * sector
        self.cluster_size = spc * sector
        self.total = self.data_at // sector + clusters * spc
        self.raw = bytearray(self.total * sector)
        self.table = {0: 0x0FFFFFF8, 1: 0x0FFFFFFF}
        self._next = 2
        self.entries = {}  # path: offset of its short entry
        self.chains = {}  # path: its clusters
        self.media = 0xF8
        self._boot_sector()
        root = self._chain((), 1) if kind == 32 else None
        self._directory((), root, PROGRAM_PATH, program)

    def _boot_sector(self):
        raw = self.raw
        raw[0:3] = b"\xeb\x58\x90"
        struct.pack_into("<HBHBHHB", raw, 11, self.sector, self.spc, self.reserved, self.fats, self.root_entries, 0, self.media)
        struct.pack_into("<I", raw, 32, self.total)
        if self.kind == 32:
            struct.pack_into("<IHHIHH", raw, 36, self.fat_sectors, 0, 0, 2, 1, 6)
        else:
            struct.pack_into("<H", raw, 22, self.fat_sectors)
        raw[510:512] = b"\x55\xaa"

    def _chain(self, path, count):
        clusters = list(range(self._next, self._next + count))
        self._next += count + 1  # a gap, so that a chain that goes on is not the next file's
        for at, cluster in enumerate(clusters):
            self.table[cluster] = clusters[at + 1] if at + 1 < count else 0x0FFFFFFF
        self.chains[path] = clusters
        return clusters

    def offset(self, cluster):
        return self.data_at + (cluster - 2) * self.cluster_size

    def _directory(self, path, clusters, rest, program):
        name = rest[0]
        child = path + (name,)
        at = self.root_at if clusters is None else self.offset(clusters[0])
        last = len(rest) == 1
        size = len(program) if last else 0
        own = self._chain(child, max(1, -(-size // self.cluster_size)) if last else 1)
        if path:
            self.raw[at:at + 64] = self.entry(".", 0x10, clusters[0], 0) + self.entry("..", 0x10, 0, 0)
            at += 64
        self.entries[child] = at
        self.raw[at:at + 32] = self.entry(name, 0x20 if last else 0x10, own[0], size)
        if last:
            self.raw[self.offset(own[0]):self.offset(own[0]) + size] = program
        else:
            self._directory(child, own, rest[1:], program)

    @staticmethod
    def entry(name, attributes, cluster, size):
        stem, _, extension = (name, "", "") if name in (".", "..") else name.partition(".")
        raw = (stem.ljust(8)[:8] + extension.ljust(3)[:3]).encode()
        return struct.pack("<11sBBBHHHHHHHI", raw, attributes, 0, 0, 0, 0, 0, cluster >> 16, 0, 0, cluster & 0xFFFF, size)

    def shift(self, path, count):
        """Room for `count` entries in front of that of `path`; returns where it begins."""
        at = self.entries[path]
        self.raw[at + 32 * count:at + 32 * count + 32] = self.raw[at:at + 32]
        self.raw[at:at + 32 * count] = bytes(32 * count)
        self.entries[path] = at + 32 * count
        return at

    def long_name(self, path, text, attributes=0x0F, must_be_zero=0, checksum=0, ordinal=0):
        """Gives the short entry of `path`, which becomes ODDNAM~1, a long name; the numbers are xored into its fields."""
        pieces = [text[at:at + 13] for at in range(0, len(text), 13)]
        at = self.shift(path, len(pieces))
        short = at + 32 * len(pieces)
        extension = self.raw[short + 8:short + 11]
        self.raw[short:short + 11] = b"ODDNAM~1" + extension
        total = 0
        for byte in self.raw[short:short + 11]:
            total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
        for number, piece in enumerate(pieces, 1):
            units = (piece + "\0" if len(piece) < 13 else piece).encode("utf-16-le").ljust(26, b"\xff")
            raw = bytearray(32)
            raw[0] = (number | (0x40 if number == len(pieces) else 0)) ^ ordinal
            raw[11], raw[13] = attributes, total ^ checksum
            raw[1:11], raw[14:26], raw[28:32] = units[:10], units[10:22], units[22:]
            raw[26] ^= must_be_zero
            where = at + 32 * (len(pieces) - number)
            self.raw[where:where + 32] = raw

    def build(self):
        raw = self.raw
        for copy in range(self.fats):
            base = (self.reserved + copy * self.fat_sectors) * self.sector
            end = base + self.fat_sectors * self.sector
            for cluster, value in self.table.items():
                at = base + (cluster * 4 if self.kind == 32 else cluster * 2 if self.kind == 16 else cluster * 3 // 2)
                if at + 4 > end:
                    continue
                if self.kind == 32:
                    struct.pack_into("<I", raw, at, value & 0xFFFFFFFF)
                elif self.kind == 16:
                    struct.pack_into("<H", raw, at, value & 0xFFFF)
                else:
                    old = struct.unpack_from("<H", raw, at)[0]
                    value &= 0xFFF
                    struct.pack_into("<H", raw, at, old & 0xF | value << 4 if cluster & 1 else old & 0xF000 | value)
        return raw


def _fat32_field(fat, offset, form, value, words):
    if fat.kind == 32:
        struct.pack_into(form, fat.raw, offset, value)
        fat.words.append(words)


def _field(offset, form, *values):
    def change(fat, chance):
        value = chance.choice(values)
        struct.pack_into(form, fat.raw, offset, value)
        fat.words.append(f"boot sector: {value:#x} at {offset}")
    return change


def _boot_fields_16(fat, chance):
    if fat.kind == 32:
        offset, form, value = chance.choice(((17, "<H", 512), (40, "<H", 0x80), (40, "<H", 0x0F), (42, "<H", 1), (44, "<I", 0),
                                             (44, "<I", 1), (44, "<I", 0x10000002), (44, "<I", 0x0FFFFFF8), (48, "<H", 0xFFFF),
                                             (36, "<I", 0)))
    else:
        offset, form, value = chance.choice(((17, "<H", 0), (17, "<H", 1), (17, "<H", 16), (17, "<H", 1000), (40, "<H", 0x80)))
    struct.pack_into(form, fat.raw, offset, value)
    fat.words.append(f"boot sector: {value:#x} at {offset}")


def _total(fat, chance):
    if chance.random() < 0.4:
        value = fat.total + chance.choice((1, 64, 4096, 1 << 20))
    else:
        value = chance.choice((1, fat.data_at // fat.sector, fat.data_at // fat.sector + 8, fat.total - 1))
    struct.pack_into("<I", fat.raw, 32, value)
    if value < 65536 and chance.random() < 0.5:
        struct.pack_into("<H", fat.raw, 19, value)
    fat.words.append(f"{value} sectors in all instead of {fat.total}")


def _attribute(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    value = chance.choice((0x00, 0x01, 0x06, 0x08, 0x18, 0x10, 0x30, 0x40, 0x80, 0xC0, 0x0F))
    fat.raw[fat.entries[path] + 11] = value
    fat.words.append(f"{path[-1]} has attributes {value:#x}")


def _lower_case(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    at = fat.entries[path]
    fat.raw[at:at + 11] = bytes(fat.raw[at:at + 11]).lower()
    fat.words.append(f"{path[-1]} in lower case")


def _case_flags(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    fat.raw[fat.entries[path] + 12] = chance.choice((0x08, 0x10, 0x18, 0xFF))
    fat.words.append(f"{path[-1]} with case flags")


def _long_name(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    words, fault = chance.choice((("whole", {}), ("of attributes 0x2f", {"attributes": 0x2F}), ("of attributes 0x4f", {"attributes": 0x4F}),
                                  ("with something where zeros stand", {"must_be_zero": 5}), ("of another checksum", {"checksum": 1}),
                                  ("of another order", {"ordinal": 2}), ("without its last piece", {"ordinal": 0x40})))
    text = path[-1].lower()
    fat.long_name(path, text, **fault)
    fat.words.append(f"{path[-1]} by long name, {words}")


def _before(fat, chance):
    """Something in front of an entry."""
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    words, raw = chance.choice((
        ("the end", bytes(32)), ("an end that is a label", bytes(11) + b"\x08" + bytes(20)),
        ("an end that is a long name", bytes(11) + b"\x0f" + bytes(20)), ("a deleted entry", b"\xe5" + bytes(31)),
        ("another of its name", None), ("a label of its name", Fat.entry(path[-1], 0x08, 0, 0)),
        ("an entry of zeros with a name", Fat.entry("X", 0, 0, 0))))
    at = fat.shift(path, 1)
    fat.raw[at:at + 32] = raw if raw is not None else Fat.entry(path[-1], 0x10 if len(path) < 3 else 0x20, 0, 0)
    fat.words.append(f"{words} in front of {path[-1]}")


def _cluster(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 4)]
    at = fat.entries[path]
    value = chance.choice(("zero", "one", "beyond", "high", "other"))
    if value == "high":
        struct.pack_into("<H", fat.raw, at + 20, chance.choice((0x1000, 1, 0xF000)))
    else:
        number = {"zero": 0, "one": 1, "beyond": fat.clusters + 2 & 0xFFFF, "other": fat.chains[path][0] + 1}[value]
        struct.pack_into("<H", fat.raw, at + 26, number)
    fat.words.append(f"the first cluster of {path[-1]}: {value}")


def _chain(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(0 if fat.kind == 32 else 1, 4)]
    clusters = fat.chains[path]
    at = chance.choice(clusters)
    special = {12: 0xFF0, 16: 0xFFF0, 32: 0x0FFFFFF0}[fat.kind]
    value = chance.choice((0, 1, special, special | 6, special | 7, special | 8, fat.clusters + 1, fat.clusters + 2, 0xF0000000))
    if value == 0xF0000000:
        value |= fat.table[at]
    fat.table[at] = value
    fat.words.append(f"the chain of {path[-1] if path else 'the root'} goes on at {value:#x}")


def _size(fat, chance):
    at = fat.entries[PROGRAM_PATH]
    old = struct.unpack_from("<I", fat.raw, at + 28)[0]
    value = chance.choice((0, 1, old - 1, old + 1, old + 4096, fat.cluster_size * len(fat.chains[PROGRAM_PATH]), 1 << 20))
    struct.pack_into("<I", fat.raw, at + 28, value)
    fat.words.append(f"the program has {value} bytes instead of {old}")


def _directory_size(fat, chance):
    path = PROGRAM_PATH[:chance.randrange(1, 3)]
    struct.pack_into("<I", fat.raw, fat.entries[path] + 28, 1)
    fat.words.append(f"{path[-1]} has a size")


def _partition_in_boot_sector(fat, chance):
    """What looks like a partition table in the file system's own boot sector."""
    struct.pack_into("<B3xB3xII", fat.raw, 446, 0, chance.choice((0x83, 0x0C, 0xEF, 0x05)), chance.choice((0, 1, 100)),
                     chance.choice((1, 50, 1 << 30)))
    fat.words.append("a partition entry in the boot sector")


FAT_FAULTS = (
    _field(0, "<B", 0x00, 0x90, 0x49), _field(11, "<H", 0, 3, 128, 256, 1024, 4096, 8192), _field(13, "<B", 0, 3, 255),
    _field(14, "<H", 0), _field(16, "<B", 0, 1, 3), _field(21, "<B", 0x00, 0x01, 0x02, 0xEF, 0xF0, 0xF1, 0xF7, 0xFF),
    _field(510, "<H", 0, 0x5AA5), _boot_fields_16, _boot_fields_16, _total, _total, _attribute, _attribute, _lower_case,
    _case_flags, _long_name, _long_name, _before, _before, _cluster, _cluster, _chain, _chain, _chain, _size, _directory_size,
    _partition_in_boot_sector)


def make_fat(program, chance, faults):
    kind = chance.choice((12, 16, 16, 32))
    clusters = {12: (200, 4084, 4085), 16: (4084, 4085, 5000, 65524, 65525), 32: (4086, 65524, 65525, 66000)}[kind]
    odd_count = faults and chance.random() < 0.3
    count = chance.choice(clusters) if odd_count else {12: 200, 16: 5000, 32: 66000}[kind]
    spc = chance.choice((1, 2)) if kind != 32 else 1
    sector = chance.choice((512, 512, 512, 1024, 4096)) if kind != 32 else 512
    if chance.random() < 0.05 and faults:
        fat = Fat(program, kind, count, spc, sector, fats=chance.choice((1, 2, 3)), fat_short=chance.choice((0, 1, 5)))
        fat.words.append("its allocation table may be short")
    else:
        fat = Fat(program, kind, count, spc, sector)
    for _ in range(faults - (1 if odd_count else 0)):
        chance.choice(FAT_FAULTS)(fat, chance)
    return fat


def _mbr_entry(disk, number, kind, first, count, boot=0, at=0):
    struct.pack_into("<B3xB3xII", disk, at + 446 + 16 * number, boot, kind, first & 0xFFFFFFFF, count & 0xFFFFFFFF)
    disk[at + 510:at + 512] = b"\x55\xaa"


def bare(fat, chance, faults):
    return fat, ["no partition table"]


def mbr(fat, chance, faults):
    first = 2048
    count = len(fat) // SECTOR
    disk = bytearray(first * SECTOR) + fat + bytearray(256 * SECTOR)
    sectors = len(disk) // SECTOR
    kind, boot, number, words = 0xEF, 0, 0, ["MBR"]
    more = None
    if faults:
        which = chance.choice(("kind", "boot", "number", "beyond", "other-beyond", "overlap", "empty-overlap", "wrap", "short",
                               "no-signature", "protective", "start", "zero"))
        words.append(which)
        if which == "kind":
            kind = chance.choice((0x00, 0x01, 0x05, 0x0C, 0x0F, 0x83, 0x85, 0x42, 0xFF))
            words.append(f"{kind:#x}")
        elif which == "boot":
            boot = chance.choice((0x80, 0x01, 0x7F, 0xFF))
        elif which == "number":
            number = chance.randrange(4)
        elif which == "beyond":
            count = sectors - first + chance.choice((0, 1, 100, 1 << 20))
            words.append(f"ends {first + count - sectors} sectors beyond the disk")
        elif which == "other-beyond":
            more = (0x83, first + count, chance.choice((256, 257, 1 << 24)))
        elif which == "overlap":
            more = (0x83, chance.choice((0, 1, first, first + count - 1)), 64)
        elif which == "empty-overlap":
            more = chance.choice(((0, first, 64), (0x83, first, 0)))
        elif which == "wrap":
            more = (0x83, 0xFFFFFFF0, chance.choice((0x10, 0x11, 0x20)))
        elif which == "short":
            count = chance.choice((1, 8, count // 2))
            words.append(f"{count} sectors")
        elif which == "protective":
            more = (0xEE, chance.choice((1, 2)), 16)
        elif which == "zero":
            more = (0x83, 0, chance.choice((1, 2048)))
    _mbr_entry(disk, number, kind, first, count, boot)
    if more:
        _mbr_entry(disk, (number + 1) % 4, *more)
    if "no-signature" in words:
        disk[510:512] = bytes(2)
    if "start" in words:
        _mbr_entry(disk, number, kind, first + 1, count)
    return disk, words


def extended(fat, chance, faults):
    count = len(fat) // SECTOR
    disk = bytearray((2048 + 64) * SECTOR) + fat + bytearray(256 * SECTOR)
    size = len(disk) // SECTOR - 2048
    kind, inner, first, signature, words = chance.choice((0x05, 0x0F)), 0xEF, 64, True, ["extended partition"]
    if faults:
        which = chance.choice(("kind", "inner", "signature", "beyond", "first", "second", "second-own"))
        words.append(which)
        kind = chance.choice((0x85, 0x83, 0xEF)) if which == "kind" else kind
        inner = chance.choice((0x00, 0x0C, 0x83, 0x05)) if which == "inner" else inner
        first = chance.choice((0, 63)) if which == "first" else first
        signature = which != "signature"
        count += {"beyond": chance.choice((192, 193, 10000))}.get(which, 0)
    _mbr_entry(disk, chance.randrange(4), kind, 2048, size)
    at = 2048 * SECTOR
    if words[-1] in ("second", "second-own"):
        # The first record's own partition is another; a second record holds this one.
        _mbr_entry(disk, 0, 0x83, 8, 4, at=at)
        _mbr_entry(disk, 1, 0x05, 32, size - 32, at=at)
        _mbr_entry(disk, 0, inner, 32, count, at=at + 32 * SECTOR)
        if words[-1] == "second-own":
            disk[at + 32 * SECTOR + 510:at + 32 * SECTOR + 512] = bytes(2)
    else:
        _mbr_entry(disk, 0, inner, first, count, at=at)
    if not signature:
        disk[at + 510:at + 512] = bytes(2)
    return disk, words


class Gpt:
    def __init__(self, fat, usable_first=34):
        self.first = 2048
        self.count = len(fat) // SECTOR
        self.disk = bytearray(self.first * SECTOR) + fat + bytearray(128 * SECTOR)
        self.last = len(self.disk) // SECTOR - 1
        self.header_size, self.entry_size, self.entries = 92, 128, 128
        self.partitions = [(_ESP, self.first, self.first + self.count - 1, 0)]
        self.copies = [{"my": 1, "other": self.last, "table": 2}, {"my": self.last, "other": 1, "table": self.last - 64}]
        self.usable = (usable_first, self.last - 65)
        self.bad = []

    def build(self):
        array = bytearray(self.entry_size * self.entries)
        for number, (kind, first, last, flags) in enumerate(self.partitions):
            if (number + 1) * self.entry_size <= len(array):
                struct.pack_into("<16s16sQQQ", array, number * self.entry_size, kind, bytes([number + 1] * 16), first, last, flags)
        for place, copy in zip((1, self.last), self.copies):
            header = bytearray(SECTOR)
            struct.pack_into("<8sIIIIQQQQ16sQIII", header, 0, b"EFI PART", 0x10000, self.header_size, 0, 0, copy["my"], copy["other"],
                             *self.usable, b"D" * 16, copy["table"], self.entries, self.entry_size, binascii.crc32(array))
            struct.pack_into("<I", header, 16, binascii.crc32(header[:self.header_size]) if self.header_size <= SECTOR else 0)
            self.disk[place * SECTOR:(place + 1) * SECTOR] = header
            self.disk[copy["table"] * SECTOR:copy["table"] * SECTOR + len(array)] = array
        if not any(self.disk[446:510]):
            _mbr_entry(self.disk, 0, 0xEE, 1, self.last)
        return self.disk


def gpt(fat, chance, faults):
    table = Gpt(fat)
    words = ["GPT"]
    after = []
    if faults:
        which = chance.choice(("header-size", "entry-size", "entries", "protective", "no-signature", "primary", "backup", "both",
                               "hybrid", "usable", "overlap", "flags", "beyond", "kind", "order", "my", "cut", "second", "primary-array",
                               "later"))
        words.append(which)
        if which == "header-size":
            table.header_size = chance.choice((0, 16, 24, 91, 93, 512, 513))
            words.append(str(table.header_size))
        elif which == "entry-size":
            table.entry_size, table.entries = chance.choice(((127, 32), (130, 32), (200, 32), (256, 32), (512, 32)))
            words.append(str(table.entry_size))
        elif which == "entries":
            table.entries = chance.choice((0, 1, 4, 200))
            words.append(str(table.entries))
        elif which == "protective":
            kind, first = chance.choice(((0xEE, 0), (0xEE, 2), (0xEF, 1), (0xEE, 1)))
            _mbr_entry(table.disk, chance.randrange(4), kind, first, chance.choice((1, table.last, 0xFFFFFFFF)), boot=chance.choice((0, 0x7F)))
        elif which == "no-signature":
            after.append((510, bytes(2)))
        elif which in ("primary", "both", "hybrid"):
            after.append((SECTOR + chance.choice((0, 20, 40, 72)), b"\xAA"))
            if which != "primary":
                after.append((table.last * SECTOR + 20, b"\xAA"))
            if which == "hybrid":
                _mbr_entry(table.disk, 0, 0xEE, 1, table.first - 1)
                _mbr_entry(table.disk, 1, 0xEF, table.first, table.count)
        elif which == "primary-array":
            after.append((2 * SECTOR + 32, b"\x01"))
        elif which == "backup":
            after.append((table.last * SECTOR + chance.choice((0, 24, 88)), b"\xAA"))
        elif which == "usable":
            table.usable = chance.choice(((table.first + 1, table.last - 65), (34, table.first + table.count - 2), (34, 1 << 40), (0, ~0 & (1 << 64) - 1)))
        elif which == "overlap":
            table.partitions.append(chance.choice(((_LINUX, table.first, table.first, 0), (_LINUX, 34, 2047, 0), (_LINUX, 1, table.first, 0),
                                                   (bytes(16), table.first, table.first, 0))))
            if chance.random() < 0.5:
                table.partitions.reverse()
        elif which == "flags":
            table.partitions[0] = table.partitions[0][:3] + (chance.choice((1, 2, 4, 1 << 63, 1 << 62)),)
            words.append(f"{table.partitions[0][3]:#x}")
        elif which == "beyond":
            table.usable = (34, table.last + (1 << 20))
            table.partitions[0] = (_ESP, table.first, table.last + chance.choice((0, 1, 5000)), 0)
        elif which == "kind":
            table.partitions[0] = (chance.choice((_LINUX, b"x" * 16)),) + table.partitions[0][1:]
        elif which == "order":
            table.partitions[0] = (_ESP, table.first + table.count, table.first, 0)
        elif which == "my":
            table.copies[chance.randrange(2)]["my"] = 7
        elif which == "second":
            table.partitions.insert(0, (_LINUX, 40, 60, 0))
        elif which == "later":
            table.partitions = [(_LINUX, 40, 60, 2), (bytes(16), 0, 0, 0)] + table.partitions
    disk = table.build()
    for at, raw in after:
        disk[at:at + len(raw)] = raw
    if "cut" in words:
        del disk[-chance.choice((1, 65, 120, 1000, 4000)) * SECTOR:]
    return disk, words


def el_torito(fat, chance, faults):
    """A boot catalog of a CD on a disk, as a hybrid image has it."""
    first, sectors = 40, -(-len(fat) // 2048)
    disk = bytearray(first * 2048) + fat + bytearray(-len(fat) % 2048 + 64 * 2048)
    total = len(disk) // 2048
    primary, boot, end = (bytearray(2048) for _ in range(3))
    primary[:7], boot[:7], end[:7] = b"\x01CD001\x01", b"\x00CD001\x01", b"\xffCD001\x01"
    struct.pack_into("<I", primary, 80, total)
    boot[7:30] = b"EL TORITO SPECIFICATION"
    struct.pack_into("<I", boot, 71, 30)
    catalog = bytearray(2048)
    catalog[0], catalog[1], catalog[30:32] = 1, 0xEF, b"\x55\xaa"
    indicator, media, count, at, slot = 0x88, 0, min(sectors * 4, 0xFFFF), first, 1
    words = ["El Torito"]
    which = ""
    if faults:
        which = chance.choice(("indicator", "media", "count", "lba", "slot", "checksum", "no-id", "system", "catalog", "mbr", "order", "end"))
        words.append(which)
        indicator = chance.choice((0x00, 0x90, 0x91)) if which == "indicator" else indicator
        media = chance.choice((1, 2, 3, 4, 5)) if which == "media" else media
        count = chance.choice((0, 1, 2, 16)) if which == "count" else count
        at = chance.choice((0, first + 1, total - 1, total + 100)) if which == "lba" else at
        slot = chance.choice((2, 3, 15, 16)) if which == "slot" else slot
    struct.pack_into("<BBHBBHI", catalog, 32 * slot, indicator, media, 0, 0, 0, count, at)
    struct.pack_into("<H", catalog, 28, -sum(struct.unpack_from("<16H", catalog, 0)) & 0xFFFF)
    if which == "checksum":
        catalog[28] ^= 1
    elif which == "no-id":
        boot[1] = ord("X")
    elif which == "system":
        boot[7] = ord("X")
    elif which == "catalog":
        struct.pack_into("<I", boot, 71, chance.choice((0, total + 5)))
    elif which == "mbr":
        _mbr_entry(disk, 0, 0xEF, 0, 16)
    descriptors = [primary, boot, end]
    if which == "order":
        descriptors = [boot, primary, end]
    elif which == "end":
        descriptors = [end, boot, primary]
    for number, raw in enumerate(descriptors):
        disk[(16 + number) * 2048:(17 + number) * 2048] = raw
    disk[30 * 2048:31 * 2048] = catalog
    return disk, words


LAYOUTS = (bare, bare, mbr, mbr, gpt, gpt, extended, el_torito)


def two_partitions(programs, chance):
    """Two EFI system partitions, with something wrong with the first one or its program."""
    first, second = programs
    words = ["two partitions"]
    wrong = chance.choice(("nothing", "no program", "processor", "subsystem", "empty", "file system", "file system"))
    words.append(wrong)
    pe = struct.unpack_from("<I", first, 60)[0]
    first = bytearray(first)
    if wrong == "no program":
        first[pe:pe + 2] = b"XX"
    elif wrong == "processor":
        struct.pack_into("<H", first, pe + 4, chance.choice((0x14C, 0xAA64)))
    elif wrong == "subsystem":
        struct.pack_into("<H", first, pe + 24 + 68, chance.choice((1, 11, 12, 13)))
    elif wrong == "empty":
        first = bytearray()
    file_system = make_fat(bytes(first), chance, 1 if wrong == "file system" else 0)
    one, two = file_system.build(), Fat(second, 16, 5000).build()
    disk = bytearray(2048 * SECTOR) + one + two + bytearray(64 * SECTOR)
    _mbr_entry(disk, 0, 0xEF, 2048, len(one) // SECTOR)
    _mbr_entry(disk, 1, 0xEF, 2048 + len(one) // SECTOR, len(two) // SECTOR)
    return disk, [*words, *file_system.words]


class OddDisk:
    """programs: the boot program of its first partition, and that of the second where it has two."""

    def __init__(self, seed, programs):
        chance = random.Random(seed)
        self.seed, self.programs = seed, programs
        if chance.random() < 0.1:
            self.content, words = two_partitions(programs, chance)
            self.words = "; ".join(words)
            return
        program = programs[0]
        layout = chance.choice(LAYOUTS)
        faults = chance.choice((1, 1, 1, 2))
        inside = faults if layout is bare else chance.randrange(faults + 1)
        fat = make_fat(program, chance, inside)
        self.content, words = layout(fat.build(), chance, faults - inside)
        self.words = "; ".join([*words, *fat.words])


def write_sparse(path, content):
    piece = 64 << 10
    zeros = bytes(piece)
    with open(path, "wb") as file:
        file.truncate(len(content))
        for at in range(0, len(content), piece):
            part = content[at:at + piece]
            if part != zeros[:len(part)]:
                file.seek(at)
                file.write(part)
    return path
