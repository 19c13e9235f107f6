"""What a site that was paired properly has once its root has turned: the keys of its vault, taken out of the vault's own files
(docs/formats/vault.md), and what can be signed and wrapped with them. Needs python3-cryptography."""

import hashlib
import hmac
import os
import struct
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
import datetime

_FILE = struct.Struct("<4sHHII32s")
KIND_TITLE, KIND_KEY = 9, 2


def hkdf(key, salt, info):
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\1", "sha256")


def crc32c(data, _table=[]):
    if not _table:
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
            _table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, size):
        part = self.data[self.at:self.at + size]
        if len(part) != size:
            raise ValueError("cut off")
        self.at += size
        return part

    def number(self, form):
        return struct.unpack("<" + form, self.raw(struct.calcsize("<" + form)))[0]

    def blob(self):
        return self.raw(self.number("I"))


def open_sealed(data, key):
    """(kind, clear, sealed) of a file of the vault's."""
    _, _, kind, clear, sealed, salt = _FILE.unpack_from(data)
    head = data[:_FILE.size + clear]
    return kind, head[_FILE.size:], AESGCM(hkdf(key, salt, b"holdfast vault file v1")).decrypt(
        bytes(12), data[len(head):len(head) + sealed], head)


def seal(kind, clear, key, sealed=b""):
    salt = os.urandom(32)
    head = _FILE.pack(b"HFVF", 1, kind, len(clear), len(sealed) + 16, salt) + clear
    whole = head + AESGCM(hkdf(key, salt, b"holdfast vault file v1")).encrypt(bytes(12), sealed, head)
    return whole + struct.pack("<I", crc32c(whole))


class Turned:
    """The keys of `site`, as its root reads them."""

    def __init__(self, site):
        self.vault = site.state / "vault"
        data = (self.vault / "site.hfv").read_bytes()
        clear_size, = struct.unpack_from("<I", data, 8)
        clear = Reader(data[_FILE.size:_FILE.size + clear_size])
        clear.raw(1 + 8 + 4 + 4)
        salt = clear.raw(32)
        clear.raw(16 + 8)
        self.site = clear.raw(16)
        self.name = clear.blob().decode()
        self.ca_pem = clear.blob()
        root = hkdf((self.vault / "host.secret").read_bytes(), salt, b"holdfast vault root v1")
        keys = Reader(open_sealed(data, root)[2])
        self.kek = keys.raw(32)
        self.signing = Ed25519PrivateKey.from_private_bytes(keys.raw(32))
        keys.blob()
        self.ca_key = serialization.load_der_private_key(keys.blob(), None)

    def sign(self, label, data):
        return self.signing.sign(label + data)

    def leaf(self, directory):
        """Certificate and key for connections between sites, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.load_pem_x509_certificate(self.ca_pem)
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .issuer_name(ca.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"holdfast:site:{self.site.hex()}")]), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .sign(self.ca_key, hashes.SHA256()))
        path = directory / f"leaf-{self.name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + self.ca_pem + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return path

    def title(self, vm):
        """The VM's statements as its vault keeps them, oldest first."""
        clear = Reader(open_sealed((self.vault / f"title-{vm.hex()}.hfv").read_bytes(), self.kek)[1])
        clear.raw(16 + 8 + 32)
        if clear.number("B"):
            clear.raw(32 + 8 + 32 + 8)
        return decode_chain(clear.blob())

    def wrap(self, vm, key, identity):
        """The VM's key for the site of that `identity` (vault_words.SITE_IDENTITY's answer)."""
        reader = Reader(identity)
        recipient, _, _ = reader.raw(16), reader.blob(), reader.blob()
        public = serialization.load_pem_public_key(reader.blob())
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        head = struct.pack("<4sHH16s16sII16s16s32sQQ", b"HFWB", 1, 1, vm, sha256(b"holdfast gsp key id v1" + key)[:16], 1,
                           public.key_size // 8, self.site, recipient, sha256(der), int(time.time() * 1e6), 0)
        sealed = public.encrypt(key, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), sha256(head)))
        return head + sealed + self.sign(b"holdfast key wrap v1", head + sealed)

    def certificate(self, vm, key):
        """The journal key's, of a VM with that key."""
        seed = hkdf(key, vm, b"holdfast journal signing v1" + struct.pack("<I", 1))
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        body = struct.pack("<4sHH16s16sII32s", b"HFJC", 1, 0, self.site, vm, 1, 0, public)
        return body + self.sign(b"holdfast journal certificate v1", body)


