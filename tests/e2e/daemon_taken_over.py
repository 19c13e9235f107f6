#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""A holdfastd that was taken over does not get at keys: hands of its user, with every socket that it has, ask the vault for

- a VM's key, for its own user and by any kind of release;
- a recipient of its own making, and one made of a pairing's token that an operator has asked for;
- a VM's key wrapped for a site that no operator chose for that VM: one of its own, and one that is paired;
- the site's signature over a token of its own text;
- every statement of a VM's title that is not the daemon's to have signed: take, go on, rewind, expulsion, a member that no operator
  chose, a hand-over of a VM that runs or to a site that has not all of it; with no word, with one of another act, VM or minute,
  with one that it has kept, on answers of before;
- to forget a title and learn an older one.

And the launcher, over its own socket, to run what is no VM's definition. The daemons of two sites work together in it: each says
to its vault, and carries to the other, whatever helps.

Each is tried; at the end all that succeeded are named. What an operator does by the CLI works beside it, and the VM runs on.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sqlite3
import stat
import struct
import time

from lib import turned as t, vault_words as words
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected
from lib.users import as_user

ADD_RECIPIENT = 0x0107  # of builds that took a recipient from holdfastd
OTHER_VM = bytes(range(16))


class Hands:
    """holdfastd's user at `site`, after it was taken over."""

    def __init__(self, site):
        self.site, self.run, self.uid = site, site.state / "run", site.uid_base + 1
        self.succeeded = []
        self.id = b""

    def say(self, name, operation, body=b""):
        """(status, the rest); the status is None where there was no answer: then the rest says why."""
        answer = as_user(self.uid, lambda: words.ask(self.run / name, operation, body))
        if answer in (b"closed", b"denied", b"absent"):
            return None, answer.decode()
        if len(answer) < 2:
            raise Failure(f"{name} did not answer {operation:#x}: {answer!r}")
        return struct.unpack_from("<H", answer)[0], answer[2:]

    def admin(self, operation, body=b""):
        status, rest = self.say("vault-admin.sock", operation, body)
        if status != 0:
            raise Failure(f"{self.site.name}: {operation:#x} is refused: {told(status, rest)}")
        return rest

    def refused(self, what, says, name, operation, body=b"", won=lambda rest: True):
        """Tries it; the refusal must say one of `says`."""
        status, rest = self.say(name, operation, body)
        if status == 0 and won(rest):
            step(f"SUCCEEDED: {what}")
            self.succeeded.append(what)
            return rest
        why = told(status, rest)
        check(any(one in why for one in says), f"{what}: {why}")
        return None


    # -- What it may say of titles, and carry between vaults

    def head(self, vm):
        """(the newest statement, all that came before it with it)"""
        chain = self.chain(vm)
        return chain[-1]

    def bundle(self, vm):
        return t.Reader(self.admin(words.TITLE_LACKING, vm + struct.pack("<I", 0))).blob()

    def chain(self, vm):
        return t.decode_bundle(self.bundle(vm))

    def ask(self, vm, other, says=3):
        """`other`'s vault is asked by this one's, as its daemon has it answer: (question, answer)."""
        asked = self.admin(words.TITLE_ASK, vm + other.id)
        return asked, t.Reader(other.admin(words.TITLE_ANSWER, asked + bytes((says,)))).blob()

    def take_answer(self, vm, answer):
        """"taken", or why not."""
        return t.judged(self.admin(words.TITLE_TAKE_ANSWER, vm + words.blob(answer)))

    def asks(self, vm, other, says=3):
        why = self.take_answer(vm, self.ask(vm, other, says)[1])
        if why != "taken":
            raise Failure(f"{other.site.name}'s answer is not taken: {why}")

    def propose(self, vm, kind, subject=bytes(16), token=bytes(32)):
        """"signed", or why not."""
        body = vm + self.head(vm).digest() + bytes((t.KIND[kind],)) + subject + struct.pack("<I", 0) + token
        return t.signed(self.admin(words.TITLE_PROPOSE, body))

    def unsigned(self, what, vm, kind, says, subject=bytes(16), token=bytes(32)):
        """Proposes it; the refusal is one of `says`, by name."""
        why = self.propose(vm, kind, subject, token)
        if why == "signed":
            step(f"SUCCEEDED: {what}")
            self.succeeded.append(what)
            return
        check(why in says, f"{what}: refused as \"{why}\"")


