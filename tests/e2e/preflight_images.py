#!/usr/bin/env python3
# timeout: 300
# programs: holdfast
"""`holdfast vm check` agrees with pesign, osslsigncode, sbverify and openssl on every boot program at hand.

Every EFI program of the Debian packages that are installed, and copies signed here with keys of our own, signed twice,
edited, cut short and stripped, is put on a disk as EFI/BOOT/BOOTX64.EFI. Compared are the Authenticode digest, who signed
it, and for one certificate after the other whether it would start with that one alone in db. Then whole disks: the probe
guest's with each part changed, other file systems and partition tables, images that are none.

Who stands behind a signature is asked of `openssl smime`: sbverify 0.9.4 accepts Microsoft's signatures under any
certificate, and pesigcheck refuses every one.
"""

import glob
import json
import os
import pathlib
import shutil

from lib import boot_chain, probe, uefi_vars
from lib.machine import VARS_MICROSOFT_KEYS
from lib.process import Failure, run
from lib.report import check, main, step

HOLDFAST = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast"
PROGRAMS = ("/usr/lib/shim/*.efi*", "/usr/lib/grub/*-signed/*.signed", "/usr/lib/systemd/boot/efi/*.efi*",
            "/usr/libexec/fwupd/efi/*.efi*", "/boot/vmlinuz-*", "/usr/lib/grub/x86_64-efi/monolithic/*.efi")
DEBIAN_CA = "/usr/share/shim/debian-uefi-ca.der"
SHIM = "/usr/lib/shim/shimx64.efi.signed"
KERNEL_ROOM_MIB = 24
SPC_INDIRECT_DATA = bytes.fromhex("2b060104018237020104")
MTOOLS = {"env": {**os.environ, "MTOOLS_SKIP_CHECK": "1"}}


def vm_check(disk, *words):
    """(report, exit status)."""
    done = run([HOLDFAST, "-o", "json", "vm", "check", disk, *words], check=False)
    if not done.stdout.startswith("{"):
        raise Failure(f"vm check {disk} {words}: status {done.returncode}, no report\n{done.stderr}")
    report = json.loads(done.stdout)
    if (done.returncode == 1) != (report["boots"] == "no"):
        raise Failure(f"vm check {disk}: boots {report['boots']}, but exit status {done.returncode}")
    return report


def fat_disk(path, files, bits=16, mib=KERNEL_ROOM_MIB):
    """A FAT file system that covers the whole disk. files: {path on it: file}"""
    path.unlink(missing_ok=True)
    with open(path, "wb") as disk:
        disk.truncate(mib << 20)
    sectors = {12: "16", 16: "4", 32: "1"}[bits]
    run(["mkfs.vfat", "-F", str(bits), "-s", sectors, "-n", "TEST", path])
    made = set()
    for name, source in files.items():
        parts = name.split("/")[:-1]
        for depth in range(len(parts)):
            directory = "/".join(parts[:depth + 1])
            if directory not in made:
                run(["mmd", "-i", path, f"::{directory}"], **MTOOLS)
                made.add(directory)
        run(["mcopy", "-i", path, source, f"::{name}"], **MTOOLS)
    return path


def make_store(path, name, data, vendor=None, attributes=None):
    """OVMF's store with Microsoft's keys, with one variable changed."""
    variables = uefi_vars.Variables(VARS_MICROSOFT_KEYS)
    variables.set(name, data, vendor, attributes)
    return variables.write(path)


class Certificates:
    """PEM files by name, and a variable store with each of them alone in db."""

    def __init__(self, directory):
        self.directory = directory
        self.files, self.stores = {}, {}

    def add(self, name, pem):
        self.files[name] = pem
        self.stores[name] = make_store(self.directory / f"{name}.fd", "db", uefi_vars.certificate_list(pem))

    def add_der(self, name, der):
        pem = self.directory / f"{name}.pem"
        run(["openssl", "x509", "-inform", "DER", "-in", der, "-out", pem])
        self.add(name, pem)

    def make(self, name, issuer=None):
        """A key pair; signed by itself, or by `issuer`. Returns (key, certificate)."""
        key, pem, request = (self.directory / f"{name}.{kind}" for kind in ("key", "pem", "csr"))
        if issuer is None:
            run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem, "-days", "9",
                 "-subj", f"/CN={name}"])
        else:
            run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}"])
            run(["openssl", "x509", "-req", "-in", request, "-CA", issuer[1], "-CAkey", issuer[0], "-CAcreateserial",
                 "-out", pem, "-days", "9"])
        self.add(name, pem)
        return key, pem


def der_length(raw, at):
    """(length, offset of the content) of the element whose length bytes begin at `at`."""
    first = raw[at]
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    return int.from_bytes(raw[at + 1:at + 1 + count], "big"), at + 1 + count


