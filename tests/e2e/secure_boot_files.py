#!/usr/bin/env python3
# timeout: 180
# programs: holdfast
"""Secure Boot databases and updates agree with efitools and sbsigntool, both ways, on files alone.

Ten variable stores and more: OVMF's templates and what efitools, this test and `holdfast secure-boot` make. Each is
read by `holdfast secure-boot show` and by efi-readvar, which finds the variables in a directory that looks like efivarfs.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import struct

from lib import uefi_vars
from lib.machine import OVMF, VARS_MICROSOFT_KEYS, VARS_NO_KEYS
from lib.process import Failure, run
from lib.report import check, main, step

HOLDFAST = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast"
SHIM = pathlib.Path("/usr/lib/shim/shimx64.efi.signed")
GRUB = pathlib.Path("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
DEBIAN_CA = pathlib.Path("/usr/share/shim/debian-uefi-ca.der")
VENDORS = {"PK": uefi_vars.GLOBAL, "KEK": uefi_vars.GLOBAL, "db": uefi_vars.IMAGE_SECURITY,
           "dbx": uefi_vars.IMAGE_SECURITY, "MokList": uefi_vars.SHIM}
TIME = "2040-01-01 12:00:00"  # later than whatever this test sets now


def holdfast(*words):
    return run([HOLDFAST, "-q", "secure-boot", *words]).stdout


def refused(*words):
    """The message of a command that must fail."""
    done = run([HOLDFAST, "-q", "secure-boot", *words], check=False)
    if done.returncode != 1:
        raise Failure(f"holdfast secure-boot {words}: exit status {done.returncode}, not 1\n{done.stdout}")
    return done.stderr


def read_by_holdfast(store):
    """{variable: [(type, owner, digest, or SHA-256 of the certificate)]}"""
    view = json.loads(run([HOLDFAST, "-o", "json", "secure-boot", "show", store]).stdout)
    return {variable["name"]: [(one["type"], one["owner_guid"], one["fingerprint"]) for one in variable["signatures"]]
            for variable in view["variables"] if variable["present"]}


class EfiReadvar:
    """efi-readvar on the variables of a store. It asks mount(8) where efivarfs is: here, another one answers."""

    def __init__(self, directory):
        self.variables, self.work, programs = (directory / name for name in ("efivars", "exported", "programs"))
        self.variables.mkdir()
        self.work.mkdir()
        programs.mkdir()
        mount = programs / "mount"
        mount.write_text(f"#!/bin/sh\necho 'efivarfs on {self.variables} type efivarfs (rw)'\n")
        mount.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def read(self, values):
        """values: {variable: bytes}. The same as read_by_holdfast's, from what the tool prints and exports."""
        found = {}
        for name, value in values.items():
            path = self.variables / f"{name}-{VENDORS[name]}"
            path.write_bytes(struct.pack("<I", 0x27) + value)
            text = run(["efi-readvar", "-v", name], env=self.environment).stdout
            exported = self.work / "list.esl"
            run(["efi-readvar", "-v", name, "-o", exported], env=self.environment)
            path.unlink()
            if exported.read_bytes() != value:
                raise Failure(f"efi-readvar -o gives other bytes for {name}")
            found[name] = list(self._signatures(text, exported))
        return found

    def _signatures(self, text, exported):
        """Digests stand in the text; certificates are exported by sig-list-to-certs, in the same order."""
        for old in self.work.glob("cert-*"):
            old.unlink()
        run(["sig-list-to-certs", exported, self.work / "cert"])
        ders = sorted(self.work.glob("cert-*.der"), key=lambda path: int(re.findall(r"\d+", path.name)[-1]))
        digests = iter([hashlib.sha256(path.read_bytes()).hexdigest() for path in ders])
        kind = owner = None
        for line in text.splitlines():
            if match := re.match(r"\S+: List \d+, type (\S+)", line):
                kind = match[1]
            elif match := re.match(r"\s+Signature \d+, size \d+, owner (\S+)", line):
                owner = match[1]
                if kind == "X509":
                    yield kind, owner, next(digests)
            elif match := re.match(r"\s+Hash:\s*(\S+)", line):
                yield kind, owner, match[1]


