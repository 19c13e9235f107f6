"""A small QMP client. Every call has a time limit: QEMU answers nothing while a pflash device waits for its disk."""

import json
import socket
import time

from .process import Failure


class Qmp:
    def __init__(self, path, timeout=10):
        end = time.monotonic() + timeout
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                self._socket.close()
                if time.monotonic() > end:
                    raise Failure(f"QMP {path}: {error}") from None
                time.sleep(0.05)
        self._rest = b""
        self.events = []
        self._message(end)
        self.call("qmp_capabilities", timeout=timeout)

    def _message(self, end):
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                raise Failure("QMP: no answer in time")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise Failure("QMP: no answer in time") from None
            if not data:
                raise Failure("QMP: QEMU closed the connection")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def call(self, command, arguments=None, timeout=10):
        """The command's return value; Failure with QEMU's description of an error."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        end = time.monotonic() + timeout
        while True:
            message = self._message(end)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise Failure(f"QMP {command}: {message['error'].get('desc')}")
            elif "return" in message:
                return message["return"]

    def close(self):
        self._socket.close()
