"""Two sites whose links were taken over, and what is between their daemons: questions and answers, carried by the test as it likes
(src/peer/link_protocol.h). Streams it carries none."""

import json
import socket
import struct
import threading
import time

from .process import Failure, wait_until

_HEADER = struct.Struct("<BBHIQ")
ASK, ASK_MORE, ANSWER, ANSWER_MORE, CANCEL, OPEN, ACCEPT, REFUSE = range(32, 40)
IDENTITY, CONFIGURED, PEER_STATE, CONFIGURE, PEER, FORGET, PEERS_END, PAIR_DIAL, GIVE_UP = 50, 51, 52, 60, 61, 62, 63, 64, 65
LINKS_BIT = 1 << 63
_PART = 16384 - 16 - 8


def honest(question, carry):
    """What a link does with a question: `carry(question)` brings it there; the answer's bytes and flags."""
    return carry(question)


class Daemon(threading.Thread):
    """One site's holdfastd, as its link sees it. `others`: {site id: Daemon}, filled by Between."""

    def __init__(self, hands, public_key_pem):
        super().__init__(daemon=True)
        self.hands, self.others, self.between = hands, {}, None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(hands.path))
        self._socket.sendall(json.dumps(["carry", json.dumps({"version": 1, "public_key_pem": public_key_pem})]).encode() + b"\n")
        self._lock = threading.Lock()
        self._next = LINKS_BIT
        self._asked, self._waiting = {}, {}
        self.configured = threading.Event()
        self.peers = set()
        self.site = b""
        self.start()

    def send(self, kind, number=0, body=b"", flags=0):
        message = _HEADER.pack(kind, flags, 0, len(body), number) + body
        with self._lock:
            self._socket.sendall(struct.pack("<I", len(message)) + message)

    def ask(self, site, question, limit=20):
        """Its answer to a question of `site`: (flags, bytes)."""
        with self._lock:
            self._next += 1
            number = self._next
        done = self._waiting[number] = {"event": threading.Event(), "flags": 0, "total": None, "bytes": b""}
        head = site + struct.pack("<II", len(question), int(limit * 1000)) + question[:_PART]
        self.send(ASK, number, head)
        for at in range(_PART, len(question), _PART):
            self.send(ASK_MORE, number, question[at:at + _PART])
        if not done["event"].wait(limit + 5):
            raise Failure("holdfastd does not answer")
        return done["flags"], done["bytes"]

    def reach(self, site, state="reachable"):
        self.send(PEER_STATE, 0, json.dumps({"site": site.hex(), "reach": state, "last_seen_us": None, "error": None}).encode())

    def run(self):
        with self._socket.makefile("rb") as messages:
            while len(head := messages.read(4)) == 4:
                message = messages.read(struct.unpack("<I", head)[0])
                kind, flags, _, _, number = _HEADER.unpack_from(message)
                self._on(kind, flags, number, message[_HEADER.size:])

    def _on(self, kind, flags, number, body):
        if kind == CONFIGURE:
            self.site = bytes.fromhex(json.loads(body)["site"])
        elif kind == PEER:
            self.peers.add(bytes.fromhex(json.loads(body)["site"]))
        elif kind == PEERS_END:
            self.send(CONFIGURED)
            self.configured.set()
        elif kind == ASK:
            total, _ = struct.unpack_from("<II", body, 16)
            self._asked[number] = [body[:16], total, body[24:]]
            self._whole(number)
        elif kind == ASK_MORE and number in self._asked:
            self._asked[number][2] += body
            self._whole(number)
        elif kind == ANSWER and number in self._waiting:
            done = self._waiting[number]
            done["flags"] = flags
            if flags:
                done["bytes"] = body
            else:
                done["total"], done["bytes"] = struct.unpack_from("<I", body)[0], body[4:]
            self._done(number)
        elif kind == ANSWER_MORE and number in self._waiting:
            self._waiting[number]["bytes"] += body
            self._done(number)
        elif kind == OPEN:
            error = {"code": "unavailable", "cause": "no stream is carried", "effect": "", "mend": ""}
            self.send(REFUSE, number, json.dumps({"error": error, "detail": {}}).encode())

    def _done(self, number):
        done = self._waiting[number]
        if done["flags"] or len(done["bytes"]) >= done["total"]:
            del self._waiting[number]
            done["event"].set()

    def _whole(self, number):
        site, total, question = self._asked[number]
        if len(question) >= total:
            del self._asked[number]
            threading.Thread(target=self._carry, args=(number, site, question), daemon=True).start()

    def _carry(self, number, site, question):
        other = self.others.get(site)
        if other is None:
            return
        try:
            got = self.between.act(json.loads(question), lambda said: other.ask(self.site, json.dumps(said).encode()))
        except Failure:
            got = None
        if got is None:
            return  # never answered
        flags, answer = got
        if flags:
            return self.send(ANSWER, number, answer, flags)
        self.send(ANSWER, number, struct.pack("<I", len(answer)) + answer[:_PART])
        for at in range(_PART, len(answer), _PART):
            self.send(ANSWER_MORE, number, answer[at:at + _PART])


class Between:
    """Carries between the daemons of two sites. `act(question, carry)` is what the links do with each question: the answer, as
    carry() gives it, or None for silence."""

    def __init__(self, hands, public_key_pem):
        self.act = honest
        self.daemons = [Daemon(one, public_key_pem) for one in hands]
        for daemon in self.daemons:
            if not daemon.configured.wait(30):
                raise Failure(f"{daemon.hands.site.name}: holdfastd does not speak with the program in its link's place")
            daemon.between = self
        first, second = self.daemons
        first.others[second.site], second.others[first.site] = second, first
        first.reach(second.site)
        second.reach(first.site)
        wait_until(lambda: all(peer["state"] == "reachable" for daemon in self.daemons
                               for peer in daemon.hands.site.json("site", "peers")), 10, "the sites take each other for reachable")


def answer_of(got):
    flags, body = got
    return None if flags else json.loads(body)


def with_answer(got, **changes):
    return got[0], json.dumps({**json.loads(got[1]), **changes}).encode()


def held(seconds):
    def act(question, carry):
        got = carry(question)
        time.sleep(seconds)
        return got
    return act