def told(status, rest):
    """An answer without a result in words."""
    if status is None:
        return f"no answer ({rest})"
    return " | ".join(part.decode(errors="replace") for part in words.blobs(rest, 3)) if status else "done"


def keys_in_clear(hands, web):
    for what, vm in (("a VM that runs", web), ("a VM that does not", OTHER_VM)):
        hands.refused(f"the key of {what}, for its own user", ["closed"], "vault-keys.sock", words.FETCH_KEY, vm)
        hands.refused(f"the key of {what}, at its own socket", ["not offered on this socket"], "vault-admin.sock",
                      words.FETCH_KEY, vm)
    hands.refused("a release that names its own user", ["left over"], "vault-admin.sock", words.RELEASE,
                  web + struct.pack("<I", hands.uid))
    hands.refused("a release of a VM without a keeper", ["no keeper"], "vault-admin.sock", words.RELEASE, OTHER_VM)
    check(hands.say("vault-admin.sock", words.RELEASE, web)[0] == 0, "it may release a VM to its keeper, which is its work")
    hands.refused("the key of a VM that it has released, for its own user", ["closed"], "vault-keys.sock", words.FETCH_KEY, web)


def recipients(hands, own):
    """`own`: the identity of a site that whoever took holdfastd over has made."""
    hands.refused("a recipient of its own making", ["no answer (closed)"], "vault-admin.sock", ADD_RECIPIENT, own)
    status = (hands.run / "vault-operators.sock").stat()
    check(stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == 0, "the operators' socket is root's alone")
    for what, operation, body in (
            ("a pairing token", words.OFFER_PAIRING, struct.pack("<II", 60, 0)),
            ("an operator's word for a site of its own", words.CONFIRM_PAIRING, words.confirmation(bytes(32), own)),
            ("an operator's word for a VM", words.ADD_MEMBER, OTHER_VM + own[:16])):
        hands.refused(f"{what}, at the operators' socket", ["denied"], "vault-operators.sock", operation, body)
        hands.refused(f"{what}, at its own", ["not offered on this socket"], "vault-admin.sock", operation, body)
    proof = bytes(16) + os.urandom(32) + own + os.urandom(32)
    hands.refused("a recipient by a token that nobody made", ["issued no such pairing token"],
                  "vault-admin.sock", words.ACCEPT_PAIRING, proof)


def recipient_by_an_operators_token(hands, own):
    """An operator has made a token for another site; of that the daemon learns the id, once the other site comes."""
    token = hands.site.json("site", "pair", "--new-token")["token"]
    token_id = words.token_id(words.token_secret(token))
    context = os.urandom(32)
    ours = hands.admin(words.PROVE_PAIRING, token_id + context)
    for what, proof in (("a proof of its own making", os.urandom(32)), ("the vault's own proof", ours)):
        hands.refused(f"a recipient by an operator's token and {what}", ["does not know the token's secret"],
                      "vault-admin.sock", words.ACCEPT_PAIRING, token_id + context + own + proof)


def token_of_its_own_text(hands):
    text = b"eyJhbGciOiJFUzI1NiJ9.eyJ2ZXJkaWN0IjoiSGVhbHRoeSJ9"
    hands.refused("a signature over a token of its own text", ["attestation_sign: too short"], "vault-admin.sock",
                  words.ATTESTATION_SIGN, words.blob(text))
    for what, claims in (("words that draw on a terminal", words.verdict_claims(words=b"\x1b[2Jall is well")),
                         ("a policy that is none", words.verdict_claims(policy=b"whatever")),
                         ("a code that is none", words.verdict_claims(code=b'"}, "admin": true'))):
        hands.refused(f"a verdict with {what}", ["a verdict with"], "vault-admin.sock",
                      words.ATTESTATION_SIGN, claims)