def values_of(store):
    """The variables' bytes, read by the tests' own reader."""
    held = uefi_vars.Variables(store)
    values = {name: held.get(name) for name in VENDORS}
    return {name: value for name, value in values.items() if value is not None}


def image_digest(path):
    """Authenticode SHA-256 as pesign computes it."""
    return bytes.fromhex(run(["pesign", "-h", "-i", path]).stdout.split()[-1])


class Keys:
    """Certificates and lists as efitools make them."""

    def __init__(self, directory):
        self.directory = directory
        self.pk, self.kek, self.db, self.stranger = (uefi_vars.make_key(directory, name)
                                                     for name in ("pk", "kek", "loader", "stranger"))

    def lists(self, name, *certificates):
        path = self.directory / f"{name}.esl"
        path.write_bytes(b"")
        for number, certificate in enumerate(certificates):
            one = self.directory / "one.esl"
            run(["cert-to-efi-sig-list", "-g", f"12345678-0000-4000-8000-00000000000{number % 10}", certificate, one])
            path.write_bytes(path.read_bytes() + one.read_bytes())
        return path

    def signed(self, variable, lists, by, append=False, time=TIME):
        path = self.directory / f"{variable}.auth"
        run(["sign-efi-sig-list", *(["-a"] if append else []), "-t", time, "-k", by[0], "-c", by[1], variable, lists, path])
        return path


def make_stores(directory, keys):
    """{name: store}"""
    stores = {"Debian's template with Microsoft's keys": OVMF / "OVMF_VARS_4M.ms.fd",
              "Debian's template with its test key": OVMF / "OVMF_VARS_4M.snakeoil.fd",
              "the 2 MiB build's template": OVMF / "OVMF_VARS.ms.fd",
              "the empty template": VARS_NO_KEYS}

    def add(name, change, base=VARS_NO_KEYS):
        path = directory / f"store{len(stores)}.fd"
        shutil.copy(base, path)
        change(path)
        stores[name] = path

    def efitools_lists(path):
        store = uefi_vars.Variables(path)
        for variable, key in (("PK", keys.pk), ("KEK", keys.kek), ("db", keys.db)):
            store.set(variable, keys.lists("own", key[1]).read_bytes())
        store.write(path)

    def digests(path):
        store = uefi_vars.Variables(path)
        store.set("db", uefi_vars.hash_list(*map(image_digest, (SHIM, GRUB))))
        store.set("dbx", uefi_vars.hash_list(image_digest(SHIM)) + keys.lists("revoked", keys.stranger[1]).read_bytes())
        store.write(path)

    def many(path):
        store = uefi_vars.Variables(path)
        certificates = [uefi_vars.make_key(directory, f"many{number}", "M" * (number + 1))[1] for number in range(8)]
        store.set("db", keys.lists("many", *certificates).read_bytes())
        store.set("dbx", uefi_vars.hash_list(*(hashlib.sha256(b"%d" % number).digest() for number in range(500))))
        store.write(path)

    def moks(path):
        holdfast("append", path, "MokList", keys.db[1], DEBIAN_CA)
        holdfast("append", path, "MokList", SHIM)

    def updated(path):
        holdfast("profile", path, "own", "--pk", keys.pk[1], "--kek", keys.kek[1], "--db", keys.db[1])
        holdfast("apply-update", path, keys.signed("dbx", keys.lists("revoked", keys.stranger[1]), keys.kek, append=True))

    own_kek = ("--kek", keys.kek[1])
    add("own keys, lists by efitools", efitools_lists)
    add("digests of images; a digest and a certificate revoked", digests)
    add("eight certificates of eight sizes, 500 digests", many)
    add("profile microsoft-2011", lambda path: holdfast("profile", path, "microsoft-2011"))
    add("profile microsoft-2011+2023", lambda path: holdfast("profile", path, "microsoft-2011+2023", "--guest", "linux",
                                                             *own_kek), VARS_MICROSOFT_KEYS)
    add("profile microsoft-2023", lambda path: holdfast("profile", path, "microsoft-2023", "--guest", "linux", *own_kek),
        VARS_MICROSOFT_KEYS)
    add("profile debian", lambda path: holdfast("profile", path, "debian"), VARS_MICROSOFT_KEYS)
    add("own keys and a signed dbx update", updated)
    add("certificates and a digest in MokList", moks, VARS_MICROSOFT_KEYS)
    add("no keys", lambda path: holdfast("profile", path, "none"), VARS_MICROSOFT_KEYS)
    return stores


