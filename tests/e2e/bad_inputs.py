#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Bad input is refused: by exit status, by a message with cause, effect and mending command, and with the state
directory as it was before (lib/refusal.py says what of it counts). A full disk is full_disk.py's.
"""

import os
import pathlib
import shutil
import struct
import subprocess

from lib.process import Failure, Processes, run, wait_until
from lib.refusal import Snapshot, check_refused, message_of
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

MIB = 1 << 20


def random_file(path, size):
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    path.chmod(0o644)
    return path


def held_by_qemu(site, directory):
    """As a running guest's image is: qemu-io opens it as QEMU does, for reading and writing."""
    image = random_file(directory / "guest.img", MIB)
    qemu = subprocess.Popen(["qemu-io", "-f", "raw", image], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        inode = f":{image.stat().st_ino} "
        wait_until(lambda: any("OFDLCK" in line and inode in line for line in pathlib.Path("/proc/locks").read_text().splitlines()),
                   20, "QEMU holds the image")
        check_refused(site, "an image that QEMU writes to", "vm", "create", "bad", "--disk", image, code="conflict",
                      says=["in use", str(image)], mend=["fuser"])
    finally:
        qemu.stdin.close()
        qemu.wait(20)


def disk_images(site, directory):
    step("disk images")
    image = directory / "image"
    cases = [("an image that is missing", directory / "nowhere.img", "not_found", ["does not exist"], ["ls -l"])]
    for name, size, says in (("empty", 0, "has 0 bytes: too small"), ("too small", 1024, "too small for a disk"),
                             ("cut short", MIB + 100, "not whole sectors")):
        path = directory / f"{name.replace(' ', '-')}.img"
        path.write_bytes(b"\x55" * size)
        path.chmod(0o644)
        cases.append((f"an image that is {name}", path, "invalid_argument", [says], []))
    for form in ("qcow2", "vmdk", "vhdx"):
        path = directory / f"disk.{form}"
        run(["qemu-img", "create", "-q", "-f", form, path, "8M"])
        path.chmod(0o644)
        cases.append((f"an image of format {form}", path, "unsupported", [f"of format {form}"],
                      [f"qemu-img convert -f {form} -O raw"]))
    archive = directory / "disk.tar"
    run(["tar", "-cf", archive, "-C", directory, "cut-short.img"])
    archive.chmod(0o644)
    cases.append(("a tar file", archive, "unsupported", ["of format tar"], ["tar -xf"]))
    folder = directory / "folder.img"
    folder.mkdir(mode=0o755)
    cases.append(("an image that is a directory", folder, "invalid_argument", ["neither a file nor"], []))
    if site.uid_base:
        image.write_bytes(b"\x55" * MIB)
        image.chmod(0o600)
        cases.append(("an image that the daemon may not read", image, "permission", ["may not read"], ["setfacl"]))
    for what, path, code, says, mend in cases:
        check_refused(site, what, "vm", "create", "bad", "--disk", path, code=code, says=says + [str(path)], mend=mend)
    held_by_qemu(site, directory)
    check(site.json("vm", "list") == [], "no VM came of it")
    converted = directory / "converted.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", directory / "disk.qcow2", converted])
    converted.chmod(0o644)
    site.vm_create("converted", [converted])
    site.cli("vm", "delete", "converted", "--yes")


class Segment:
    """Where the parts of a closed segment lie (docs/formats/journal.md, "Segment file")."""
    FOOTER = 128
    CLOSE = 192 + 176 + 64

    def __init__(self, path):
        self.path = path
        self.data = path.read_bytes()
        self.close, = struct.unpack_from("<Q", self.data, self._footer_start() + 8)
        self.table, self.entries = struct.unpack_from("<QQ", self.data, self._footer_start() + 16)
        self.footer = self._footer_start()
        if self.data[self.close:self.close + 4] != b"HFFR" or self.footer != self.table + 40 * self.entries:
            raise Failure(f"{path}: not the layout of docs/formats/journal.md")

    def _footer_start(self):
        at = self.data.rindex(b"HFFF")
        while at % 8 or self.data[at + 4:at + 6] != b"\1\0":
            at = self.data.rindex(b"HFFF", 0, at)
        return at

    def flipped(self, at):
        out = bytearray(self.data)
        out[at] ^= 1
        return bytes(out)