TAKE, GO_ON, EXPEL, TAKE_OVER, DISTRUST, HAND_OVER, REWIND, SETTLE_DOUBT = range(8)


def no_words(hands, vm):
    """A word is an operator's: it is not given at any socket that the daemon can open."""
    for act in range(8):
        body = vm + bytes((act,))
        hands.refused(f"a word for act {act}, at the operators' socket", ["denied"], "vault-operators.sock", words.GIVE_WORD, body)
        hands.refused(f"a word for act {act}, at its own", ["not offered on this socket"], "vault-admin.sock", words.GIVE_WORD, body)


def an_operators_word(site, vm, act):
    """As the CLI gets it, as root. It passes through the daemon, which keeps it."""
    answer = words.ask(site.state / "run/vault-operators.sock", words.GIVE_WORD, vm + bytes((act,)))
    if struct.unpack_from("<H", answer)[0] != 0:
        raise Failure(f"no word is given: {words.blobs(answer[2:], 3)}")
    return answer[2:34]


def titles(north, south, west, web, db):
    """north holds web, which runs, and south stands by for it. All three daemons are one hand."""
    for what, kind, says in (("a take of what it holds", "take", ["is holder"]), ("a going on without its standby", "go on", ["word needed"]),
                             ("a rewind", "rewind", ["not yet", "word needed", "processes alive"]),
                             ("a checkpoint", "checkpoint", ["not yet"]), ("a join without a rival", "join", ["no rival"]),
                             ("to give up without a rival", "give up", ["no rival"])):
        north.unsigned(what, web, kind, says)
    north.unsigned("the end of a VM that runs", web, "end", ["processes alive"])
    north.unsigned("the expulsion of the standby", web, "expel", ["word needed"], subject=south.id)
    # west's vault says that it takes the VM: its daemon says so.
    west.admin(words.TITLE_LEARN, web + north.id + b"\1" + words.blob(north.bundle(web)))
    north.asks(web, west)
    north.unsigned("a member that no operator chose", web, "protect", ["word needed"], subject=west.id)
    north.unsigned("a standby that no operator chose", web, "stand by", ["not being seeded"], subject=west.id)
    north.unsigned("a hand-over to a site that does not stand by", web, "hand-over", ["not standby"], subject=west.id)
    north.asks(web, south)
    north.unsigned("a hand-over of a VM that runs", web, "hand-over", ["processes alive", "not on our line", "peer not whole"], subject=south.id)
    # At the standby.
    south.unsigned("a take on no word", web, "take", ["word needed"])
    south.unsigned("a take on a word of its own making", web, "take", ["word needed"], token=os.urandom(32))
    south.unsigned("a hand-over of what it does not hold", web, "hand-over", ["not holder"], subject=north.id)
    south.unsigned("the end of what it does not hold", web, "end", ["not holder"])
    south.unsigned("an expulsion of the holder", web, "expel", ["not holder"], subject=north.id)
    south.refused("the key of what it does not hold, for a keeper", ["not holder", "no keeper"], "vault-admin.sock", words.RELEASE, web)
    for hands in (north, south):
        hands.refused("the gate, at the keepers' socket", ["closed"], "vault-keys.sock", words.OPEN_GATE, web)
        hands.refused("the gate, at its own", ["not offered on this socket"], "vault-admin.sock", words.OPEN_GATE, web)
        hands.refused("a line that no keeper has shown", ["closed"], "vault-keys.sock", words.SHOW_LINE,
                      web + bytes(32) + struct.pack("<Q", 9) + bytes(32) + b"\1" + struct.pack("<I", 0))
        hands.refused("an older freshness record", ["closed"], "vault-keys.sock", words.PUT_FRESHNESS,
                      web + bytes(32) + struct.pack("<Q", 1) + bytes(32) + struct.pack("<Q", 1))


