"""A relay between two sites that keeps all that passes: what someone on the wire sees."""

import contextlib
import select
import socket
import threading


class Recorder:
    """Relays TCP connections to `target` (host:port); every byte of both directions goes to the file `path`."""

    def __init__(self, target, path):
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.path = path
        self._file = open(path, "wb", buffering=0)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.bytes_seen = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(here,), daemon=True).start()

    def _relay(self, here):
        with contextlib.suppress(OSError), here, socket.create_connection(self._target) as there:
            other = {here: there, there: here}
            while True:
                for ready in select.select([here, there], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    with self._lock:
                        self._file.write(data)
                        self.bytes_seen += len(data)
                    other[ready].sendall(data)

    def close(self):
        self._listener.close()
