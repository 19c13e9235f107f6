#!/usr/bin/env python3
# timeout: 240
# programs: holdfast-keeper holdfast-vault
"""What a keeper knows and says of its VM's boot, asked on its control socket; no QEMU: tpm2-tools play the guest.

The record of extends against tpm2_pcrread; enrolment through the vault; quotes checked by tpm2_checkquote while the guest
works, evicts the key, clears the TPM; a TPM that is not the enrolled one refused; Secure Boot's variables edited, saved and
brought back; the attestation record over kill -9; hostile requests.
"""

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import socket
import struct
import threading

from lib import vault_words
from lib.keeper import Keeper, Vault
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main, step
from lib.tpm_machine import TpmMachine
from lib.uefi_vars import cut_reclaim

DISK = 16 << 20
AK_HANDLE = "0x8101ff00"
EXIT = b"Exit Boot Services Invocation"
RECORD_MAX = (1 << 20) - 48


def b64(data):
    return base64.b64encode(data).decode()


def answer(keeper, op, **arguments):
    reply = keeper.control(op, **arguments)
    if not reply.get("ok"):
        raise Failure(f"{op}: {reply}")
    return reply


def refusal(keeper, op, **arguments):
    reply = keeper.control(op, **arguments)
    if reply.get("ok") is not False or not reply["error"]["cause"]:
        raise Failure(f"{op} {arguments} was not refused: {reply}")
    return reply["error"]


def refused_code(keeper, op, **arguments):
    return refusal(keeper, op, **arguments)["code"]


def measurements(keeper):
    page = answer(keeper, "measurements")
    extends = page["extends"]
    while len(extends) < page["total"]:
        extends += answer(keeper, "measurements", **{"from": len(extends)})["extends"]
    return page["boot"], extends


def replay(extends, bank="sha256"):
    size = hashlib.new(bank).digest_size
    pcrs = {pcr: (b"\xff" if 17 <= pcr <= 22 else b"\0") * size for pcr in range(24)}
    for extend in extends:
        if extend.get("kind", "extend") == "reset":
            pcrs[extend["pcr"]] = bytes(size)
        elif extend.get("kind", "extend") == "extend":
            value = pcrs[extend["pcr"]] + bytes.fromhex(extend["digests"][bank])
            pcrs[extend["pcr"]] = hashlib.new(bank, value).digest()
        else:
            raise Failure(f"a change of another kind: {extend}")
    return {str(pcr): value.hex() for pcr, value in pcrs.items()}


def the_record_is_the_tpms(keeper, machine):
    boot, extends = measurements(keeper)
    pcrs = answer(keeper, "pcrs")["pcrs"]
    told = {number: value.lower() for number, value in
            re.findall(r"^\s+(\d+)\s*: 0x([0-9A-F]+)$", machine.tool("tpm2_pcrread", "sha256").stdout, re.M)}
    if not (replay(extends) == pcrs["sha256"] == told and list(pcrs) == ["sha256"] and boot["complete"]):
        raise Failure(f"record, pcrs and tpm2_pcrread differ: {boot} {extends} {pcrs} {told}")
    return boot, extends


def records_what_tpm2_tools_extend(keeper, machine, directory):
    check(answer(keeper, "measurements")["boot"]["id"] == "0" * 16, "before the first power-on there is no boot")
    check(refused_code(keeper, "pcrs") == "unavailable", "no PCRs while the TPM is off")
    machine.power_on()
    check(refused_code(keeper, "pcrs") == "unavailable", "nor before the firmware has started it up")
    machine.tool("tpm2_startup", "-c")
    event = directory / "event"
    event.write_bytes(b"a command line")
    machine.tool("tpm2_pcrextend", f"0:sha256={'11' * 32}", f"4:sha256={'22' * 32}")
    machine.tool("tpm2_pcrevent", "8", event)
    machine.tool("tpm2_pcrextend", f"16:sha256={'33' * 32}")
    machine.tool("tpm2_pcrreset", "16")
    check(machine.tool("tpm2_pcrextend", f"17:sha256={'44' * 32}", check=False).returncode != 0, "PCR 17 takes no extend at locality 0")
    machine.tool("tpm2_pcrextend", f"5:sha256={hashlib.sha256(EXIT).hexdigest()}")
    boot, extends = the_record_is_the_tpms(keeper, machine)
    seen = [(extend["pcr"], extend.get("kind"), extend["digests"].get("sha256")) for extend in extends]
    check(seen == [(0, None, "11" * 32), (4, None, "22" * 32), (8, None, hashlib.sha256(b"a command line").hexdigest()),
                   (16, None, "33" * 32), (16, "reset", None), (5, None, hashlib.sha256(EXIT).hexdigest())],
          "extends, events and resets stand in the record in order, refused ones do not")
    check(boot["exit_boot_services"] == 5 and boot["exit_us"] == extends[5]["time_us"] >= boot["started_us"], "the hand-over is recognised")
    for i in range(300):
        machine.command(bytes.fromhex("80020000004100000182" "0000000a" "00000009" "40000009" "0000" "00" "0000" "00000001" "000b")
                        + struct.pack(">II", i, 0) * 4)
    boot_id = boot["id"]
    boot, extends = the_record_is_the_tpms(keeper, machine)
    check(len(extends) == 306 and boot["id"] == boot_id, "306 changes in two pages replay to tpm2_pcrread")
    machine.power_on()
    machine.tool("tpm2_startup", "-c")
    boot, extends = the_record_is_the_tpms(keeper, machine)
    check(boot["id"] != boot_id and not extends, "a reset begins a new record")