class Signature:
    """One signature of a program, taken out by sbattach, with what it covers."""

    def __init__(self, directory, program, number):
        self.file = directory / f"signature{number}"
        self.file.unlink(missing_ok=True)
        run(["sbattach", "--signum", str(number), "--detach", self.file, program], check=False)
        if not self.file.exists() or self.file.stat().st_size == 0:
            self.file = None
            return
        raw = self.file.read_bytes()
        at = raw.index(SPC_INDIRECT_DATA) + len(SPC_INDIRECT_DATA)
        _, at = der_length(raw, at + 1)  # [0]
        size, at = der_length(raw, at + 1)  # SpcIndirectDataContent
        self.content = directory / f"content{number}"
        self.content.write_bytes(raw[at:at + size])
        self.digest = raw[at + size - 32:at + size].hex()

    def issuers(self):
        text = run(["openssl", "pkcs7", "-inform", "DER", "-in", self.file, "-print_certs", "-noout"]).stdout
        return [line.rsplit("CN = ", 1)[-1] for line in text.splitlines() if line.startswith("issuer=")]

    def stands_under(self, pem):
        done = run(["openssl", "smime", "-verify", "-binary", "-inform", "DER", "-in", self.file, "-content", self.content,
                    "-CAfile", pem, "-no-CApath", "-no-CAstore", "-partial_chain", "-no_check_time", "-purpose", "any",
                    "-out", "/dev/null"], check=False)
        return done.returncode == 0


def signatures_of(directory, program):
    out = []
    for number in range(1, 5):
        signature = Signature(directory, program, number)
        if signature.file is None:
            break
        out.append(signature)
    return out


def compare_program(directory, program, certificates):
    """One program on a disk: digest, signatures, and whether it starts under each certificate."""
    disk = fat_disk(directory / "program.img", {"EFI/BOOT/BOOTX64.EFI": program})
    digest = run(["pesign", "-h", "-i", program]).stdout.split()[-1]
    signatures = signatures_of(directory, program)
    started = 0
    for name, store in certificates.stores.items():
        part = vm_check(disk, "--vars", store)["paths"][0]["parts"][0]
        # pesign hashes an unsigned program as it would stand after signing, padded to 8 bytes.
        if part["authenticode_sha256"] != digest and (signatures or os.path.getsize(program) % 8 == 0):
            raise Failure(f"{program}: Authenticode {part['authenticode_sha256']}, pesign says {digest}")
        if len(part["signatures"]) != len(signatures):
            raise Failure(f"{program}: {len(part['signatures'])} signatures, sbattach finds {len(signatures)}")
        for ours, theirs in zip(part["signatures"], signatures):
            if ours["covers_image"] != (theirs.digest == digest) or ours["issuer"] not in theirs.issuers():
                raise Failure(f"{program}: {ours}; the signature is over {theirs.digest} by {theirs.issuers()}")
        expected = any(one.digest == digest and one.stands_under(certificates.files[name]) for one in signatures)
        if (part["verdict"] == "allowed") != expected:
            raise Failure(f"{program} with {name} in db: {part['verdict']} ({part['reason']}), openssl says {expected}")
        started += expected
    return len(signatures), started


def compare_osslsigncode(program, digest):
    text = run(["osslsigncode", "verify", "-in", program], check=False).stdout
    lines = [line.split(":")[1].strip().lower() for line in text.splitlines() if line.startswith("Calculated message digest")]
    return lines and all(line == digest for line in lines)


def debian_programs(directory, certificates):
    programs = sorted({os.path.realpath(path) for pattern in PROGRAMS for path in glob.glob(pattern)
                       if os.path.getsize(path) > 4096 and not path.endswith(".old")})
    signed = starts = 0
    for program in programs:
        with open(program, "rb") as file:
            if file.read(2) != b"MZ":
                continue
        signatures, started = compare_program(directory, program, certificates)
        if signatures == 1:  # osslsigncode calls a table with two of them corrupt
            digest = run(["pesign", "-h", "-i", program]).stdout.split()[-1]
            if not compare_osslsigncode(program, digest):
                raise Failure(f"{program}: osslsigncode computes another digest than pesign")
        signed += signatures > 0
        starts += started
    check(signed >= 8 and starts >= 12, f"{len(programs)} programs of Debian, {signed} signed: digests, signers and "
          f"{starts} verdicts of \"allowed\" as pesign, osslsigncode, sbattach and openssl have them")


