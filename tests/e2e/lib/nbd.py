"""A small NBD client for tests that must know which write was answered and which flush was done.

Fixed newstyle, simple replies (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md). Requests can be
sent ahead; answers come in any order.
"""

import socket
import struct

from .process import Failure

READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FLAG_FUA = 1
_OPTION_GO = 7


class Nbd:
    def __init__(self, path, export="", timeout=30):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._next = 1
        self._waiting = {}
        if self._read(8) != b"NBDMAGIC" or self._read(8) != b"IHAVEOPT":
            raise Failure("NBD: not a newstyle server")
        self._read(2)
        name = export.encode()
        go = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._socket.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", _OPTION_GO, len(go)) + go)
        self.size = None
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._read(20))
            data = self._read(length)
            if kind == 3 and struct.unpack_from(">H", data)[0] == 0:
                self.size, self.flags = struct.unpack_from(">QH", data, 2)
            elif kind == 1:
                return
            elif kind & 0x80000000:
                raise Failure(f"NBD: export {export!r} refused: {kind:#x} {data!r}")

    def _read(self, size):
        parts = []
        while size:
            data = self._socket.recv(min(size, 1 << 20))
            if not data:
                raise ConnectionError("NBD: the server closed the connection")
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def send(self, command, offset=0, length=0, data=b"", flags=0):
        """Sends one request; its handle."""
        handle, self._next = self._next, self._next + 1
        length = len(data) if command == WRITE else length
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, handle, offset, length) + data)
        self._waiting[handle] = length if command == READ else 0
        return handle

    def receive(self):
        """The next answer: (handle, error, data)."""
        magic, error, handle = struct.unpack(">IIQ", self._read(16))
        if magic != 0x67446698 or handle not in self._waiting:
            raise Failure(f"NBD: an answer that is none: {magic:#x} to {handle}")
        length = self._waiting.pop(handle)
        return handle, error, self._read(length) if error == 0 else b""

    def _call(self, *request, **named):
        handle = self.send(*request, **named)
        answered, error, data = self.receive()
        if answered != handle:
            raise Failure("NBD: another request was answered")
        if error:
            raise OSError(error, "NBD request failed")
        return data

    def read(self, offset, length):
        return self._call(READ, offset, length)

    def write(self, offset, data, flags=0):
        self._call(WRITE, offset, data=data, flags=flags)

    def flush(self):
        self._call(FLUSH)

    def trim(self, offset, length):
        self._call(TRIM, offset, length)

    def write_zeroes(self, offset, length):
        self._call(WRITE_ZEROES, offset, length)

    def close(self):
        try:
            self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        self._socket.close()