def enrol(keeper, vault):
    keys = answer(keeper, "attestation_key")
    challenge, id_object, secret = vault.enroll(keeper.vm, *(base64.b64decode(keys[name]) for name in
                                                             ("ek_public", "ek_certificate", "ak_public")))
    opened = answer(keeper, "activate_credential", id_object=b64(id_object), encrypted_secret=b64(secret))
    check(refused_code(keeper, "activate_credential", id_object=b64(id_object[:-1] + bytes([id_object[-1] ^ 1])),
                       encrypted_secret=b64(secret)) == "wrong_key", "a credential for another key stays closed")
    return keys, vault.certify(keeper.vm, challenge, base64.b64decode(opened["secret"]))


def enrols_through_the_vault(keeper, vault, directory):
    keys, (name, public, certificate) = enrol(keeper, vault)
    check(name.hex() == keys["ak_name"] and struct.pack(">H", len(public)) + public == base64.b64decode(keys["ak_public"]),
          "the TPM opened the vault's challenge, and its key is pinned")
    (directory / "ca.pem").write_text(vault.ca_pem())
    (directory / "ak.pem").write_text(certificate)
    run(["openssl", "verify", "-x509_strict", "-CAfile", directory / "ca.pem", directory / "ak.pem"])
    text = run(["openssl", "x509", "-noout", "-text", "-in", directory / "ak.pem"]).stdout
    check(f"URI:holdfast:vm:{keeper.vm.hex()}" in text and "2.23.133.8.3" in text, "openssl verifies its certificate; it names the VM")
    (directory / "ek.der").write_bytes(base64.b64decode(keys["ek_certificate"]))
    check("2.23.133.8.1" in run(["openssl", "x509", "-inform", "DER", "-in", directory / "ek.der", "-noout", "-text"]).stdout,
          "the EK's certificate is read from the TPM")
    (directory / "ak.pub").write_text(run(["openssl", "x509", "-in", directory / "ak.pem", "-noout", "-pubkey"]).stdout)


