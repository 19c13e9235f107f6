"""A guest's console: its lines with the time they came, and waiting for one of them."""

import dataclasses
import os
import re
import socket
import threading
import time

from .process import Failure

_ESCAPES = re.compile(rb"\x1b\[[0-9;=?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00\r]")


@dataclasses.dataclass(frozen=True)
class Line:
    at: float  # time.monotonic() when its last byte came
    text: str


class Console:
    """Reads a file descriptor or a unix stream socket to its end in a thread of its own."""

    def __init__(self, fd, log=None, own=None):
        self.lines = []
        self.ended = False
        self._own = own  # keeps the object that owns the descriptor alive
        self._log = open(log, "a", encoding="utf-8") if log else None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(fd,), daemon=True)
        self._thread.start()

    @classmethod
    def of_socket(cls, path, log=None, timeout=10):
        end = time.monotonic() + timeout
        while True:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(path))
                return cls(link.fileno(), log, own=link)
            except OSError as error:
                link.close()
                if time.monotonic() > end:
                    raise Failure(f"console {path}: {error}") from None
                time.sleep(0.05)

    def _read(self, fd):
        rest = b""
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            at = time.monotonic()
            *whole, rest = (rest + data).split(b"\n")
            if not data and rest:
                whole.append(rest)
            with self._changed:
                for raw in whole:
                    text = _ESCAPES.sub(b"", raw).decode("utf-8", "replace")
                    self.lines.append(Line(at, text))
                    if self._log:
                        self._log.write(f"{at:.3f} {text}\n")
                self.ended = not data
                self._changed.notify_all()
            if self._log:
                self._log.flush()
            if not data:
                return

    def find(self, pattern, start=0):
        """(index, line, match) of the first line from index `start` on that has the pattern, or None."""
        expression = re.compile(pattern)
        for index in range(start, len(self.lines)):
            match = expression.search(self.lines[index].text)
            if match:
                return index, self.lines[index], match
        return None

    def wait_for(self, pattern, timeout, start=0, unless=r"^HF (REFUSED|FAILED)|Kernel panic"):
        """Like find, waiting. Failure when the console ends, the time is over or a line matches `unless` first."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self.find(pattern, start)
                bad = unless and self.find(unless, start)
                if found and (not bad or found[0] <= bad[0]):
                    return found
                if bad:
                    raise Failure(f"waiting for /{pattern}/ the guest said: {bad[1].text}\n{self.tail()}")
                if self.ended:
                    raise Failure(f"the console ended before /{pattern}/:\n{self.tail()}")
                left = end - time.monotonic()
                if left <= 0:
                    raise Failure(f"no /{pattern}/ on the console within {timeout:g} s:\n{self.tail()}")
                self._changed.wait(left)

    def wait_for_end(self, timeout):
        self._thread.join(timeout)
        if not self.ended:
            raise Failure(f"the console still runs after {timeout:g} s:\n{self.tail()}")

    def tail(self, count=20):
        return "\n".join(f"  | {line.text}" for line in self.lines[-count:])