def kept_words(north, south, web, db):
    """An operator at south has said that north is off, where it is not; the daemon keeps the word."""
    token = an_operators_word(south.site, web, TAKE)
    south.unsigned("a take on a word, of a holder that answered just now", web, "take", ["holder answers"], token=token)
    south.unsigned("another act on that word", web, "go on", ["not holder"], token=token)
    south.asks(web, north)
    south.unsigned("a take on a word that an answer has ended", web, "take", ["word needed"], token=token)
    # Words for the holder's own acts.
    token = an_operators_word(north.site, web, EXPEL)
    north.unsigned("a going on, on a word for an expulsion", web, "go on", ["word needed"], token=token)
    north.unsigned("an expulsion of a site that answers", web, "expel", ["not answered", "word needed"], subject=south.id, token=token)
    north.unsigned("another VM's going on, on that word", db, "go on", ["word needed"], token=token)


def kept_answers(north, south, web):
    """Answers are good for the question that they were given to, and for three seconds."""
    old = north.ask(web, south)[1]
    fresh = north.ask(web, south)[1]
    check(north.take_answer(web, old) == "not asked", "an answer to an earlier question is refused as \"not asked\"")
    altered = bytearray(fresh)
    altered[6] |= 4  # "prepared"
    altered[-1] ^= 1
    check(north.take_answer(web, bytes(altered)) in ("bad signature",), "one that was altered as \"bad signature\"")
    time.sleep(3.2)
    check(north.take_answer(web, fresh) == "answer too old", "one that was kept for three seconds as \"answer too old\"")


def titles_forgotten(north, south, web):
    """web was handed to south. north's daemon has kept all that it carried before, and south's wrap of the key."""
    kept = north.bundle(web)
    north.site.cli("vm", "stop", "web", "--force")
    south.site.cli("failover", "unplanned", "web", "--yes", timeout=90)
    wait_until(lambda: north.head(web).holder == south.id, 20, "north knows that it gave web away")
    wait_until(lambda: south.site.json("vm", "show", "web")["state"] == "running", 30, "web runs at south")
    north.site.cli("vm", "show", "web")
    status, rest = north.say("vault-admin.sock", words.DELETE_KEY, web)
    step(f"north's daemon has its vault delete web's key: {told(status, rest)}")
    north.admin(words.TITLE_LEARN, web + south.id + b"\1" + words.blob(kept))
    check(north.head(web).holder == south.id, "taught the title of before, it knows the newer one")
    north.refused("the key of a VM that it gave away and forgot", ["holds no key", "not holder", "no keeper"], "vault-admin.sock",
                  words.RELEASE, web)
    north.unsigned("a hand-over of what it gave away", web, "hand-over", ["not holder"], subject=south.id)
    check(south.site.json("vm", "show", "web")["state"] == "running", "web runs on at south, and nowhere else")


def launcher_socket(site):
    """holdfastd's own connection to the launcher, taken out of it."""
    (pid,) = site.pids_of("holdfastd")
    environment = dict(one.split("=", 1) for one in open(f"/proc/{pid}/environ").read().split("\0") if "=" in one)
    number = 3 + environment["LISTEN_FDNAMES"].split(":").index("launcher")
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    fd = libc.syscall(438, pidfd, number, 0)
    os.close(pidfd)
    if fd < 0:
        raise Failure(f"holdfastd's socket cannot be taken: {os.strerror(ctypes.get_errno())}")
    return pid, socket.socket(fileno=fd)


