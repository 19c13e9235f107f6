#!/usr/bin/env python3
# timeout: 400
# needs: qemu disk-time
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""A link that was taken over has what the network has, and no more.

The process: a program of the attacker's in holdfast-link's place, started by the launcher as the link's user with the link's
descriptors, and without the filters that the real one puts on itself. It reaches no vault, no keeper, no file, no process.

The questions: the taken-over links of both sites carry what the daemons ask each other as they like. They hold answers, replay
old ones, keep statements back, double and turn round what passes, and ask in a paired site's name. No copy starts on any of it;
nothing stands still that would run where the links are merely cut; and all goes on once they carry again.

The bytes: somebody else carries between two keepers, who can compute whatever needs no key. He alters, reflects and replays;
then home dies, and the replica has every write that home believed was there.
"""

import atexit
import json
import os
import pathlib
import random
import shutil
import socket
import stat
import struct
import tempfile
import threading
import time

from lib import nbd, turned
from lib.carried import Between, held, honest, with_answer
from lib.keeper import Keeper
from lib.meddler import ACK, ANSWER, BEGIN, HOME, RECORDS, REPLICA, Meddler, frame, records_of, rewritten
from lib.process import Failure, Processes, run, wait_until
from lib.probe import REPOSITORY
from lib.report import check, main, step
from lib.ship import Replica, promote, two_vaults, wait_level
from lib.site import CliError, Site, bin_dir, pair, wait_protected

FETCH_KEY = 0x0201
DISK = 64 << 20
BLOCK = 1 << 16


# -- The process

class Hands:
    """The program in the link's place at a site."""

    def __init__(self, site, place):
        self.site = site
        self.path = place / f"{site.uid_base + 2}.sock"

    def try_all(self, attempts):
        """What became of each."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.path))
            with line.makefile("rw", encoding="ascii") as lines:
                lines.write(json.dumps([[str(word) if isinstance(word, os.PathLike) else word for word in one]
                                        for one in attempts]) + "\n")
                lines.flush()
                return json.loads(lines.readline())

    def could(self, attempts):
        """Those that were not refused."""
        return [one for one, result in zip(attempts, self.try_all(attempts), strict=True)
                if result not in ("EACCES", "EPERM")]


def take_over(sites, programs, place):
    """The program is exchanged, and the link that runs killed: what the launcher starts again is the attacker's."""
    text = (REPOSITORY / "tests/e2e/lib/link_hands.py").read_text(encoding="ascii").replace("@HANDS@", str(place))
    new = programs / "new"
    new.write_text(text, encoding="ascii")
    new.chmod(0o755)
    os.replace(new, programs / "holdfast-link")
    hands = []
    for site in sites:
        (pid,) = site.pids_of("holdfast-link")
        os.kill(pid, 9)
        hands.append(Hands(site, place))
        wait_until(hands[-1].path.exists, 20, f"{site.name}: the program in the link's place")
    return hands


def what_it_was_given(hands):
    (own,) = hands.try_all([["own"]])
    uid = hands.site.uid_base + 2
    check(set(own["uid"]) == set(own["gid"]) == {uid} and set(own["groups"]) <= {uid}, "it is the link's user alone")
    check(own["capabilities"] == 0 and own["no_new_privileges"], "it has no capability and gains none")
    sockets = [number for number, kind in own["descriptors"].items() if kind == "socket"]
    check(own["names"] == "link:peers" and {"3", "4"} <= set(sockets) and
          len(sockets) == 4, "it has the link's two listeners (and the test's two sockets)")
    others = set(own["descriptors"].values()) - {"socket", "pipe", "/dev/null", "/proc/" + str(hands.site.pids_of('holdfast-link')[0]) + "/fd"}
    check(not others, f"and no other descriptor {others or ''}")