def sha256(data):
    return hashlib.sha256(data).digest()


# -- Titles (docs/formats/title.md, src/title/statement.h)

KINDS = ("create", "protect", "stand by", "policy", "rewind", "hand-over", "resign", "expel", "take", "go on", "give up", "join",
         "end", "checkpoint")
KIND = {name: number for number, name in enumerate(KINDS, 1)}
NOBODYS, SOURCE_IS_OFF, WITHOUT_PEER, LOST, DISTRUSTED, GIVEN_UP, START_POLICY = range(7)
MEMBER, SEEDED, STANDBY = range(3)
_STATEMENT = struct.Struct("<4sHBB16s32s32s16s16sQQIB3x32sQ32s32s")
NOWHERE = (bytes(32), 0, bytes(32))


class Statement:
    """`members`: {site: standing}."""

    def __init__(self, **fields):
        self.kind = self.word = self.start_after = 0
        self.vm, self.follows, self.beside, self.origin = bytes(16), bytes(32), bytes(32), bytes(32)
        self.issuer = self.holder = bytes(16)
        self.epoch, self.time, self.line, self.members, self.signature = 1, 0, NOWHERE, {}, bytes(64)
        self.__dict__.update(fields)

    def bytes(self):
        head = _STATEMENT.pack(b"HFTS", 1, self.kind, self.word, self.vm, self.follows, self.beside, self.issuer, self.holder,
                               self.epoch, self.time, self.start_after, len(self.members), *self.line, self.origin)
        return head + b"".join(site + bytes((standing,)) + bytes(7) for site, standing in sorted(self.members.items()))

    def digest(self):
        return sha256(b"holdfast title digest v1" + self.bytes())

    def signed_by(self, turned):
        self.signature = turned.sign(b"holdfast title statement v1", self.bytes())
        return self

    def signed(self):
        return self.bytes() + self.signature

    def vm_id(self):
        return self.vm if any(self.vm) else self.digest()[:16]

    def then(self, kind, issuer, **changes):
        """What `issuer` might sign after it; not signed yet."""
        return Statement(**{**self.__dict__, "kind": KIND[kind], "word": NOBODYS, "vm": self.vm_id(), "follows": self.digest(),
                            "beside": bytes(32), "issuer": issuer, "origin": bytes(32), "time": int(time.time() * 1e6),
                            "members": dict(self.members), **changes})

    def take(self, issuer, **changes):
        """The take that a member may sign."""
        members = {**self.members, issuer: MEMBER, self.holder: MEMBER}
        return self.then("take", issuer, **{"word": SOURCE_IS_OFF, "holder": issuer, "epoch": self.epoch + 1, "members": members,
                                            **changes})


def decode_statement(data):
    magic, _, kind, word, vm, follows, beside, issuer, holder, epoch, at, after, count, incarnation, sequence, chain, origin = (
        _STATEMENT.unpack_from(data))
    if magic != b"HFTS":
        raise ValueError("no statement")
    members = {}
    for i in range(count):
        place = _STATEMENT.size + 24 * i
        members[data[place:place + 16]] = data[place + 16]
    return Statement(kind=kind, word=word, vm=vm, follows=follows, beside=beside, issuer=issuer, holder=holder, epoch=epoch,
                     time=at, start_after=after, line=(incarnation, sequence, chain), origin=origin, members=members,
                     signature=data[_STATEMENT.size + 24 * count:][:64])


def create(turned, origin=None):
    return Statement(kind=KIND["create"], issuer=turned.site, holder=turned.site, time=int(time.time() * 1e6),
                     origin=origin or os.urandom(32), members={turned.site: MEMBER}).signed_by(turned)


def bundle(statements):
    return struct.pack("<4sHHII", b"HFTB", 1, 0, len(statements), 0) + b"".join(
        struct.pack("<I", len(one.signed())) + one.signed() for one in statements)


def decode_bundle(data):
    return _statements(Reader(data[16:]), struct.unpack_from("<I", data, 8)[0]) if data else []