def signs_verdicts(vault, directory):
    """openssl checks what the vault signs by the key set that it publishes."""
    key, = vault.key_set()["keys"]
    leaf, ca = (base64.b64decode(certificate) for certificate in key["x5c"])
    (directory / "leaf.der").write_bytes(leaf)
    run(["openssl", "x509", "-inform", "DER", "-in", directory / "leaf.der", "-out", directory / "leaf.pem"])
    run(["openssl", "verify", "-x509_strict", "-CAfile", directory / "ca.pem", directory / "leaf.pem"])
    (directory / "leaf.pub").write_text(run(["openssl", "x509", "-in", directory / "leaf.pem", "-noout", "-pubkey"]).stdout)
    point = base64.urlsafe_b64decode(key["x"] + "=") + base64.urlsafe_b64decode(key["y"] + "=")
    thumbprint = json.dumps({name: key[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    check(point in leaf and ca and key["kid"] == base64.urlsafe_b64encode(hashlib.sha256(thumbprint.encode()).digest()).decode().rstrip("="),
          "the key set has the key of its certificate, under its RFC 7638 name")
    signing_input, _, signature = vault.sign_token(vault_words.verdict_claims()).rpartition(b".")
    numbers = base64.urlsafe_b64decode(signature + b"==")
    halves = b""
    for half in (numbers[:32], numbers[32:]):
        number = half.lstrip(b"\0")
        number = b"\0" * (number[0] >> 7) + number
        halves += bytes((2, len(number))) + number
    (directory / "token.sig").write_bytes(bytes((0x30, len(halves))) + halves)
    (directory / "token").write_bytes(signing_input)
    run(["openssl", "dgst", "-sha256", "-verify", directory / "leaf.pub", "-signature", directory / "token.sig", directory / "token"])
    step("ok: openssl verifies its signature over a token, and its certificate by the site's CA")


def quote(keeper, directory, selection=None):
    """A quote that tpm2_checkquote accepts, and refuses for another nonce."""
    nonce = os.urandom(32)
    made = answer(keeper, "quote", nonce=b64(nonce), selection=selection or {"sha256": [0, 4, 5, 7, 8, 16]})
    tag = nonce[:4].hex()
    message, signature = directory / f"quote-{tag}", directory / f"signature-{tag}"
    message.write_bytes(base64.b64decode(made["quote"]))
    signature.write_bytes(base64.b64decode(made["signature"]))
    checkquote = ["tpm2_checkquote", "-u", directory / "ak.pub", "-m", message, "-s", signature, "-g", "sha256", "-q"]
    run([*checkquote, nonce.hex()])
    if run([*checkquote, os.urandom(32).hex()], check=False).returncode == 0:
        raise Failure("tpm2_checkquote takes any nonce")
    attest = run(["tpm2_print", "-t", "TPMS_ATTEST", message]).stdout
    digest = re.search(r"pcrDigest: ([0-9a-f]+)", attest)[1]
    values = b"".join(bytes.fromhex(value) for bank in made["pcrs"].values() for value in bank.values())
    if hashlib.sha256(values).hexdigest() != digest:
        raise Failure(f"the values given are not those quoted: {made['pcrs']} {attest}")
    return made


def quotes_while_the_guest_works(keeper, machine, directory):
    made = quote(keeper, directory)
    boot, extends = measurements(keeper)
    check(made["boot_id"] == boot["id"] and made["total"] == len(extends), "tpm2_checkquote accepts the quote; it says where in the record")
    failures = []
    done = threading.Event()

    def guest():
        context = directory / "primary.ctx"
        with contextlib.suppress(Failure):
            while not done.is_set():
                machine.tool("tpm2_createprimary", "-Q", "-c", context)
                machine.tool("tpm2_pcrextend", f"10:sha256={os.urandom(32).hex()}")
                machine.tool("tpm2_flushcontext", "-t")
            return
        failures.append("the guest's tools failed beside the host's quotes")

    worker = threading.Thread(target=guest)
    worker.start()
    for _ in range(20):
        quote(keeper, directory, {"sha256": list(range(24))})
    done.set()
    worker.join()
    if failures:
        raise Failure(failures[0])
    boot, extends = the_record_is_the_tpms(keeper, machine)
    step(f"ok: 20 quotes between a guest's commands ({len(extends)} extends meanwhile), neither disturbs the other")
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", AK_HANDLE)
    quote(keeper, directory)
    machine.tool("tpm2_clear", "-c", "p", check=False)
    machine.tool("tpm2_clear", "-c", "l")
    quote(keeper, directory)
    step("ok: the same key quotes after the guest evicted it, and after it cleared the TPM")
    # All three places for loaded keys taken, as by a program on /dev/tpm0 without a resource manager.
    for i in range(3):
        machine.tool("tpm2_createprimary", "-Q", "-c", directory / f"held{i}.ctx")
    taken = machine.tool("tpm2_getcap", "handles-transient").stdout
    refused = refusal(keeper, "quote", nonce=b64(b"n" * 16), selection={"sha256": [0]})
    check(refused["code"] == "unavailable" and "busy" in refused["cause"], "a guest that holds all places is waited for, then left alone")
    check(machine.tool("tpm2_getcap", "handles-transient").stdout == taken and len(taken.split()) == 6, "its keys are where they were")
    machine.tool("tpm2_flushcontext", "-t")
    quote(keeper, directory)


def survives_kill(keeper, machine):
    record = os.urandom(RECORD_MAX)
    check(answer(keeper, "attestation_get")["data"] is None, "no attestation record at first")
    for data in (b"{}", record):
        answer(keeper, "attestation_put", data=b64(data))
        keeper.process.kill()
        keeper.start(successor=True)
        keeper.wait_serving()
        if base64.b64decode(answer(keeper, "attestation_get")["data"]) != data:
            raise Failure(f"an attestation record of {len(data)} bytes was answered for and is not there")
    step(f"ok: an attestation record of up to {RECORD_MAX} bytes outlives kill -9 of the keeper that answered for it")
    check(refused_code(keeper, "attestation_put", data=b64(record + b"x")) == "limit", "one byte more is refused")
    boot = answer(keeper, "measurements")["boot"]
    check(not boot["complete"] and boot["id"] == "0" * 16, "the successor says that it does not know the running guest's boot")
    check(refused_code(keeper, "quote", nonce=b64(b"n" * 16), selection={"sha256": [0]}) == "unavailable", "and that the TPM is gone till the machine restarts")
    machine.unplug()


def saved_names(keeper):
    return [entry["name"] for entry in answer(keeper, "secure_boot")["saved"]]


def store_image(keeper, directory, name):
    path = directory / name
    path.unlink(missing_ok=True)
    run(["nbdcopy", keeper.uri("vars"), path])
    return path.read_bytes()


def edits_secure_boot(keeper, directory):
    before = store_image(keeper, directory, "before")
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=Test signer",
         "-keyout", directory / "db.key", "-out", directory / "db.pem"])
    run(["cert-to-efi-sig-list", "-g", "11111111-2222-3333-4444-555555555555", directory / "db.pem", directory / "db.esl"])
    esl = (directory / "db.esl").read_bytes()
    change = {"changes": [{"variable": "db", "action": "append", "data": b64(esl)}]}
    shown = answer(keeper, "secure_boot")
    check(shown["variables"]["enabled"] and all(shown["variables"][name] for name in ("PK", "KEK", "db", "dbx")), "shows the keys of the Microsoft template")
    answer(keeper, "secure_boot_save", name="before-edit")
    with socket.socket(socket.AF_UNIX) as qemu:
        qemu.connect(str(keeper.socket_path("vars")))
        qemu.recv(8)
        for op, arguments in (("secure_boot_edit", change), ("secure_boot_restore", {"name": "before-edit"})):
            check(refused_code(keeper, op, **arguments) == "conflict", f"{op} is refused while someone has the store open")
    result = answer(keeper, "secure_boot_edit", **change)["results"][0]
    check(result["added"] == 1 and "db" in result["words"], f"says what it did: {result['words']}")
    keeper.process.kill()
    keeper.start()
    keeper.wait_serving()
    after = store_image(keeper, directory, "after")
    der = run(["openssl", "x509", "-in", directory / "db.pem", "-outform", "DER", "-out", directory / "db.der"]) and \
        (directory / "db.der").read_bytes()
    check(der in after and der not in before and len(after) == len(before), "after kill -9 the store that QEMU would read has the new key")
    (directory / "after.esl").write_bytes(base64.b64decode(answer(keeper, "secure_boot")["variables"]["db"]))
    run(["sig-list-to-certs", directory / "after.esl", directory / "cert"])
    certificates = [path.read_bytes() for path in directory.glob("cert-*.der")]
    check(der in certificates and len(certificates) >= 3, f"efitools reads db: {len(certificates)} certificates, ours among them")
    answer(keeper, "secure_boot_restore", name="before-edit")
    check(store_image(keeper, directory, "restored") == before, "one command back: the store is what it was, byte for byte")
    broken = {"changes": [*change["changes"], {"variable": "db", "action": "append", "data": b64(esl[:-1])}]}
    refused_code(keeper, "secure_boot_edit", **broken)
    check(store_image(keeper, directory, "unchanged") == before, "of several changes all or none is made")
    for i in range(7):
        answer(keeper, "secure_boot_save", name=f"copy-{i}")
    check(refused_code(keeper, "secure_boot_save", name="one-more") == "limit", "a ninth saved copy is refused")
    answer(keeper, "secure_boot_save", name="before-edit")
    answer(keeper, "secure_boot_forget", name="copy-0")
    answer(keeper, "secure_boot_save", name="one-more")
    check(refused_code(keeper, "secure_boot_restore", name="copy-0") == "not_found" and
          saved_names(keeper) == [*(f"copy-{i}" for i in range(1, 7)), "before-edit", "one-more"], "copies have names, and make room when given up")


def ends_a_cut_reclaim(keeper, directory):
    """The guest was killed while its firmware wrote the reclaimed variables back: OVMF may not start from that."""
    before = answer(keeper, "secure_boot")["variables"]
    path = directory / "cut.fd"
    path.write_bytes(store_image(keeper, directory, "whole"))
    cut_reclaim(path, 0)
    run(["nbdcopy", path, keeper.uri("vars")])
    keeper.process.kill()
    keeper.start(successor=True)
    keeper.wait_serving()
    check(store_image(keeper, directory, "under-a-guest") == path.read_bytes(), "under a running guest the store is left to its firmware")
    keeper.stop()
    keeper.start()
    keeper.wait_serving()
    check(answer(keeper, "secure_boot")["variables"] == before and
          store_image(keeper, directory, "ended")[:0x1000] == (directory / "whole").read_bytes()[:0x1000],
          "before the next guest the reclaim that was cut off is ended: the variables are there again")


def another_tpm_is_refused(processes, vault, site, keeper, directory):
    """The same VM on another vTPM's state, as an attacker or a mistake would have it."""
    keeper.stop()
    (vault.dir / f"freshness-{keeper.vm.hex()}.hfv").unlink()
    other_directory = directory / "other"
    other_directory.mkdir()
    other = Keeper(processes, other_directory, vault, site, {"disk1": DISK}, vm=keeper.vm)
    other.create()
    other.start()
    other.wait_serving()
    machine = TpmMachine(other.socket_path("tpm"), other_directory)
    machine.power_on()
    machine.tool("tpm2_startup", "-c")
    pinned = vault.pinned(keeper.vm)[0].hex()
    keys = answer(other, "attestation_key")
    refused = refusal(other, "quote", nonce=b64(b"n" * 16), selection={"sha256": [0]})
    check(keys["ak_name"] != pinned and refused["code"] == "wrong_key" and pinned in refused["cause"],
          "a vTPM that is not the enrolled one is not asked to quote")
    try:
        enrol(other, vault)
    except Failure as failure:
        check("not the one that VM" in str(failure), "nor does the vault enrol its key")
    else:
        raise Failure("another vTPM's key was enrolled over the pinned one")
    machine.unplug()
    other.stop()


def bad_requests(keeper):
    good = {"op": "quote", "nonce": b64(bytes(16)), "selection": {"sha256": [0]}}
    for bad in ({"nonce": b64(bytes(65))}, {"nonce": ""}, {"nonce": "%%"}, {"nonce": 5}, {"selection": {}}, {"selection": {"md5": [0]}},
                {"selection": {"sha256": []}}, {"selection": {"sha256": [24]}}, {"selection": {"sha256": [-1]}},
                {"selection": {"sha256": ["0"]}}, {"selection": {"sha256": [0, 0]}}, {"selection": {"sha256": [2**64 - 1]}}, {"selection": [0]}):
        if refused_code(keeper, **{**good, **bad}) != "invalid_argument":
            raise Failure(f"quote with {bad}")
    for op, arguments in (("measurements", {"from": -1}), ("measurements", {"from": "x"}), ("attestation_put", {}), ("attestation_put", {"data": "!"}),
                          ("secure_boot_edit", {"changes": []}), ("secure_boot_edit", {"changes": [5]}),
                          ("secure_boot_edit", {"changes": [{"variable": "Boot0000", "action": "set", "data": "AAAA"}]}),
                          ("secure_boot_edit", {"changes": [{"variable": "db", "action": "eat", "data": ""}]}),
                          ("secure_boot_edit", {"changes": [{"variable": "db", "action": "set", "data": "AAAA"}] * 65}),
                          ("secure_boot_save", {"name": "../x"}), ("secure_boot_save", {"name": "x" * 65}), ("secure_boot_restore", {"name": "none"}),
                          ("activate_credential", {"id_object": b64(bytes(4000)), "encrypted_secret": ""})):
        refusal(keeper, op, **arguments)
    rng = random.Random(3)
    line = bytearray(json.dumps(good).encode())
    for _ in range(300):
        mutated = bytearray(line)
        for _ in range(rng.randrange(1, 6)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(keeper.socket_path("control")))
            link.sendall(bytes(mutated).replace(b"\n", b" ") + b"\n")
            if not link.recv(1 << 16).startswith(b"{"):
                raise Failure(f"no answer to {bytes(mutated)!r}")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(keeper.socket_path("control")))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(64):
                link.sendall(b"x" * 65536)
            link.recv(1)
            raise Failure("a line without end is taken without end")
    # Asked and gone before the answer.
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(keeper.socket_path("control")))
            link.sendall(json.dumps({"op": "secure_boot"}).encode() + b"\n")

    def served_again():
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, Failure):
            return answer(keeper, "status")["state"] == "serving"

    check(wait_until(served_again, 10, "status after abandoned requests"), "bad, mutated, endless and abandoned requests change nothing")
    status = open(f"/proc/{keeper.process.pid}/status", encoding="ascii").read()
    check("\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status, "the keeper did all this within its sandbox")


def reads_boot_files(keeper, directory):
    """By ticket: what stands on the disk after the question, whatever is written meanwhile."""
    def read():
        ticket = answer(keeper, "boot_files")["ticket"]
        return wait_until(lambda: (found := answer(keeper, "boot_files", ticket=ticket))["reading"] is False and found, 30,
                          "a reading of the boot files", interval=0.05)

    blank = read()
    check(blank["report"]["boots"] == "no" and json.loads(blank["knowledge"])["files"] == [], "a blank disk boots nothing, and says so")
    check(refused_code(keeper, "boot_files", ticket=10**6) == refused_code(keeper, "boot_files", ticket=0) == "conflict"
          and refused_code(keeper, "boot_files", ticket="x") == "invalid_argument", "no such ticket")
    esp = directory / "esp.img"
    run(["truncate", "-s", "14M", esp])
    run(["mkfs.vfat", "--invariant", esp])
    run(["mmd", "-i", esp, "::EFI", "::EFI/BOOT", "::EFI/debian"])
    run(["mcopy", "-i", esp, "/usr/lib/shim/shimx64.efi.signed", "::EFI/BOOT/BOOTX64.EFI"])
    # A script that would grow without end, with bytes that no JSON holds.
    (directory / "grub.cfg").write_bytes(b"set a=xxxxxxxx\xff\n" + b"set a=$a$a\n" * 60 + b"linux /$a \x1b[31m\xfe\n")
    run(["mcopy", "-i", esp, directory / "grub.cfg", "::EFI/debian/grub.cfg"])
    run(["mcopy", "-i", esp, "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "::EFI/BOOT/grubx64.efi"])
    run(["nbdcopy", esp, f"nbd+unix:///disk1?socket={keeper.socket_path('disk1')}"])
    found = read()
    signers = [signer for file in json.loads(found["knowledge"])["files"] for signer in file["signers"]]
    check(any("Microsoft" in signer for signer in signers) and any("Debian" in signer for signer in signers),
          f"boot files on it are read and named, {found['bytes']} bytes of the disk, though a script on it grows without end")
    for _ in range(50):
        answer(keeper, "boot_files")
    check(answer(keeper, "status")["state"] == "serving", "questions that nobody waits for are one reading")


def old_journal_without_a_store(processes, vault, site, directory):
    plain_directory = directory / "plain"
    plain_directory.mkdir()
    plain = Keeper(processes, plain_directory, vault, site, {"disk1": DISK}, vtpm=False)
    plain.create(uefi_template="")
    plain.start()
    plain.wait_serving()
    quote = refused_code(plain, "quote", nonce=b64(bytes(16)), selection={"sha256": [0]})
    check(refused_code(plain, "measurements") == quote == refused_code(plain, "secure_boot")
          == refused_code(plain, "boot_files") == "unsupported",
          "a VM without vTPM and variable store says so")
    answer(plain, "attestation_put", data=b64(b"policy"))
    plain.stop()
    plain.start()
    plain.wait_serving()
    check(base64.b64decode(answer(plain, "attestation_get")["data"]) == b"policy", "and still has an attestation record")
    plain.stop()


def test(directory):
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": DISK})
        keeper.create()
        keeper.start()
        keeper.wait_serving()
        check(answer(keeper, "attestation_key")["ek_certificate"] is not None, "the keys are known before the guest's first boot")
        machine = TpmMachine(keeper.socket_path("tpm"), directory)
        records_what_tpm2_tools_extend(keeper, machine, directory)
        enrols_through_the_vault(keeper, vault, directory)
        signs_verdicts(vault, directory)
        quotes_while_the_guest_works(keeper, machine, directory)
        survives_kill(keeper, machine)
        keeper.stop()
        keeper.start()
        keeper.wait_serving()
        edits_secure_boot(keeper, directory)
        ends_a_cut_reclaim(keeper, directory)
        machine = TpmMachine(keeper.socket_path("tpm"), directory, "later")
        machine.power_on()
        machine.tool("tpm2_startup", "-c")
        quote(keeper, directory)
        step("ok: the enrolled key quotes after kills and restarts")
        bad_requests(keeper)
        reads_boot_files(keeper, directory)
        machine.unplug()
        another_tpm_is_refused(processes, vault, site, keeper, directory)
        old_journal_without_a_store(processes, vault, site, directory)


main(test)