def same_lists(directory, keys):
    stores = make_stores(directory, keys)
    peer = EfiReadvar(directory)
    signatures = 0
    for name, store in stores.items():
        ours, theirs = read_by_holdfast(store), peer.read(values_of(store))
        if ours != theirs:
            raise Failure(f"{name}: other lists than efi-readvar's\n{ours}\n{theirs}")
        count = sum(map(len, ours.values()))
        signatures += count
        step(f"ok: {name}: {count} signatures as efi-readvar reads them")
    check(len(stores) >= 14 and signatures > 500, f"{len(stores)} stores, {signatures} signatures")


def own_store(directory, keys, name):
    path = directory / f"{name}.fd"
    shutil.copy(VARS_NO_KEYS, path)
    holdfast("profile", path, "own", "--pk", keys.pk[1], "--kek", keys.kek[1], "--db", keys.db[1])
    return path


def efitools_updates(directory, keys):
    store = own_store(directory, keys, "theirs")
    stranger = keys.lists("stranger", keys.stranger[1])
    for day, (variable, by, append) in enumerate((("db", keys.kek, True), ("dbx", keys.kek, True), ("KEK", keys.pk, True),
                                                  ("dbx", keys.kek, False), ("PK", keys.pk, False)), 1):
        time = f"2041-12-0{day} 12:00:00"
        said = holdfast("apply-update", store, keys.signed(variable, stranger, by, append, time))
        check(f"{variable}: {'appended to' if append else 'replaced'}" in said, f"an update by sign-efi-sig-list: {said.strip()}")
    store = own_store(directory, keys, "theirs")
    before = store.read_bytes()
    for what, arguments in (("of db by the PK", ("db", stranger, keys.pk)), ("of KEK by a KEK", ("KEK", stranger, keys.kek)),
                            ("of db by a stranger", ("db", stranger, keys.stranger)),
                            ("older than what it replaces", ("db", stranger, keys.kek, False, "2020-01-01 00:00:00"))):
        refused("apply-update", store, keys.signed(*arguments))
        check(store.read_bytes() == before, f"an update {what} is refused, and the store is as it was")


def der_of_signed_data(update):
    """The update's SignedData in a ContentInfo, as openssl takes it; and its value."""
    length, = struct.unpack_from("<I", update, 16)
    bare, value = update[40:16 + length], update[16 + length:]

    def tagged(tag, body):
        size = len(body).to_bytes(3, "big")
        return bytes([tag, 0x83]) + size + body
    return tagged(0x30, bytes.fromhex("06092a864886f70d010702") + tagged(0xA0, bare)), value


def own_updates(directory, keys):
    """What we sign is what sign-efi-sig-list would have had signed, and openssl verifies it."""
    lists = keys.lists("value", keys.stranger[1])
    for variable, by in (("db", keys.kek), ("dbx", keys.kek), ("KEK", keys.pk), ("PK", keys.pk)):
        for append in (False, True):
            update, bundle, message = (directory / f"own.{end}" for end in ("auth", "bundle", "p7"))
            flags = ["--append"] if append else []
            run([HOLDFAST, "-q", "secure-boot", "sign-update", variable, lists, "--key", by[0], "--certificate", by[1], "--out",
                 update, "--time", TIME.replace(" ", "T") + "Z", *flags])
            run(["sign-efi-sig-list", "-o", *(["-a"] if append else []), "-t", TIME, variable, lists, bundle])
            wrapped, value = der_of_signed_data(update.read_bytes())
            message.write_bytes(wrapped)
            if value != lists.read_bytes():
                raise Failure("the update's value is not what was given")
            run(["openssl", "smime", "-verify", "-binary", "-inform", "DER", "-in", message, "-content", bundle, "-CAfile", by[1],
                 "-purpose", "any", "-no_check_time", "-out", "/dev/null"])
            step(f"ok: our {'append to' if append else 'update of'} {variable}: openssl verifies it over sign-efi-sig-list's bundle")
            store = own_store(directory, keys, "ours")
            if variable != "PK" or not append:
                holdfast("apply-update", store, update)