def decode_chain(data):
    reader = Reader(data)
    _, _, _, rivals = reader.raw(4), reader.raw(2), reader.raw(1), reader.number("B")
    reader.raw(16 + 32 + 8)
    count = reader.number("I")
    reader.raw(4 + 32 * rivals)
    return _statements(reader, count)


def _statements(reader, count):
    return [decode_statement(reader.blob()) for _ in range(count)]


def encode_chain(vm, statements, in_doubt=False):
    """As a vault keeps it; the last of them is the head, and there are no rivals."""
    return struct.pack("<4sHBB16s32sQII", b"HFTC", 1, int(in_doubt), 0, vm, statements[-1].digest(), 0, len(statements), 0) + (
        bundle(statements)[16:])


def put_title(turned, vm, statements):
    """The title of a VM in a vault that does not run; what it had of freshness stays."""
    path = turned.vault / f"title-{vm.hex()}.hfv"
    clear = open_sealed(path.read_bytes(), turned.kek)[1]
    reader = Reader(clear)
    reader.raw(16 + 8 + 32)
    if reader.number("B"):
        reader.raw(32 + 8 + 32 + 8)
    before, at = clear[:reader.at], encode_chain(vm, statements)
    kind, = struct.unpack_from("<H", path.read_bytes(), 6)
    path.write_bytes(seal(kind, before + struct.pack("<I", len(at)) + at, turned.kek))


# As src/title/refusal.h has them, in its order.
CAUSES = ("foreign vm", "foreign create", "bad signature", "unknown issuer", "not entitled", "wrong members", "wrong holder",
          "wrong epoch", "wrong line", "wrong policy", "not two chains", "expelled", "rival of issuer", "too deep", "too many rivals",
          "too fast", "too many at once", "bytes out of form", "other head", "no title", "not holder", "is holder", "not member",
          "not standby", "not being seeded", "already", "too many members", "rival", "no rival", "in doubt", "no line",
          "line not whole", "peer not whole", "not on our line", "not prepared", "processes alive", "not accepted", "not asked",
          "not answered", "answer too old", "peer other head", "standby silent", "holder answers", "holder silent", "word needed",
          "word unknown", "word of other", "not crossed", "nobody silent", "ended", "tombstone gone", "branch first",
          "policy unanchored", "other tenure", "not yet")


def view(reader):
    """A vault's view of a title: (head, rivals), as bytes."""
    head = reader.blob()
    rivals = [reader.blob() for _ in range(reader.number("I"))]
    reader.raw(1 + 8)
    reader.raw(32 * reader.number("I"))
    return head, rivals


def learned(body):
    """What a vault answers to TITLE_LEARN."""
    reader = Reader(body)
    view(reader)
    changed, fence = reader.number("B"), reader.number("B")
    reader.raw(32 * reader.number("I"))
    refused = {}
    for _ in range(reader.number("I")):
        digest = reader.raw(32)
        refused[digest] = CAUSES[reader.number("B")]
    return {"changed": bool(changed), "fence": bool(fence), "refused": refused}


def judged(body):
    """What a vault answers to TITLE_TAKE_ANSWER: "taken", or why not."""
    return "taken" if body[0] else CAUSES[body[1]]


def signed(body):
    """And to TITLE_PROPOSE: "signed", or why not."""
    return "signed" if body[0] else CAUSES[body[1]]


# -- Questions and answers about a title (src/title/answer.h, src/vault/protocol/titles.h)

QUESTION = struct.Struct("<16s16s16s32s32s")  # VM, asker, asked, nonce, head
ACCEPTS, WHOLE, PREPARED, IN_DOUBT = 1, 2, 4, 8


def question(vm, asker, asked, head, nonce=None):
    return QUESTION.pack(vm, asker, asked, nonce or os.urandom(32), head)


def answer(turned, asked, head, says=ACCEPTS, line=NOWHERE, rivals=()):
    """A signed answer of `turned` to the question `asked`."""
    vm, asker, us, nonce, about = QUESTION.unpack(asked)
    body = struct.pack("<4sHBB16s16s16s32s32s32s32sQ32s", b"HFTA", 1, says, len(rivals), vm, us, asker, nonce, about, head,
                       *line) + b"".join(rivals)
    return body + turned.sign(b"holdfast title answer v1", body)