def what_runs(hands, web, db, definition):
    """The launcher runs definitions and keepers of the VM that is named, and nothing else that it is told."""
    state = str(hands.site.state)
    machine = {"definition": definition, "accelerator": "tcg"}
    qemu = {"unit": "qemu-hands", "kind": "qemu", "vm": db.hex(), "vm_number": 900, "bar": 0, "machine": machine}
    config = {"mode": "replica", "vm": db.hex(), "site": hands.id.hex(), "epoch": 1, "journal_dir": f"{state}/vms/{db.hex()}/journal",
              "vault_socket": f"{state}/run/vault-keys.sock", "peer_site": "11" * 16, "public_key": "22" * 32}
    keeper = {"unit": "keeper-hands", "kind": "keeper", "vm": db.hex(), "vm_number": 900, "bar": 0, "config": config,
              "sockets": [{"name": "control", "path": f"run/vms/{db.hex()}/control.sock", "access": "daemon"}]}

    def defined(**changes):
        return {**qemu, "machine": {**machine, "definition": {**definition, **changes}}}

    def configured(**changes):
        return {**keeper, "config": {**config, **changes}}

    firmware = definition["firmware"]
    attempts = (
        ("a program of its own", {"verb": "start", "start": {**qemu, "program": "/bin/sh"}}, ["program"]),
        ("words for QEMU", {"verb": "start", "start": {**qemu, "argv": ["-enable-kvm"]}}, ["argv"]),
        ("a machine type with more in it", {"verb": "start", "start": defined(machine_type="pc-q35-7.2,dumpdtb=/tmp/x")}, ["machine"]),
        ("a name with a line in it", {"verb": "start", "start": defined(name="db\n-S")}, ["name"]),
        ("firmware of its own", {"verb": "start", "start": defined(firmware={**firmware, "build": "00" * 32})}, ["firmware"]),
        ("a MAC address with a script in it", {"verb": "start", "start": defined(nics=[
            {"name": "nic1", "mac": "02:00:00:00:00:01,script=/x", "network": "user"}])}, ["mac"]),
        ("a million CPUs", {"verb": "start", "start": defined(cpus=1_000_000)}, ["cpus"]),
        ("a journal of another VM", {"verb": "start", "start": configured(journal_dir=f"{state}/vms/{web.hex()}/journal")}, ["journal_dir"]),
        ("a vault of its own", {"verb": "start", "start": configured(vault_socket="/tmp/vault.sock")}, ["vault_socket"]),
        ("the config of another VM", {"verb": "start", "start": configured(vm=web.hex())}, ["vm"]),
        ("a firmware template of its own", {"verb": "start", "start": configured(uefi_template="/etc/shadow")}, ["uefi_template"]),
        ("a socket in another VM's place", {"verb": "start", "start": {**keeper, "sockets": [
            {"name": "control", "path": f"run/vms/{web.hex()}/control.sock", "access": "daemon"}]}}, ["path", "socket"]),
        ("a socket outside", {"verb": "start", "start": {**keeper, "sockets": [
            {"name": "control", "path": "../../tmp/x.sock", "access": "vm"}]}}, ["path", "socket"]),
        ("a vault of its own making", {"verb": "start", "start": {**keeper, "unit": "vault"}}, ["launcher's own", "runs already"]),
        ("a user beyond the site's", {"verb": "start", "start": {**keeper, "vm_number": 1 << 30}}, ["vm_number"]),
        ("the vault's end", {"verb": "stop", "stop": {"unit": "vault", "signal": 9}}, ["vault", "no unit", "own"]),
        ("a verb that there is not", {"verb": "exec", "exec": {"argv": ["/bin/sh"]}}, ["verb", "exec"]),
    )
    pid, line = launcher_socket(hands.site)
    answers = {}
    with line:
        os.kill(pid, signal.SIGSTOP)  # it would read the answers
        try:
            line.settimeout(2)
            line.send(json.dumps({"id": 1 << 50, "verb": "status", "status": {}}).encode())
            while (reply := json.loads(line.recv(1 << 18)).get("reply")) is None or reply["id"] != 1 << 50:
                pass
            bar = reply.get("bars", {}).get(db.hex(), reply["bar"])  # else it would be refused as one from before a fence
            for number, (_, request, _) in enumerate(attempts):
                if request["verb"] == "start":
                    request["start"]["bar"] = bar
                line.send(json.dumps({"id": (1 << 40) + number, **request}).encode())
            end = time.monotonic() + 2.2
            while len(answers) < len(attempts) and time.monotonic() < end:
                reply = json.loads(line.recv(1 << 18)).get("reply")
                if reply and reply["id"] >= 1 << 40:
                    answers[reply["id"] - (1 << 40)] = reply
        except TimeoutError:
            pass
        finally:
            os.kill(pid, signal.SIGCONT)
    for number, (what, _, says) in enumerate(attempts):
        error = answers.get(number, {}).get("error")
        if number in answers and not error:
            hands.succeeded.append(what)
            continue
        text = json.dumps(error).lower() if error else ""
        check(error and any(one in text for one in says), f"not run or done by the launcher: {what}: {error and error['cause']}")


