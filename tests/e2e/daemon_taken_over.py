#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-link holdfast-vault holdfast-keeper
"""A holdfastd that was taken over does not get at keys: hands of its user, with every socket that it has, ask the vault for

- a VM's key, for its own user and by any kind of release;
- a recipient of its own making, and one made of a pairing's token that an operator has asked for;
- a VM's key wrapped for a site that no operator chose for that VM: one of its own, and one that is paired;
- the site's signature over a token of its own text.

Each is tried; at the end all that succeeded are named. What an operator does by the CLI works beside it.
"""

import os
import stat
import struct

from lib import vault_words as words
from lib.process import Failure, Processes
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


def wraps(hands, web, stranger, west):
    for what, site in (("a site of its own", stranger), ("a paired site that no operator chose for it", west)):
        hands.refused(f"a VM's key wrapped for {what}", ["is not a recipient", "no operator has said"], "vault-admin.sock",
                      words.WRAP_FOR, web + site)


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
            hands = Hands(north)
            own = Hands(stranger).admin(words.SITE_IDENTITY)
            of_south, of_west = (bytes.fromhex(site.json("site", "show")["site_id"]) for site in (south, west))

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
            north.cli("protection", "disable", "web")
            hands.refused("the VM's key wrapped for that site after its protection was ended", ["no operator has said"],
                          "vault-admin.sock", words.WRAP_FOR, web + of_south)
            log = (north.state / "vault/audit.log").read_text()
            check(all(f'"event":"{event}"' in log for event in ("add_member", "clear_members", "wrap_for", "confirm_pairing")) and
                  '"outcome":"refused"' in log, "the vault's audit log has the words, and what was refused")
            check(not hands.succeeded, f"of all that, this succeeded: {'; '.join(hands.succeeded) or 'nothing'}")
            for site in sites:
                site.stop()
        finally:
            for site in sites:
                site.end()


main(test)