def journal_damage(site, directory):
    step("a damaged journal")
    image = random_file(directory / "web.img", 4 * MIB)
    site.vm_create("web", [image], "--memory", "256M")
    site.cli("vm", "start", "web")
    site.cli("vm", "stop", "web", "--force")
    vm = site.vm_id("web")
    journal = site.state / "vms" / vm / "journal"
    closed = sorted(journal.glob("segment-*"))[0]
    segment, manifest = Segment(closed), journal / "MANIFEST"
    written = manifest.read_bytes()
    name = closed.name
    cases = [
        ("a flipped bit in a record's payload", closed, segment.flipped(4096 + 192 + 70_000), "corrupt", [name]),
        ("a flipped bit in a record's header", closed, segment.flipped(4096 + 8), "corrupt", [name]),
        ("a flipped bit in the segment's header", closed, segment.flipped(9), "corrupt", [name, "header"]),
        ("a flipped bit in a close", closed, segment.flipped(segment.close + 192 + 40), "corrupt", [name, "close"]),
        ("a flipped bit in a close's signature", closed, segment.flipped(segment.close + Segment.CLOSE - 1), "corrupt",
         [name, "close"]),
        ("a flipped bit in an extent table", closed, segment.flipped(segment.table + 17), "corrupt", [name, "table"]),
        ("a flipped bit in a footer", closed, segment.flipped(segment.footer + 9), "corrupt", [name, "footer"]),
        ("a segment cut short in its records", closed, segment.data[:segment.close // 2], "corrupt", [name, "cut short"]),
        ("a segment cut short in its close", closed, segment.data[:segment.close + 100], "corrupt", [name, "cut short"]),
        ("a segment cut short in its table", closed, segment.data[:segment.table + 40], "corrupt", [name, "cut short"]),
        ("an empty segment", closed, b"", "corrupt", [name, "cut short"]),
        ("a segment that is missing", closed, None, "corrupt", [name, "missing"]),
        ("a flipped bit in MANIFEST", manifest, bytes([written[0]]) + bytes([written[1]]) + written[2:60] +
         bytes([written[60] ^ 4]) + written[61:], "corrupt", ["MANIFEST"]),
        ("a MANIFEST cut short", manifest, written[:-40], "corrupt", ["MANIFEST"]),
    ]
    for what, path, damaged, code, says in cases:
        whole = path.read_bytes()
        owner = path.stat()
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        check_refused(site, what, "vm", "start", "web", code=code, says=says + [vm])
        check(site.json("vm", "show", "web")["state"] == "stopped", "the VM stays stopped")
        path.write_bytes(whole)
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    older = directory / "older"
    shutil.copytree(journal, older)
    site.cli("vm", "start", "web")
    check(site.json("vm", "show", "web")["state"] == "running", "restored, it starts again")
    site.cli("vm", "stop", "web", "--force")
    put_back(older, journal)
    check_refused(site, "an older journal put back", "vm", "start", "web", code="conflict", says=["older"],
                  mend=["put back the journal"])


def put_back(copy, journal):
    """The files of `copy` in the place of the journal's, with owner and mode."""
    owner = journal.stat()
    for path in journal.iterdir():
        path.unlink()
    for path in copy.iterdir():
        shutil.copyfile(path, journal / path.name)
        os.chown(journal / path.name, owner.st_uid, owner.st_gid)
        (journal / path.name).chmod(0o600)


def empty_rollover(site, directory):
    """An empty file ended commands once. Of a VM that does not run: nobody asks its guest before the file was read."""
    empty = directory / "empty.bin"
    empty.write_bytes(b"")
    site.cli("vm", "create", "rolls", "--blank", "16M", "--memory", "256M")
    check_refused(site, "a roll-over by an empty certificate", "secure-boot", "rollover", "rolls", "--to", "microsoft-2011+2023",
                  "--certificate", empty, code=("invalid_argument", "corrupt"), says=["empty.bin"], snapshot=False)
    check_refused(site, "a roll-over by an empty update", "secure-boot", "rollover", "rolls", "--update", empty,
                  code=("invalid_argument", "corrupt"), snapshot=False)
    check(site.json("vm", "show", "rolls")["state"] == "stopped", "the site goes on")
    site.cli("vm", "delete", "rolls", "--yes")


def peers_and_tokens(processes, directory, north):
    step("peers and tokens")
    south = Site(processes, directory, "south", 560000)
    third = Site(processes, directory, "third", 580000)
    impostor = Site(processes, directory, "impostor", 600000)
    impostor.listen = south.listen
    try:
        for site in (south, third):
            site.init()
            site.start()
        token = pair(north, south)["token"]
        check_refused(third, "a token used twice, by another site", "site", "pair", "-", text=token, code="conflict",
                      says=["used before, by south"], mend=["--new-token"])
        check_refused(south, "a token used twice, by the same site", "site", "pair", "-", text=token, code="conflict",
                      says=["used before, by south"], mend=["--new-token"])
        check(north.json("site", "peers")[0]["name"] == "south" and len(north.json("site", "peers")) == 1,
              "the issuer has the one peer it paired with")
        check_refused(third, "a token with a letter changed", "site", "pair", "-",
                      text=token[:50] + ("A" if token[50] != "A" else "B") + token[51:], code="invalid_argument",
                      says=["not copied right"], mend=["site pair --new-token"])
        check_refused(third, "a token that is none", "site", "pair", "-", text="hello", code="invalid_argument")
        check_refused(third, "a token for all of the host to see", "site", "pair", token, code="invalid_argument",
                      mend=["--token-file"])
        check_refused(north, "a site's own token", "site", "pair", "-", text=north.json("site", "pair", "--new-token")["token"],
                      code="invalid_argument", says=["this very site"])
        south_id = south.json("site", "show")["site_id"]
        for_south = south.json("site", "pair", "--new-token")["token"]

        south.stop()
        check_refused(north, "a peer that does not answer", "protection", "enable", "web", "--to", "south",
                      code="unavailable", says=["south", "refused"], mend=["site start"])
        check_refused(third, "a token whose maker does not answer", "site", "pair", "-", text=for_south, code="unavailable",
                      mend=["site start"])
        impostor.init()
        impostor.start()
        check_refused(north, "a peer with the wrong certificate", "protection", "enable", "web", "--to", "south",
                      code="wrong_key", says=["certificate"])
        check_refused(third, "a token whose maker answers with the wrong certificate", "site", "pair", "-", text=for_south,
                      code="wrong_key", says=["certificate"])
        stranger_at_the_door(directory, north, south_id)
    finally:
        for site in (south, third, impostor):
            site.end()


def stranger_at_the_door(directory, site, south_id):
    """Clients with a certificate of their own making, one of them naming the paired site, and one with no certificate:
    each is told no, by TLS or by an error message, and nothing changes."""
    forged = {"of its own making": [], "that names the paired site": ["-addext", f"subjectAltName=URI:holdfast:site:{south_id}"]}
    cases = [("without a certificate", [])]
    for number, (what, extension) in enumerate(forged.items()):
        key, certificate = directory / f"stranger{number}.key", directory / f"stranger{number}.crt"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
             "-out", certificate, "-days", "2", "-subj", "/CN=south", *extension])
        cases.append((f"with a certificate {what}", ["-cert", certificate, "-key", key]))
    before = Snapshot(site.state)
    for what, words in cases:
        for protocol in ("holdfast-sites/1", "nonsense/1"):
            # -ign_eof: it waits for what the server says; a TLS 1.3 client learns of a refusal only then.
            done = run(["openssl", "s_client", "-connect", site.listen, "-tls1_3", "-alpn", protocol, "-ign_eof", "-quiet",
                        *words], timeout=30, check=False)
            said = [line for line in done.stderr.splitlines() if "alert" in line]
            said += [line[line.index(text):] for text in ("certificate names no", "is not who it was at pairing")
                     for line in done.stdout.splitlines() if text in line]
            check(said, f"a stranger {what}, {protocol}: {said[0] if said else repr(done.stdout[-300:] + done.stderr[-300:])}")
    before.check_same(Snapshot(site.state), "strangers at the door")


