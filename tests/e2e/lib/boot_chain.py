"""Changes to the probe guest's boot chain, made from the host: on a raw copy of its disk or through a keeper's socket."""

import pathlib
import struct
import tempfile

from .nbd import Nbd
from .probe import REPOSITORY
from .process import Failure, run

_SECTOR, _CHUNK, _BLOCK = 512, 1 << 20, 64 << 10


def change_image(variant, image, key=None):
    """guests/probe/variant on a raw copy. key: (key, certificate), PEM files."""
    run([REPOSITORY / "guests/probe/variant", variant, image, *(key or ())])


class Disk:
    """A VM's first disk over NBD. The guest does not use its EFI system partition once it has started, so that can be
    changed under it; the change shows at the next start."""

    def __init__(self, socket_path, export="disk1"):
        self._socket_path, self._export = socket_path, export
        self._before = None

    def _esp_end(self, link):
        header = link.read(_SECTOR, _SECTOR)
        if header[:8] != b"EFI PART":
            raise Failure("the disk has no GPT")
        entry = link.read(struct.unpack_from("<Q", header, 72)[0] * _SECTOR, _SECTOR)
        return (struct.unpack_from("<Q", entry, 40)[0] + 1) * _SECTOR

    def change(self, *variants, key=None):
        """Applies the variants one after the other, and keeps what was there for restore()."""
        link = Nbd(self._socket_path, self._export)
        try:
            end = self._esp_end(link)
            before = b"".join(link.read(at, min(_CHUNK, end - at)) for at in range(0, end, _CHUNK))
            self._before = self._before or before
            with tempfile.NamedTemporaryFile(prefix="hf-disk-") as copy:
                copy.write(before)
                copy.truncate(link.size)
                copy.flush()
                for variant in variants:
                    change_image(variant, copy.name, key)
                self._write(link, before, pathlib.Path(copy.name).read_bytes()[:end])
        finally:
            link.close()

    def restore(self):
        """The EFI system partition as it was before the first change."""
        if self._before is None:
            return
        link = Nbd(self._socket_path, self._export)
        try:
            end = len(self._before)
            now = b"".join(link.read(at, min(_CHUNK, end - at)) for at in range(0, end, _CHUNK))
            self._write(link, now, self._before)
            self._before = None
        finally:
            link.close()

    @staticmethod
    def _write(link, before, after):
        for at in range(0, len(before), _BLOCK):
            if before[at:at + _BLOCK] != after[at:at + _BLOCK]:
                link.write(at, after[at:at + _BLOCK])
        link.flush()