def files(hands):
    state = hands.site.state
    inside = [state]
    for place, directories, names in os.walk(state):
        inside += [type(state)(place) / name for name in directories + names]
    attempts, sockets = [], []
    for path in inside:
        kind = path.lstat().st_mode
        if stat.S_ISSOCK(kind):
            sockets.append(path)
            attempts += [["rename", path], ["mode", path]]
        elif stat.S_ISDIR(kind):
            attempts += [["enter", path], ["create", path / "hands"], ["mode", path]]
        else:
            attempts += [["read", path], ["write", path], ["rename", path], ["mode", path]]
    # The site's name and address, and where it lies: no secrets.
    allowed = [["enter", state], ["read", state / "site.json"]]
    could = [" ".join(map(str, one)) for one in hands.could(attempts) if one not in allowed]
    check(not could, f"{hands.site.name}: {len(attempts)} attempts at {len(inside)} files and directories: {could or 'none'} "
          "but site.json, to read")
    return sockets


def sockets(hands, paths):
    names = sorted(str(path.relative_to(hands.site.state)) for path in paths)
    needed = {"run/api.sock", "run/link.sock", "run/vault-admin.sock", "run/vault-keys.sock", "run/vault-launcher.sock",
              "run/vault-operators.sock"}
    check(needed <= set(names), f"{hands.site.name} has the sockets {' '.join(names)}")
    keys = hands.site.state / "run/vault-keys.sock"
    could = [str(one[1].relative_to(hands.site.state)) for one in hands.could([["connect", path] for path in paths])]
    # Anyone may connect there; the vault looks at who does.
    check(could == ["run/vault-keys.sock"], f"{hands.site.name}: of them it reaches {' '.join(could)}")
    words = struct.pack("<4sHHII", b"HFVP", 1, FETCH_KEY, 1, 16) + bytes.fromhex(hands.site.vm_id("web"))
    (answer,) = hands.try_all([["say", keys, words.hex()]])
    check(answer in ("", "ECONNRESET", "EPIPE"), f"{hands.site.name}: and the vault has no word for it")


def processes_of(hands):
    pids = {pid: name for pid, name in hands.site.pids().items() if not name.startswith("holdfast-link")}
    check(len(pids) >= 3, f"{hands.site.name} has {' '.join(sorted(pids.values()))}")
    attempts = []
    for pid in [*pids, os.getpid()]:
        attempts += [["trace", pid], ["memory", pid], ["descriptors", pid], ["signal", pid], ["take_descriptor", pid, 3]]
    base = hands.site.uid_base
    attempts += [["become", uid] for uid in (0, base, base + 1, base + 16, base + 17)]
    could = hands.could(attempts)
    check(not could, f"{hands.site.name}: {len(attempts)} attempts at processes and users: {could or 'none'}")


def invents(hands, directory):
    """It speaks with holdfastd, which is what it is for; what it says of sites that are no peers is refused."""
    key = directory / "key.pem"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
    public = run(["openssl", "pkey", "-in", key, "-pubout"]).stdout
    site, vm = bytes(range(16)), bytes.fromhex(hands.site.vm_id("web"))
    messages = []
    for number, question in enumerate([{"op": "stop", "vm": vm.hex(), "epoch": 1000}, {"op": "epoch", "vm": vm.hex(), "epoch": 1000},
                                       {"op": "withdraw", "vm": vm.hex(), "title": "", "head": "00" * 32}], 1):
        text = json.dumps(question).encode()
        messages.append([32, 1 << 63 | number, (site + struct.pack("<II", len(text), 5000) + text).hex()])
    messages.append([37, 1 << 63 | 9, (site + vm).hex()])
    before = hands.site.json("vm", "show", "web")
    (heard,) = hands.try_all([["speak", json.dumps({"version": 1, "public_key_pem": public}), messages]])
    if not isinstance(heard, list):
        raise Failure(f"holdfastd does not speak with it: {heard}")
    answers = [flags for kind, flags, _ in heard if kind == 34]
    check(len(answers) == 3 and all(flags & 1 for flags in answers), "what it invents of a site that is no peer is refused")
    check(39 in [kind for kind, _, _ in heard] and 38 not in [kind for kind, _, _ in heard], "and a stream of that site")
    after = hands.site.json("vm", "show", "web")
    check((before["role"], before["epoch"]) == (after["role"], after["epoch"]), "and the VM is as it was")