def forms(directory, keys):
    """A certificate, its lists, its update and an image's digest go in as they come."""
    store = own_store(directory, keys, "forms")
    der = directory / "stranger.der"
    run(["openssl", "x509", "-in", keys.stranger[1], "-outform", "DER", "-out", der])
    lists = keys.lists("stranger", keys.stranger[1])
    for form, path in (("PEM", keys.stranger[1]), ("DER", der), ("signature lists", lists),
                       ("a signed update", keys.signed("db", lists, keys.stranger))):
        holdfast("append", store, "db", path)
        fingerprints = [one[2] for one in read_by_holdfast(store)["db"]]
        check(hashlib.sha256(der.read_bytes()).hexdigest() in fingerprints, f"a certificate as {form} goes into db")
        holdfast("remove", store, "db", der)
        check(len(read_by_holdfast(store)["db"]) == 1, "and out again, whoever owns it")
    holdfast("revoke", store, SHIM, GRUB)
    check({one[2] for one in read_by_holdfast(store)["dbx"]} > {image_digest(path).hex() for path in (SHIM, GRUB)},
          "images are revoked by the digests that pesign computes")
    revoked, signed = directory / "revoked.esl", directory / "signed"
    run(["cert-to-efi-hash-list", "-s", "256", "-t", TIME, keys.stranger[1], revoked])
    holdfast("set", store, "dbx", revoked)
    run(["openssl", "asn1parse", "-in", keys.stranger[1], "-strparse", "4", "-noout", "-out", signed])
    shown = json.loads(run([HOLDFAST, "-o", "json", "secure-boot", "show", store]).stdout)["variables"][3]["signatures"][0]
    check(shown["type"] == "X509_SHA256" and shown["title"] == hashlib.sha256(signed.read_bytes()).hexdigest()
          and shown["detail"] == "a certificate, revoked since 2040-01-01T12:00:00Z",
          "a certificate's digest with its time of revocation, by cert-to-efi-hash-list, reads right")


def bad_input(directory, keys):
    store = own_store(directory, keys, "bad")
    before = store.read_bytes()
    junk, cut, two = (directory / name for name in ("junk", "cut.esl", "two.esl"))
    junk.write_bytes(os.urandom(1000))
    cut.write_bytes(keys.lists("cut", keys.db[1]).read_bytes()[:-1])
    two.write_bytes(keys.lists("two", keys.pk[1], keys.kek[1]).read_bytes())
    short = directory / "short.fd"
    short.write_bytes(before[:-512])
    for what, words in (("random bytes for db", ("append", store, "db", junk)), ("a list cut short", ("append", store, "db", cut)),
                        ("two platform keys", ("set", store, "PK", two)), ("a second platform key", ("append", store, "PK", keys.kek[1])),
                        ("another variable", ("append", store, "BootOrder", keys.db[1])),
                        ("a file that is missing", ("append", store, "db", directory / "nowhere.pem")),
                        ("a certificate for the switch", ("set", store, "SecureBootEnable", keys.db[1])),
                        ("an update of random bytes", ("apply-update", store, junk)),
                        ("an unknown profile", ("profile", store, "windows")),
                        ("a profile without its certificates", ("profile", store, "microsoft-2023")),
                        ("an image that is cut short", ("show", short)), ("an image that is none", ("show", junk)),
                        ("a directory", ("show", directory))):
        message = refused(*words)
        if not all(re.search(rf"^{part}\s+\S", message, re.M) for part in ("error:", "effect:", "mend:")):
            raise Failure(f"{what}: the message lacks a part\n{message}")
        check(store.read_bytes() == before, f"{what} is refused: {message.splitlines()[0][8:108]}")
    check([path.name for path in directory.glob("bad.fd*")] == ["bad.fd"], "nothing is left beside the store")


def test(directory):
    keys = Keys(directory)
    same_lists(directory, keys)
    efitools_updates(directory, keys)
    own_updates(directory, keys)
    forms(directory, keys)
    bad_input(directory, keys)


if __name__ == "__main__":
    main(test)