def own_programs(directory, certificates):
    """Signed, signed twice, edited, cut short, stripped: by keys made here."""
    root = certificates.make("Test Root")
    leaf = certificates.make("Test Leaf", issuer=root)
    other = certificates.make("Test Other")
    base = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    by_leaf, twice, edited, stripped, late = (directory / name for name in ("leaf", "twice", "edited", "stripped", "late"))
    run(["sbsign", "--key", leaf[0], "--cert", leaf[1], "--output", by_leaf, base])
    run(["sbsign", "--key", other[0], "--cert", other[1], "--output", twice, by_leaf])
    raw = bytearray(by_leaf.read_bytes())
    raw[len(raw) // 3] ^= 1
    edited.write_bytes(raw)
    late.write_bytes(by_leaf.read_bytes() + bytes(8))  # behind the certificate table
    shutil.copy(by_leaf, stripped)
    run(["sbattach", "--remove", stripped])
    for program in (by_leaf, twice, edited, stripped):
        compare_program(directory, program, certificates)
    for name, pem in (("Test Leaf", leaf[1]), ("Test Other", other[1])):
        signed = by_leaf if name == "Test Leaf" else twice
        if run(["sbverify", "--cert", pem, signed], check=False).returncode != 0:
            raise Failure(f"sbverify refuses {signed} under {name}")
    disk = fat_disk(directory / "late.img", {"EFI/BOOT/BOOTX64.EFI": late})
    verdict = vm_check(disk, "--vars", certificates.stores["Test Leaf"])["paths"][0]["parts"][0]["verdict"]
    check(verdict == "damaged", "bytes added behind the certificate table are found")
    cut = directory / "cut"
    for size in (100, 4000, len(raw) // 2, len(raw) - 1):
        cut.write_bytes(raw[:size])
        disk = fat_disk(directory / "cut.img", {"EFI/BOOT/BOOTX64.EFI": cut})
        part = vm_check(disk, "--vars", certificates.stores["Test Leaf"])["paths"][0]["parts"][0]
        if part["verdict"] != "damaged":
            raise Failure(f"cut to {size} bytes: {part}")
    check(True, "programs signed here, once and twice, edited, cut short and stripped are judged as openssl judges them")
    return leaf


def revocations(directory):
    disk = fat_disk(directory / "shim.img", {"EFI/BOOT/BOOTX64.EFI": SHIM})
    store = directory / "revoked.fd"
    shutil.copy(VARS_MICROSOFT_KEYS, store)
    before = vm_check(disk, "--vars", store)["paths"][0]["parts"][0]
    run([HOLDFAST, "-q", "secure-boot", "revoke", store, SHIM])
    after = vm_check(disk, "--vars", store)
    part = after["paths"][0]["parts"][0]
    check(before["verdict"] == "allowed" and part["verdict"] == "revoked" and "dbx revokes its digest" in part["reason"]
          and after["boots"] == "no", "a shim starts until its digest is in dbx")


def probe_disks(directory, certificates, leaf):
    image = directory / "probe.img"

    def outcome(variant, *words, key=None):
        shutil.copy(probe.image(), image)
        if variant:
            boot_chain.change_image(variant, image, key)
        return vm_check(image, *words)

    fresh = outcome(None)
    check(fresh["boots"] == "yes" and fresh["generation"] == "Gen2" and fresh["partition_style"] == "GPT"
          and [part["kind"] for part in fresh["paths"][0]["parts"]] == ["shim", "GRUB", "Linux kernel"],
          "the probe guest's disk: shim, GRUB, kernel, all allowed")
    refused = {"unsigned-kernel": ("vmlinuz", "unsigned"), "unsigned-grub": ("EFI/BOOT/grubx64.efi", "unsigned"),
               "unsigned-loader": ("EFI/BOOT/BOOTX64.EFI", "unsigned")}
    for variant, (path, verdict) in refused.items():
        report = outcome(variant)
        last = report["paths"][0]["parts"][-1]
        if report["boots"] != "no" or (last["path"], last["verdict"]) != (path, verdict):
            raise Failure(f"{variant}: {report['summary']}")
    for variant, path in (("signed-kernel", "vmlinuz"), ("signed-grub", "EFI/BOOT/grubx64.efi"),
                          ("signed-loader", "EFI/BOOT/BOOTX64.EFI")):
        report = outcome(variant, key=leaf)
        last = report["paths"][0]["parts"][-1]
        if report["boots"] != "no" or (last["path"], last["verdict"]) != (path, "not trusted"):
            raise Failure(f"{variant}: {report['summary']}")
    check(True, "each unsigned part, and each signed by a stranger, is named as what will not start")
    with_mok = make_store(directory / "mok.fd", "MokList", uefi_vars.certificate_list(leaf[1]))
    report = outcome("signed-kernel", "--vars", with_mok, key=leaf)
    check(report["boots"] == "yes" and "MokListRT" in report["paths"][0]["parts"][2]["reason"],
          "with the stranger's key in MokList its kernel starts")
    for variant in ("systemd-boot", "uki"):
        report = outcome(variant, "--vars", certificates.stores["Test Leaf"], key=leaf)
        kinds = [part["kind"] for part in report["paths"][0]["parts"]]
        if report["boots"] != "yes" or kinds[-1] != "unified kernel image":
            raise Failure(f"{variant}: {report['summary']} {kinds}")
        if outcome(variant, key=leaf)["boots"] != "no":
            raise Failure(f"{variant}: starts under Microsoft's keys")
    check(True, "systemd-boot with a unified kernel image, and that alone, start under their own key only")
    off = make_store(directory / "off.fd", "SecureBootEnable", b"\0", uefi_vars.SECURE_BOOT_ENABLE, uefi_vars.NV_BS)
    report = outcome("unsigned-loader", "--vars", off)
    check(report["boots"] == "yes" and report["paths"][0]["parts"][0]["verdict"] == "unsigned",
          "with Secure Boot off nothing is refused, and the verdict stands")


def file_systems(directory):
    files = {"EFI/BOOT/BOOTX64.EFI": SHIM, "EFI/BOOT/grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
             "EFI/debian/a long name that needs four entries of its directory.txt": DEBIAN_CA}
    digests = set()
    for bits, mib in ((12, 30), (16, 24), (32, 64)):
        disk = fat_disk(directory / f"fat{bits}.img", files, bits, mib)
        report = vm_check(disk)
        digests.add(tuple(part["authenticode_sha256"] for part in report["paths"][0]["parts"]))
    check(len(digests) == 1, "FAT12, FAT16 and FAT32 as mkfs.vfat and mtools write them give the same files")
    fat = (directory / "fat16.img").read_bytes()
    mbr = directory / "mbr.img"
    mbr.write_bytes(bytes(1 << 20) + fat + bytes(1 << 20))
    table = directory / "mbr.table"
    table.write_text(f"label: dos\n2048,{len(fat) // 512},ef,*\n")
    with open(table, encoding="ascii") as words:
        run(["sfdisk", "-q", mbr], stdin=words)
    report = vm_check(mbr)
    check(report["partition_style"] == "MBR" and report["paths"][0]["parts"][0]["verdict"] == "allowed",
          "an EFI system partition in an MBR is found")
    gpt = directory / "gpt.img"
    gpt.write_bytes(bytes(1 << 20) + fat + bytes(1 << 20))
    run(["sgdisk", "-n", f"3:2048:{2048 + len(fat) // 512 - 1}", "-t", "3:ef00", "-c", "3:ESP", gpt])
    report = vm_check(gpt)
    check(report["partitions"][0]["name"] == "ESP" and report["paths"][0]["parts"][0]["verdict"] == "allowed",
          "and one in a GPT, by sgdisk")
    raw = bytearray(gpt.read_bytes())
    raw[512 + 60] ^= 1
    gpt.write_bytes(raw)
    report = vm_check(gpt)
    check("primary partition table is damaged" in " ".join(report["warnings"])
          and report["paths"][0]["parts"][0]["verdict"] == "allowed", "a damaged primary table is named, the backup used")


def bad_images(directory):
    qcow2 = directory / "disk.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "8M"])
    zeros = directory / "zeros.img"
    zeros.write_bytes(bytes(1 << 20))
    cases = [(qcow2, "qemu-img convert -f qcow2 -O raw"), (directory / "nowhere", "ls -l"), (directory, "raw disk image")]
    for image, mend in cases:
        done = run([HOLDFAST, "vm", "check", image], check=False)
        if done.returncode != 1 or mend not in done.stderr:
            raise Failure(f"vm check {image}: {done.stderr}")
    done = run([HOLDFAST, "vm", "check", zeros], check=False)
    check(done.returncode == 1 and "no boot program was found" in done.stdout,
          "images that are none are refused with what to do; an empty disk boots nothing")


def test(directory):
    certificates = Certificates(directory)
    certificates.add_der("Debian CA", DEBIAN_CA)
    for number, signature in enumerate(signatures_of(directory, SHIM)):
        text = run(["openssl", "pkcs7", "-inform", "DER", "-in", signature.file, "-print_certs"]).stdout
        for index, block in enumerate(text.split("-----END CERTIFICATE-----")[:-1]):
            pem = directory / f"shim{number}{index}.pem"
            pem.write_text(block[block.index("-----BEGIN"):] + "-----END CERTIFICATE-----\n")
            certificates.add(f"shim signature {number}, certificate {index}", pem)
    step(f"{len(certificates.files)} certificates, each alone in db")
    debian_programs(directory, certificates)
    leaf = own_programs(directory, certificates)
    revocations(directory)
    file_systems(directory)
    probe_disks(directory, certificates, leaf)
    bad_images(directory)


if __name__ == "__main__":
    main(test)
