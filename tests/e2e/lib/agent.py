"""A client of Debian's QEMU guest agent on its port's socket: programs run in the guest, files read from it."""

import base64
import json
import secrets
import socket
import time

from .process import Failure

EVENT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
READ_BYTES = 16384


class Agent:
    def __init__(self, path, timeout=30):
        self._end = time.monotonic() + timeout
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._rest = b""
        self._synchronize()

    def _line(self, end):
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                raise Failure("guest agent: no answer in time")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise Failure("guest agent: the port closed")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def _synchronize(self):
        """Asks until this client's own number comes back: what an earlier client left in the port is passed over."""
        while True:
            mine = secrets.randbits(31)
            request = json.dumps({"execute": "guest-sync", "arguments": {"id": mine}})
            self._socket.sendall(request.encode() + b"\n")
            try:
                end = min(self._end, time.monotonic() + 2)
                while json.loads(self._line(end)).get("return") != mine:
                    pass
                return
            except (Failure, ValueError):
                if time.monotonic() > self._end:
                    raise Failure("guest agent: it does not answer") from None

    def call(self, command, timeout=30, **arguments):
        request = {"execute": command, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self._line(time.monotonic() + timeout))
        if "error" in answer:
            raise Failure(f"guest agent: {command}: {answer['error'].get('desc')}")
        return answer["return"]

    def run(self, path, *arguments, timeout=60, check=True):
        """Runs a program in the guest to its end; (status, what it wrote on both outputs)."""
        pid = self.call("guest-exec", path=path, arg=list(arguments), capture_output=True)["pid"]
        end = time.monotonic() + timeout
        while True:
            status = self.call("guest-exec-status", pid=pid)
            if status["exited"]:
                break
            if time.monotonic() > end:
                raise Failure(f"guest agent: {path} still runs after {timeout:g} s")
            time.sleep(0.1)
        text = "".join(base64.b64decode(status.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data"))
        code = status.get("exitcode", -status.get("signal", 0))
        if check and code != 0:
            raise Failure(f"guest: {path} {' '.join(arguments)}: status {code}\n{text}")
        return code, text

    def read(self, path):
        """A file of the guest, whole."""
        handle = self.call("guest-file-open", path=path, mode="r")
        data = b""
        while True:
            part = self.call("guest-file-read", handle=handle, count=READ_BYTES)
            data += base64.b64decode(part["buf-b64"])
            if part["eof"]:
                self.call("guest-file-close", handle=handle)
                return data

    def write(self, path, data):
        """A file in the guest, whole."""
        handle = self.call("guest-file-open", path=path, mode="w")
        for at in range(0, len(data), READ_BYTES):
            part = data[at:at + READ_BYTES]
            if self.call("guest-file-write", handle=handle, **{"buf_b64": base64.b64encode(part).decode()})["count"] != len(part):
                raise Failure(f"guest agent: {path}: a short write")
        self.call("guest-file-close", handle=handle)

    def close(self):
        self._socket.close()