def real_programs():
    """Those that are tested, of which each part of this test has a copy."""
    if not REAL:
        REAL.append(directory_of_programs := pathlib.Path(tempfile.mkdtemp(prefix="hf-real-")))
        atexit.register(shutil.rmtree, directory_of_programs, ignore_errors=True)
        for program in bin_dir().glob("holdfast*"):
            shutil.copy(program, directory_of_programs)
    return REAL[0]


REAL = []


def the_process(directory):
    if os.geteuid() != 0:
        step("skipped: only root can give a site users of its own")
        return
    directory.chmod(0o711)
    programs, place = directory / "bin", directory / "hands"
    shutil.copytree(real_programs(), programs)
    programs.chmod(0o755)
    place.mkdir()
    place.chmod(0o777)
    os.environ["HOLDFAST_BIN"] = str(programs)
    bin_dir.cache_clear()
    if bin_dir() != programs:
        programs = bin_dir()
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 430000), Site(processes, directory, "south", 480000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            north.cli("protection", "enable", "web", "--to", "south")
            real = (programs / "holdfast-link").read_bytes()
            for hands in take_over((north, south), programs, place):
                what_it_was_given(hands)
                paths = files(hands)
                if hands.site is south:
                    check({"control.sock", "ship.sock"} <= {path.name for path in paths}, "south has the replica's keeper")
                sockets(hands, paths)
                processes_of(hands)
                invents(hands, directory)
            north.cli("vm", "create", "mail", "--blank", "16M", "--memory", "256M")
            step("ok: beside it the site works")
            put_back(real, programs, (north, south))
        finally:
            north.end()
            south.end()


def put_back(real, programs, sites):
    (programs / "new").write_bytes(real)
    (programs / "new").chmod(0o755)
    os.replace(programs / "new", programs / "holdfast-link")
    for site in sites:
        os.kill(site.pids_of("holdfast-link")[0], 9)
    for site in sites:
        wait_until(lambda site=site: all(peer["state"] == "reachable" for peer in site.json("site", "peers")), 30,
                   f"{site.name}: the real link connects again")
    step("ok: the real one put back, the sites reach each other")


# -- The questions

def states(north, south):
    shown = [site.json("vm", "show", "web") for site in (north, south)]
    return tuple(one["state"] for one in shown), [one["qemu_pid"] for one in shown]


def stops(north):
    north.cli("vm", "stop", "web", "--force")
    north.wait_idle("web")


def not_started(north, between, act, what, says):
    """With the links doing so, north's stopped VM does not start: its vault has no answer that counts."""
    between.act = act
    try:
        north.cli("vm", "start", "web", timeout=60)
    except CliError as error:
        between.act = honest
        parts = error.parts()
        check(any(one in parts["cause"] for one in says) and parts["mend"], f"{what}: web does not start: {parts['cause']}")
        check(not any(site.json("vm", "show", "web")["qemu_pid"] for site in (north,)), "and no copy of it runs")
        north.wait_idle("web")
        return
    raise Failure(f"{what}: web was started")


class Recorder:
    """Carries, and keeps the answers about titles."""

    def __init__(self):
        self.answers = []

    def __call__(self, question, carry):
        got = carry(question)
        if question["op"] == "title" and not got[0]:
            self.answers.append(got)
        return got

    def replays(self, question, carry):
        return self.answers[0] if question["op"] == "title" else carry(question)


def twice(question, carry):
    carry(question)
    return carry(question)


class TurnedRound:
    """Of two questions that come within a moment, the second goes first."""

    def __init__(self):
        self._lock = threading.Lock()
        self._last = 0
        self.turned = 0

    def __call__(self, question, carry):
        with self._lock:
            self._last += 1
            mine = self._last
        time.sleep(0.3 if mine % 2 else 0)
        self.turned += mine % 2
        return carry(question)


def keeps_statements_back(question, carry):
    if question["op"] != "title":
        return carry(question)
    got = carry({**question, "bundle": ""})
    return got if got[0] else with_answer(got, bundle="")


def says_other_heads(question, carry):
    """As if the other site knew what nobody does."""
    got = carry(question)
    return got if question["op"] != "title" or got[0] else with_answer(got, known=["ab" * 32])


SILENT = ["does not answer", "has not answered", "did not come to know", "was not heard"]


def the_questions(directory):
    if os.geteuid() != 0:
        return step("skipped: only root can give a site users of its own")
    directory.chmod(0o711)
    programs, place = directory / "bin", directory / "hands"
    shutil.copytree(real_programs(), programs)
    programs.chmod(0o755)
    place.mkdir()
    place.chmod(0o777)
    os.environ["HOLDFAST_BIN"] = str(programs)
    bin_dir.cache_clear()
    programs = bin_dir()
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 430000), Site(processes, directory, "south", 480000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.vm_create("web", [], "--blank", "16M", "--memory", "256M")
            north.cli("protection", "enable", "web", "--to", "south")
            north.cli("vm", "start", "web")
            wait_protected(north, "web")
            stops(north)
            wait_until(lambda: north.json("protection", "show", "web").get("caught_up"), 20, "south has all of it")
            real = (programs / "holdfast-link").read_bytes()
            key = directory / "key.pem"
            run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
            hands = take_over((north, south), programs, place)
            between = Between(hands, run(["openssl", "pkey", "-in", key, "-pubout"]).stdout)
            starts_and_answers(north, south, between)
            invented_orders(north, south, between)
            put_back(real, programs, (north, south))
            north.cli("vm", "stop", "web", "--force")
            south.cli("failover", "unplanned", "web", "--yes", timeout=90)
            check(states(north, south)[0][1] == "running", "with the real links web is handed over, as ever")
        finally:
            north.end()
            south.end()


def starts_and_answers(north, south, between):
    recorder = Recorder()
    between.act = recorder
    north.cli("vm", "start", "web", timeout=60)
    check(len(recorder.answers) > 0, f"carried by other hands, web starts when south has answered ({len(recorder.answers)} answers)")
    stops(north)
    not_started(north, between, recorder.replays, "with an answer of before", SILENT)
    not_started(north, between, held(4), "with answers held for 4 s", SILENT)
    not_started(north, between, lambda question, carry: None, "with no answer at all (a cut link does the same)", SILENT)
    not_started(north, between, says_other_heads, "with a head that nobody knows", SILENT)
    kept = []

    def keeps(question, carry):
        kept.append(carry(question))

    not_started(north, between, keeps, "with answers that are kept", SILENT)
    not_started(north, between, lambda question, carry: kept[-1], "with those, the next time", SILENT)
    for act, what in ((twice, "every question twice"), (TurnedRound(), "every other one late"), (keeps_statements_back, "no statements")):
        between.act = act
        north.cli("vm", "start", "web", timeout=60)
        between.act = honest
        check(states(north, south)[0][0] == "running", f"with {what}, web starts: both know the same head")
        stops(north)
    between.act = honest
    north.cli("vm", "start", "web", timeout=60)


def invented_orders(north, south, between):
    """The daemon believes that south asks; its vault does not."""
    at_north, at_south = between.daemons
    vm = north.vm_id("web")
    title = north.cli("vm", "title", "web").stdout
    for what, question, says in (
            ("a hand-over while nothing is shipped", {"op": "hand_over", "vm": vm}, ["not all of the VM reached"]),
            ("a withdrawal by the standby", {"op": "withdraw", "vm": vm, "title": "", "head": "00" * 32}, ["runs it", "has taken", "is here"]),
            ("an epoch from the future", {"op": "epoch", "vm": vm, "epoch": 1 << 60}, ["primary"])):
        flags, answer = at_north.ask(at_south.site, json.dumps(question).encode(), 60)
        check(any(one in answer.decode() for one in says), f"{what}, in south's name: {answer.decode()[:200]}")
    wait_until(lambda: states(north, south)[0][0] == "running", 30, "web runs at north again, by itself")
    check(north.cli("vm", "title", "web").stdout == title and states(north, south)[0][1] != "running",
          "nothing was signed, and no copy runs at south")
    withdrawal = {"op": "withdraw", "vm": vm, "title": turned.bundle([]).hex(), "head": "00" * 32}
    flags, answer = at_south.ask(at_north.site, json.dumps(withdrawal).encode(), 60)
    check("has gone on since" in answer.decode(), f"a withdrawal of another head, in north's name: {answer.decode()[:200]}")
    check(north.cli("vm", "title", "web").stdout == title and south.json("replica", "list"), "south stands by as before")
    # South's vault has to sign that it has everything: a link that answers in its place has nothing to show.
    between.act = lambda question, carry: None
    flags, answer = at_north.ask(at_south.site, json.dumps({"op": "hand_over", "vm": vm}).encode(), 60)
    between.act = honest
    check("did not answer" in answer.decode(), f"while south's vault says nothing: {answer.decode()[:160]}")
    check(states(north, south)[0][0] == "running", "and web has not been stopped for it")


# -- The bytes

class Belief(threading.Thread):
    """Watches what home believes that its replica has. It must be there at the very moment."""

    def __init__(self, home, replica):
        super().__init__(daemon=True)
        self._home, self._replica = home, replica
        self._ended = threading.Event()
        self.newest = 0
        self.wrong = None
        self.looks = 0
        self.start()

    def run(self):
        while not self._ended.wait(0.005):
            try:
                acknowledged = self._home.control("status")["shipping"].get("acknowledged")
                there = self._replica.status()["durable"]["sequence"]  # asked later: it only grows
            except (OSError, Failure, ValueError, KeyError):
                continue
            self.looks += 1
            if acknowledged:
                self.newest = max(self.newest, acknowledged["sequence"])
                if acknowledged["sequence"] > there:
                    self.wrong = f"home believes in {acknowledged['sequence']}, the replica has {there}"

    def end(self):
        self._ended.set()
        self.join(10)
        if self.wrong:
            raise Failure(self.wrong)
        return self.newest


def believed(home):
    return home.control("status")["shipping"].get("acknowledged", {"sequence": 0})["sequence"]


class Writer:
    """Each write goes to a block of its own; what it was, and the journal's durable end after its flush."""

    def __init__(self, home):
        self.home = home
        self.chance = random.Random(77)
        self.written = []  # (offset, bytes, sequence)

    def write(self, count):
        disk = nbd.Nbd(self.home.socket_path("disk1"))
        for _ in range(count):
            offset, data = len(self.written) * BLOCK, self.chance.randbytes(BLOCK)
            disk.write(offset, data)
            disk.flush()
            self.written.append((offset, data, self.home.control("status")["durable"]))
        disk.close()


def rewrites(side, kind, vm, body):
    if side != HOME or kind != RECORDS:
        return None
    other = rewritten(body)
    return None if other is None else [(REPLICA, frame(RECORDS, vm, other))]


def reflects(side, kind, vm, body):
    """The batch is swallowed; home gets an acknowledgement of its end with the batch's own MAC."""
    if side != HOME or kind != RECORDS:
        return None
    return [(HOME, frame(ACK, vm, records_of(body)[-1].end() + body[16:48]))]


def forges(side, kind, vm, body):
    """A true acknowledgement names a position that is further on."""
    if side != REPLICA or kind != ACK:
        return None
    further = struct.pack("<Q", struct.unpack_from("<Q", body, 32)[0] + 1000)
    return [(HOME, frame(ACK, vm, body[:32] + further + body[40:]))]


class Replays:
    """Swallows the batches; home gets the acknowledgements of an earlier session, or its whole beginning."""

    def __init__(self, heard, whole):
        self.old = {kind: [one for side, what, one in heard if side == REPLICA and what == kind] for kind in (ANSWER, BEGIN, ACK)}
        self.whole = whole

    def __call__(self, side, kind, vm, body):
        if side == HOME and kind == RECORDS:
            return [(HOME, one) for one in self.old[ACK][-3:]]
        if self.whole and side == REPLICA and kind in (ANSWER, BEGIN):
            return [(HOME, self.old[kind][-1])]
        return None


def meddles(home, replica, writer, relay, act, name):
    """While he acts nothing gets through that is not true; when he has gone it goes on."""
    belief = Belief(home, replica)
    before = replica.status()["durable"]["sequence"]
    done = relay.meddled
    relay.meddle = act
    writer.write(5)
    wait_until(lambda: relay.meddled >= done + 2, 30, f"{name}: twice")
    time.sleep(0.5)
    error = home.control("status")["shipping"].get("error")
    there = replica.status()["durable"]["sequence"]
    relay.meddle = None
    wait_level(home, replica, 40)
    belief.end()
    check(belief.looks > 10, f"{name} ({relay.meddled - done} times, from {before} to {there}): home never believed what is not there; then: "
          f"{error['cause'] if error else 'no error'}")
    return before, there


def the_bytes(directory):
    with Processes(directory) as processes:
        (vault, site), away = two_vaults(processes, directory)
        home = Keeper(processes, directory, vault, site, {"disk1": DISK}, vtpm=False, peer_site=away[1])
        home.create()
        vault.give_key(home.vm, away[0])
        home.start()
        home.wait_serving()
        public_key = home.control("status")["journal_public_key"]
        first = Replica(processes, directory / "first", home, *away, public_key)
        first.start()
        relay = Meddler(home, first)
        writer = Writer(home)
        writer.write(10)
        wait_level(home, first)
        before, there = meddles(home, first, writer, relay, rewrites, "the tail's records rewritten, chained and summed anew")
        check(there == before, "not one of his records was taken")
        before, there = meddles(home, first, writer, relay, reflects, "a batch's MAC reflected as its acknowledgement")
        check(there == before, "what he swallowed is not there")
        meddles(home, first, writer, relay, forges, "an acknowledgement of more than was acknowledged")
        old = list(relay.heard)
        relay.cut()
        first.stop()
        # The replica's disk is lost; another takes its place.
        second = Replica(processes, directory / "second", home, *away, public_key)
        second.start()
        for whole in (False, True):
            relay = Meddler(home, second, Replays(old, whole))
            # What the lost one acknowledged counts until home hears of this one.
            wait_until(lambda: believed(home) <= second.status()["durable"]["sequence"], 20, "home hears of the new replica")
            what = "the beginning of a session with a replica that was since replaced" if whole else "its acknowledgements"
            meddles(home, second, writer, relay, relay.meddle, f"replayed: {what}")
            relay.cut()
        home_dies(processes, directory, home, second, away, writer, old)


def home_dies(processes, directory, home, replica, away, writer, old):
    """Under load, with all of it at once."""
    chance = random.Random(78)
    acts = [rewrites, reflects, forges, Replays(old, False)]

    def all_at_once(side, kind, vm, body):
        return chance.choice(acts)(side, kind, vm, body) if chance.random() < 0.1 else None

    relay = Meddler(home, replica, all_at_once)
    belief = Belief(home, replica)
    writer.write(300)
    home.process.kill()
    believed = belief.end()
    relay.cut()
    check(relay.meddled > 0, f"he meddled {relay.meddled} times in {relay.streams} streams")
    durable = replica.status()["durable"]["sequence"]
    check(0 < believed <= durable, f"home died believing in {believed}; the replica has {durable}")
    replica.stop()
    promoted = promote(processes, directory / "promoted", replica, away[1], 2, {"disk1": DISK})
    disk = nbd.Nbd(promoted.socket_path("disk1"))
    due = [(offset, data) for offset, data, sequence in writer.written if sequence <= believed]
    there = [disk.read(offset, BLOCK) == data for offset, data in due]
    disk.close()
    promoted.stop()
    check(len(due) > 20 and all(there), f"taken over, it has all {len(due)} writes that home believed in, of {len(writer.written)}")


def test(directory):
    for name, part in (("bytes", the_bytes), ("process", the_process), ("questions", the_questions)):
        place = directory / name
        place.mkdir()
        directory.chmod(0o711)
        part(place)


main(test)