def wraps(hands, web, stranger, west):
    for what, site in (("a site of its own", stranger), ("a paired site that no operator chose for it", west)):
        hands.refused(f"a VM's key wrapped for {what}", ["is not a recipient", "no operator has said"], "vault-admin.sock",
                      words.WRAP_FOR, web + site)


def definition_of(site, name):
    with contextlib.closing(sqlite3.connect(f"file:{site.state}/daemon/catalog.sqlite?mode=ro", uri=True)) as catalog:
        return json.loads(catalog.execute("SELECT definition FROM vms WHERE name = ?", (name,)).fetchone()[0])


def test(directory):
    if os.geteuid() != 0:
        return step("skipped: only root can give a site users of its own")
    directory.chmod(0o711)
    with Processes(directory) as processes:
        north, south, west = (Site(processes, directory, name, base)
                              for name, base in (("north", 710000), ("south", 760000), ("west", 810000)))
        stranger = Site(processes, directory, "stranger", 860000)
        sites = (north, south, west, stranger)
        try:
            for site in sites:
                site.init()
                site.start()
            pair(north, south)
            pair(west, north)
            for name in ("web", "db"):
                north.vm_create(name, [], "--blank", "16M", "--memory", "256M")
            north.cli("vm", "start", "web")
            web, db = (bytes.fromhex(north.vm_id(name)) for name in ("web", "db"))
            hands, at_south, at_west = (Hands(site) for site in (north, south, west))
            own = Hands(stranger).admin(words.SITE_IDENTITY)
            for one in (hands, at_south, at_west):
                one.id = bytes.fromhex(one.site.json("site", "show")["site_id"])
            of_south, of_west = at_south.id, at_west.id

            keys_in_clear(hands, web)
            recipients(hands, own)
            recipient_by_an_operators_token(hands, own)
            token_of_its_own_text(hands)
            wraps(hands, web, own[:16], of_west)

            north.cli("protection", "enable", "web", "--to", "south")
            wait_protected(north, "web")
            check(hands.say("vault-admin.sock", words.WRAP_FOR, web + of_south)[0] == 0,
                  "an operator protects a VM to a site: for that VM and site the key is wrapped")
            for what, vm, site in (("that VM's key wrapped for another site", web, of_west),
                                   ("another VM's key wrapped for that site", db, of_south)):
                hands.refused(what, ["no operator has said"], "vault-admin.sock", words.WRAP_FOR, vm + site)
            qemu = north.qemu_pid("web")
            no_words(hands, web)
            titles(hands, at_south, at_west, web, db)
            kept_words(hands, at_south, web, db)
            kept_answers(hands, at_south, web)
            what_runs(hands, web, db, definition_of(north, "db"))
            shown = north.json("vm", "show", "web")
            check((shown["state"], shown["qemu_pid"]) == ("running", qemu), "beside all that, web runs on unharmed")
            wait_protected(north, "web")
            titles_forgotten(hands, at_south, web)
            north.cli("vm", "delete", "web", "--yes", check=False)
            north.vm_create("mail", [], "--blank", "16M", "--memory", "256M")
            mail = bytes.fromhex(north.vm_id("mail"))
            north.cli("protection", "enable", "mail", "--to", "south")
            web = mail
            north.cli("protection", "disable", "mail")
            hands.refused("the VM's key wrapped for that site after its protection was ended", ["no operator has said"],
                          "vault-admin.sock", words.WRAP_FOR, web + of_south)
            log = (north.state / "vault/audit.log").read_text()
            check(all(f'"event":"{event}"' in log for event in ("add_member", "clear_members", "wrap_for", "confirm_pairing")) and
                  '"outcome":"refused"' in log, "the vault's audit log has the words, and what was refused")
            succeeded = hands.succeeded + at_south.succeeded + at_west.succeeded
            check(not succeeded, f"of all that, this succeeded: {'; '.join(succeeded) or 'nothing'}")
            for site in sites:
                site.stop()
        finally:
            for site in sites:
                site.end()


main(test)
