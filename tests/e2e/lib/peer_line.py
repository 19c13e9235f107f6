"""The connection between two sites' links, spoken by hand (docs/formats/peer.md, src/peer/frame.h): what a site that was paired
and has its own certificate can say, in order or not."""

import json
import queue
import select
import socket
import ssl
import struct
import threading
import time

from .process import Failure

(HELLO, PING, PONG, GOODBYE, OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, RESET, ASK, ASK_MORE, ANSWER, ANSWER_MORE,
 CANCEL, PAIR, CLOCK) = range(1, 19)
VERSION = 2  # of what links say to each other
_HEADER = struct.Struct("<BBHIQ")
BODY_MAX = 16384 - _HEADER.size
ERROR_FLAG = 1


def frame(kind, number=0, body=b"", flags=0, length=None):
    return _HEADER.pack(kind, flags, 0, len(body) if length is None else length, number) + body


def hello(version=VERSION):
    return frame(HELLO, body=struct.pack("<II", version, 0))


class Refused(Exception):
    """An error that the other site answered with: {"code","cause","effect","mend"}."""

    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('cause')}")
        self.error = error


class Gone(Exception):
    """The connection ended; the text says why, if the other side did."""


def connect(address, certificate, protocol="holdfast-sites/1", limit=10):
    """A TLS connection with that certificate; nothing is said yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate)
    context.set_alpn_protocols([protocol])
    host, _, port = address.rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), limit))


class PeerLine(threading.Thread):
    """One connection that this side dialled. `serve(question)` answers what the other site asks: a dict, or None for silence."""

    def __init__(self, address, certificate, serve=lambda question: None):
        super().__init__(daemon=True)
        self._socket = connect(address, certificate)
        self._socket.setblocking(False)
        self._serve = serve
        self._out, self._wake = bytearray(), socket.socketpair()
        for end in self._wake:
            end.setblocking(False)
        self._lock = threading.Lock()
        self._waiting = {}  # our questions: id → queue
        self._asked = {}    # theirs: id → [total, bytes]
        self._next = 1
        self.frames = queue.Queue(100_000)  # what is neither a question nor an answer
        self.questions = []  # theirs, as they came
        self.why = None
        self._ended = False
        self.send(hello() + frame(CLOCK, body=struct.pack("<Q", int(time.time() * 1e6))))
        self.start()

    # -- what is said

    def send(self, data):
        """Any bytes."""
        with self._lock:
            self._out += data
        with _no_blocking():
            self._wake[0].send(b"x")  # one is enough

    def drain(self, limit=30):
        """Until all is sent."""
        end = time.monotonic() + limit
        while self._out and self.alive():
            if time.monotonic() > end:
                raise Failure("what is sent is not taken")
            time.sleep(0.001)

    def new_id(self):
        with self._lock:
            self._next += 2
            return self._next

    def begin(self, question, limit_ms=5000):
        """Asks; the queue that gets the answer: (flags, bytes), or Gone."""
        data = question if isinstance(question, bytes) else json.dumps(question).encode()
        number, answers = self.new_id(), queue.Queue()
        self._waiting[number] = answers
        room = BODY_MAX - 8
        parts = [data[:room], *(data[at:at + BODY_MAX] for at in range(room, len(data), BODY_MAX))]
        self.send(frame(ASK, number, struct.pack("<II", len(data), limit_ms) + parts[0]) +
                  b"".join(frame(ASK_MORE, number, part) for part in parts[1:]))
        if not self.alive():
            answers.put(Gone(self.why))
        return answers

    def ask(self, question, limit=15):
        """The answer, as an object. Refused, Gone."""
        try:
            got = self.begin(question, int(limit * 1000)).get(timeout=limit + 5)
        except queue.Empty:
            raise Failure(f"no answer to {str(question)[:200]}") from None
        if isinstance(got, Gone):
            raise got
        flags, body = got
        answered = json.loads(body)
        if flags & ERROR_FLAG:
            raise Refused(answered.get("error", answered))
        return answered

    def alive(self):
        return not self._ended

    def wait_gone(self, limit=10):
        """Until the other side has ended it; what it said."""
        self.join(limit)
        if self.is_alive():
            raise Failure("the connection stays")
        return self.why or ""

    def close(self):
        self._ended = True
        with _no_blocking():
            self._wake[0].send(b"x")
        self.join(5)

    # -- its thread

    def run(self):
        data = b""
        try:
            while not self._ended:
                data = self._take(data + self._read())
                self._write()
                if not self._socket.pending():
                    writers = [self._socket] if self._out else []
                    select.select([self._socket, self._wake[1]], writers, [], 1)
                    with _no_blocking():
                        self._wake[1].recv(65536)
        except (OSError, Gone) as error:
            self.why = self.why or str(error)
        self._ended = True
        self._socket.close()
        for answers in list(self._waiting.values()):
            answers.put(Gone(self.why))

    def _read(self):
        got = b""
        try:
            while len(got) < 1 << 20:
                more = self._socket.recv(65536)
                if not more:
                    raise Gone(self.why or "closed")
                got += more
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return got

    def _write(self):
        for _ in range(64):
            with self._lock:
                part = bytes(self._out[:16384])
            if not part:
                return
            try:
                sent = self._socket.send(part)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            with self._lock:
                del self._out[:sent]

    def _take(self, data):
        while len(data) >= _HEADER.size:
            kind, flags, _, length, number = _HEADER.unpack_from(data)
            if len(data) < _HEADER.size + length:
                break
            self._on_frame(kind, flags, number, data[_HEADER.size:_HEADER.size + length])
            data = data[_HEADER.size + length:]
        return data

    def _on_frame(self, kind, flags, number, body):
        if kind == PING:
            self.send(frame(PONG, body=body))
        elif kind == GOODBYE:
            self.why = json.loads(body)["error"]["cause"] if body else "goodbye"
        elif kind == ASK:
            total, _ = struct.unpack_from("<II", body)
            self._asked[number] = [total, body[8:]]
            self._asked_whole(number)
        elif kind == ASK_MORE and number in self._asked:
            self._asked[number][1] += body
            self._asked_whole(number)
        elif kind == ANSWER and number in self._waiting:
            if flags & ERROR_FLAG:
                return self._waiting.pop(number).put((flags, body))
            self._asked[-number] = [struct.unpack_from("<I", body)[0], body[4:]]
            self._answered_whole(number)
        elif kind == ANSWER_MORE and number in self._waiting:
            self._asked[-number][1] += body
            self._answered_whole(number)
        else:
            with _no_blocking():
                self.frames.put_nowait((kind, flags, number, body))

    def _answered_whole(self, number):
        total, got = self._asked[-number]
        if len(got) >= total:
            del self._asked[-number]
            self._waiting.pop(number).put((0, got))

    def _asked_whole(self, number):
        total, got = self._asked[number]
        if len(got) < total:
            return
        del self._asked[number]
        said = json.loads(got)
        self.questions.append(said)
        answered = self._serve(said)
        if answered is None:
            return
        data = json.dumps(answered).encode()
        room = BODY_MAX - 4
        self.send(frame(ANSWER, number, struct.pack("<I", len(data)) + data[:room]) + b"".join(
            frame(ANSWER_MORE, number, data[at:at + BODY_MAX]) for at in range(room, len(data), BODY_MAX)))


class _no_blocking:
    """What would wait, or finds no room, is left."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        return kind in (BlockingIOError, queue.Full)
