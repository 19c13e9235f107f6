"""UEFI variables in a variable store's image, changed from the host: a second, independent writer for tests.

The store is EDK2's: a firmware volume header, then the authenticated variable store header, then records with 4-byte
alignment (EDK2 MdeModulePkg/Include/Guid/VariableFormat.h). Writing lays all live records out anew.
"""

import pathlib
import struct
import uuid

from .process import Failure, run

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SECURE_BOOT_ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
NV_BS, NV_BS_RT, TIME_AUTHENTICATED = 3, 7, 0x27

_X509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
_SHA256 = "c1c41626-504c-4092-aca9-41f936934328"
_OWNER = "48464854-0000-4000-8000-000000000000"
_STORE_OFFSET, _STORE_HEADER_BYTES, _RECORD_BYTES = 0x48, 28, 60
_LIVE = (0x3F, 0x3E)  # added; added and about to be replaced
_VENDOR = {"PK": GLOBAL, "KEK": GLOBAL, "db": IMAGE_SECURITY, "dbx": IMAGE_SECURITY, "MokList": SHIM, "MokListX": SHIM}

_REGION_BYTES, _WORKING_AT, _SPARE_AT = 0x40000, 0x41000, 0x42000  # OVMF's 4 MiB builds


def _guid(text):
    return uuid.UUID(text).bytes_le


def certificate_list(*certificates):
    """EFI_SIGNATURE_LISTs, one a certificate (PEM files): the value of PK, KEK, db or MokList."""
    out = b""
    for path in certificates:
        der = run_bytes(["openssl", "x509", "-in", path, "-outform", "DER"])
        out += _guid(_X509) + struct.pack("<III", 28 + 16 + len(der), 0, 16 + len(der)) + _guid(_OWNER) + der
    return out


def hash_list(*digests):
    """One EFI_SIGNATURE_LIST of SHA-256 image digests: the value of dbx, or a part of db."""
    body = b"".join(_guid(_OWNER) + digest for digest in digests)
    return _guid(_SHA256) + struct.pack("<III", 28 + len(body), 0, 48) + body


def run_bytes(argv):
    import subprocess
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, argv))}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def make_key(directory, name, common_name=None):
    """A fresh signing key with a certificate of its own: (key, certificate), both PEM files."""
    key, certificate = pathlib.Path(directory) / f"{name}.key", pathlib.Path(directory) / f"{name}.pem"
    run(["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650", "-subj",
         f"/CN={common_name or 'Holdfast test ' + name}", "-keyout", key, "-out", certificate])
    return key, certificate


class Variables:
    def __init__(self, image):
        self.image = bytearray(pathlib.Path(image).read_bytes())
        self.records = {}  # (name, vendor): (attributes, time, data)
        size, = struct.unpack_from("<I", self.image, _STORE_OFFSET + 16)
        self.end = _STORE_OFFSET + size
        at = _STORE_OFFSET + _STORE_HEADER_BYTES
        while at + _RECORD_BYTES <= self.end and struct.unpack_from("<H", self.image, at)[0] == 0x55AA:
            state, attributes = self.image[at + 2], struct.unpack_from("<I", self.image, at + 4)[0]
            name_bytes, data_bytes = struct.unpack_from("<II", self.image, at + 36)
            vendor = str(uuid.UUID(bytes_le=bytes(self.image[at + 44:at + 60])))
            name = self.image[at + 60:at + 60 + name_bytes].decode("utf-16le").rstrip("\0")
            start = at + 60 + name_bytes
            if state in _LIVE:
                self.records[name, vendor] = (attributes, bytes(self.image[at + 16:at + 32]),
                                              bytes(self.image[start:start + data_bytes]))
            at = (start + data_bytes + 3) // 4 * 4

    def get(self, name, vendor=None):
        """The variable's data, or None."""
        found = self.records.get((name, vendor or _VENDOR[name]))
        return found and found[2]

    def set(self, name, data, vendor=None, attributes=None):
        """Sets a variable; of PK, KEK, db, dbx and the MOK lists vendor and attributes are known. None removes it."""
        vendor = vendor or _VENDOR[name]
        if data is None:
            self.records.pop((name, vendor), None)
            return
        attributes = attributes or (NV_BS if vendor == SHIM else TIME_AUTHENTICATED)
        time = struct.pack("<HBBBBBBIhBB", 2026, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0) if attributes == TIME_AUTHENTICATED else bytes(16)
        self.records[name, vendor] = (attributes, time, data)

    def append(self, name, data):
        self.set(name, (self.get(name) or b"") + data)

    def own_keys(self, certificate, *db):
        """PK, KEK and db of one's own, an empty dbx, Secure Boot on. db: further certificates in db."""
        for name in ("PK", "KEK"):
            self.set(name, certificate_list(certificate))
        self.set("db", certificate_list(certificate, *db))
        self.set("dbx", hash_list(bytes(32)))
        self.set("SecureBootEnable", b"\1", SECURE_BOOT_ENABLE, NV_BS)

    def write(self, path):
        body = b""
        for (name, vendor), (attributes, time, data) in self.records.items():
            wide = (name + "\0").encode("utf-16le")
            body += struct.pack("<HBBIQ16sIII", 0x55AA, 0x3F, 0, attributes, 0, time, 0, len(wide), len(data))
            body += _guid(vendor) + wide + data
            body += b"\xff" * (-len(body) % 4)
        start = _STORE_OFFSET + _STORE_HEADER_BYTES
        if start + len(body) > self.end:
            raise Failure("the variables do not fit in their store")
        image = bytearray(self.image)
        image[start:self.end] = body + b"\xff" * (self.end - start - len(body))
        pathlib.Path(path).write_bytes(image)
        return pathlib.Path(path)


def cut_reclaim(path, first_lost):
    """The store as the firmware leaves it when it is cut off while it writes the reclaimed variables back: its copy in
    the spare blocks is complete, and what the region holds from first_lost on is erased."""
    image = bytearray(path.read_bytes())
    image[_SPARE_AT:_SPARE_AT + _REGION_BYTES] = image[:_REGION_BYTES]
    image[first_lost:_REGION_BYTES] = b"\xff" * (_REGION_BYTES - first_lost)
    write, record = _WORKING_AT + 32, _WORKING_AT + 72
    image[write] = 0xFC
    struct.pack_into("<QQ", image, write + 24, 1, 0)
    image[record] = 0xFD
    struct.pack_into("<QQQq", image, record + 8, 0, 0x48, _REGION_BYTES - 0x48, -_SPARE_AT)
    path.write_bytes(image)