def modes(site):
    step("a state directory that others can read")
    site.stop()
    for path, mode in ((site.state / "vault", 0o750), (site.state / "vault", 0o755), (site.state / "daemon", 0o701),
                       (site.state, 0o777)):
        whole = path.stat().st_mode & 0o7777
        path.chmod(mode)
        check_refused(site, f"{path.relative_to(site.state.parent)} with mode {mode:o}", "site", "start",
                      code="permission", says=[str(path), "open to other users"], mend=["chmod"])
        path.chmod(whole)
    secret = site.state / "vault/host.secret"
    secret.chmod(0o644)
    check_refused(site, "the vault's secret with mode 644", "site", "start", code="permission", says=["host.secret"],
                  mend=["chmod"])
    secret.chmod(0o600)
    if os.geteuid() == 0:
        owner = (site.state / "vault").stat().st_uid
        os.chown(site.state / "vault", 12345, 12345)
        check_refused(site, "the vault of another user", "site", "start", code="permission", says=["belongs to user 12345"],
                      mend=["chown"])
        os.chown(site.state / "vault", owner, owner)
    config = site.state / "site.json"
    text = config.read_text()
    config.write_text(text[:len(text) // 2])
    check_refused(site, "a site.json cut short", "site", "start", code=("invalid_argument", "corrupt"), says=["site.json"])
    config.write_text(text)
    site.start()
    # What is wrong with one VM's directories stops that VM alone.
    site.cli("vm", "stop", "web", "--force", check=False)
    site.wait_idle("web")
    vm = site.state / "vms" / site.vm_id("web")
    for path, mode in ((vm, 0o755), (vm / "journal", 0o744)):
        whole = path.stat().st_mode & 0o7777
        path.chmod(mode)
        check_refused(site, f"{path.relative_to(site.state)} with mode {mode:o}", "vm", "start", "web", code="permission",
                      says=[str(path), "open to other users"], mend=["chmod"])
        path.chmod(whole)


def two_daemons(site):
    step("two daemons on one state directory")
    pids = site.pids()
    check_refused(site, "a second start", "site", "start", code="conflict",
                  says=[f"process {site.launcher.pid}", str(site.state)], mend=["site show", "site restart"])
    check_refused(site, "a second start in the foreground", "site", "start", "--foreground", code="conflict")
    binaries = site.argv()[0].parent
    for program, owner, words in (("holdfast-vault", site.uid_base, ["--dir", site.state / "vault"]),
                                  ("holdfastd", site.uid_base + 1, ["--state", site.state]),
                                  ("holdfast-keeper", site.uid_base + 16, [])):
        done = run([binaries / program, *words], check=False, **({"user": owner, "group": owner} if site.uid_base else {}))
        said = message_of(done.stderr, f"{program} by hand")
        check(done.returncode == 1, f"{program} by hand, beside the running one: {said['cause']} | {said['effect']} | "
                                    f"{said['mend']}")
    check(site.pids() == pids, "the first site's processes go on as they were")
    check_refused(site, "a second init", "site", "init", "--name", "again", "--listen", "127.0.0.1:1", code="exists",
                  says=["holds a site"])


def foreign_directory(processes, directory):
    step("a failed init in somebody's directory")
    site = Site(processes, directory, "foreign", 640000)
    (site.state / "run").mkdir(parents=True)
    (site.state / "run/file").write_text("precious")
    site.state.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(site.state, 71001, 71001)
    before = site.state.stat()
    check_refused(site, "an init where something lies", "site", "init", "--name", "north", "--listen", "127.0.0.1:1",
                  code="exists", says=["is not empty"], snapshot=False)
    after = site.state.stat()
    check((site.state / "run/file").read_text() == "precious" and
          (before.st_uid, before.st_mode, before.st_ino) == (after.st_uid, after.st_mode, after.st_ino),
          "the directory is as it was")
    fresh = Site(processes, directory / "deep/er", "fresh", 640000)
    check_refused(fresh, "an init without the secret's file", "site", "init", "--name", "north", "--listen", "127.0.0.1:1",
                  "--secret-file", directory / "missing", code=("not_found", "permission", "invalid_argument", "internal"), snapshot=False)
    check(not (directory / "deep").exists(), "what it made is gone, with the directories above it")


def wrong_secret(processes, directory):
    step("a wrong vault secret")
    site = Site(processes, directory, "locked", 620000)
    secret = directory / "secret"
    vault_uid = site.uid_base or os.geteuid()
    right, wrong = "a passphrase of eight words or more\n", "another passphrase of eight words or more\n"

    def put(text, mode=0o600):
        secret.write_text(text)
        os.chown(secret, vault_uid, vault_uid)
        secret.chmod(mode)

    try:
        put(right)
        site.init("--secret-file", secret)
        site.start()
        site.cli("vm", "create", "one", "--blank", "1M", "--memory", "256M")
        site.stop()
        put(wrong)
        check_refused(site, "a wrong vault secret", "site", "start", code="wrong_key", says=[str(secret), "not the one"],
                      mend=["right secret", "site start"])
        put("short")
        check_refused(site, "a vault secret of 5 bytes", "site", "start", code=("invalid_argument", "wrong_key"))
        put(right, 0o644)
        check_refused(site, "a vault secret that others can read", "site", "start", code="permission", mend=["chmod"])
        secret.unlink()
        check_refused(site, "a vault secret that is missing", "site", "start", code="not_found", says=[str(secret)])
        put(right.rstrip("\n"))
        site.start()
        check(site.json("vm", "show", "one")["key"]["version"] == 1, "with the right secret it starts and has its keys")
        site.stop()
    finally:
        site.end()


def damaged_replica(processes, directory):
    step("a damaged replica")
    home, away = Site(processes, directory, "home", 660000), Site(processes, directory, "away", 680000)
    try:
        for site in (home, away):
            site.init()
            site.start()
        pair(home, away)
        home.vm_create("web", [random_file(directory / "replicated.img", 4 * MIB)], "--memory", "256M")
        home.cli("vm", "start", "web")
        home.cli("protection", "enable", "web", "--to", "away")
        wait_protected(home, "web")
        replica = away.state / "vms" / home.vm_id("web") / "journal"
        home.kill_whole()
        closed = sorted(replica.glob("segment-*"))[0]
        segment, manifest = Segment(closed), (replica / "MANIFEST").read_bytes()
        for what, path, damaged in (
                ("a flipped bit in a replica's record", closed, segment.flipped(4096 + 192 + 70_000)),
                ("a flipped bit in a replica's close", closed, segment.flipped(segment.close + 192 + 40)),
                ("a flipped bit in a replica's extent table", closed, segment.flipped(segment.table + 17)),
                ("a replica's segment cut short", closed, segment.data[:segment.table + 40]),
                ("a replica's MANIFEST cut short", replica / "MANIFEST", manifest[:200])):
            whole = path.read_bytes()
            path.write_bytes(damaged)
            check_refused(away, what, "failover", "unplanned", "web", "--source-is-off", "--yes", code="corrupt",
                          says=[path.name, str(replica)], mend=["copy"])
            path.write_bytes(whole)
        away.cli("failover", "unplanned", "web", "--source-is-off", "--yes")
        check(away.json("vm", "show", "web")["state"] == "running", "restored, the replica is taken over")
    finally:
        home.end()
        away.end()


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 510000)
        try:
            check_refused(site, "a start where no site is", "site", "start", code="not_found", mend=["site init"],
                          snapshot=False)
            foreign_directory(processes, directory)
            site.init()
            check_refused(site, "a daemon that does not run", "vm", "list", code="unavailable", mend=["site start"])
            site.start()
            disk_images(site, directory)
            journal_damage(site, directory)
            empty_rollover(site, directory)
            two_daemons(site)
            peers_and_tokens(processes, directory, site)
            modes(site)
            wrong_secret(processes, directory)
            site.end()
            damaged_replica(processes, directory)
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
