"""What QEMU is to the vTPM, without QEMU: passes it a data socket, powers it on, and hands commands on.

tpm2-tools reach it by `tcti`: two unix sockets as a swtpm has them, whose clients share the one data socket.
"""

import os
import socket
import struct
import threading

from .process import Failure, run

_SHUTDOWN, _INIT, _STOP, _SET_DATA_FD = 3, 2, 14, 16


def _read(link, size):
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


class TpmMachine:
    def __init__(self, control_path, directory, name="guest"):
        self.tcti = f"{directory}/{name}-tcti"
        self._lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(20)
        self._control.connect(str(control_path))
        self._data, theirs = socket.socketpair()
        self._data.settimeout(60)
        socket.send_fds(self._control, [struct.pack(">I", _SET_DATA_FD)], [theirs.fileno()])
        theirs.close()
        self._answered("data socket")
        self._listeners = []
        for path, serve in ((self.tcti, self._serve_data), (f"{self.tcti}.ctrl", self._serve_control)):
            listener = socket.socket(socket.AF_UNIX)
            if os.path.exists(path):
                os.unlink(path)
            listener.bind(path)
            listener.listen(8)
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()

    def _answered(self, what):
        answer = _read(self._control, 4)
        if answer != bytes(4):
            raise Failure(f"vTPM: {what}: {answer!r}")

    def power_on(self):
        """Also a reset of the machine."""
        with self._control_lock:
            self._control.sendall(struct.pack(">II", _INIT, 0))
            self._answered("power on")

    def power_off(self):
        with self._control_lock:
            self._control.sendall(struct.pack(">I", _STOP))
            self._answered("power off")

    def command(self, raw):
        with self._lock:
            self._data.sendall(raw)
            head = _read(self._data, 10)
            if head is None:
                return None
            return head + _read(self._data, struct.unpack(">I", head[2:6])[0] - 10)

    def _accept(self, listener, serve):
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(link,), daemon=True).start()

    def _serve_data(self, link):
        with link:
            while (head := _read(link, 10)) is not None:
                body = _read(link, struct.unpack(">I", head[2:6])[0] - 10)
                answer = self.command(head + body) if body is not None else None
                if answer is None:
                    return
                link.sendall(answer)

    def _serve_control(self, link):
        with link:
            while request := link.recv(64):
                with self._control_lock:
                    self._control.sendall(request)
                    link.sendall(self._control.recv(64))

    def tool(self, name, *arguments, check=True, timeout=30):
        return run([name, *arguments], timeout=timeout, check=check,
                   env={**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.tcti}"})

    def unplug(self):
        """The machine is gone, as when QEMU dies."""
        for link in (*self._listeners, self._control, self._data):
            link.close()
