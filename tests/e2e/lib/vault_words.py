"""What crosses the vault's sockets (docs/formats/vault.md, "Protocol"), for tests that speak for the daemon or an operator."""

import base64
import hashlib
import socket
import ssl
import struct

SITE_IDENTITY, RELEASE, WRAP_FOR, IMPORT_WRAP, DELETE_KEY, ATTESTATION_SIGN = 0x0101, 0x0105, 0x010a, 0x010b, 0x010c, 0x0113
PROVE_PAIRING, CHECK_PAIRING, ACCEPT_PAIRING = 0x0115, 0x0116, 0x0117
TITLE, TITLE_LACKING, TITLE_LEARN, TITLE_ASK, TITLE_ANSWER, TITLE_TAKE_ANSWER, TITLE_PROPOSE = range(0x0118, 0x011f)
FETCH_KEY, PUT_FRESHNESS, OPEN_GATE, SHOW_LINE = 0x0201, 0x0202, 0x0208, 0x0209
OFFER_PAIRING, CONFIRM_PAIRING, PINNED_RECIPIENTS, REMOVE_RECIPIENT, ADD_MEMBER = range(0x0401, 0x0406)
GIVE_WORD = 0x0408


def ask(path, operation, body=b""):
    """b"closed", b"denied", b"absent", or the status as two bytes and what follows it."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(path))  # waits while others crowd in
        except PermissionError:
            return b"denied"
        except FileNotFoundError:
            return b"absent"
        link.settimeout(10)
        try:
            link.sendall(struct.pack("<4sHHII", b"HFVP", 1, operation, 1, len(body)) + body)
            answer = b""
            while len(answer) < 16 or len(answer) < 16 + struct.unpack_from("<I", answer, 12)[0]:
                more = link.recv(65536)
                if not more:
                    return b"closed"
                answer += more
        except ConnectionError:
            return b"closed"
    return answer[16:]


def blob(data):
    return struct.pack("<I", len(data)) + data


def blobs(data, count):
    parts, at = [], 0
    for _ in range(count):
        size, = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return parts


def token_secret(token):
    """Out of a pairing token's text (docs/formats/peer.md)."""
    return base64.urlsafe_b64decode(token + "==")[86:118]


def token_id(secret):
    return hashlib.sha256(b"holdfast pairing token id v1" + secret).digest()[:16]


def confirmation(secret, identity, name=b""):
    """An operator's word for the site whose `identity` is as SITE_IDENTITY answers it."""
    _, ca, _ = blobs(identity[16:], 3)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.decode())).digest()
    return identity[:16] + fingerprint + hashlib.sha256(identity).digest() + secret + blob(name)


def verdict_claims(vm=None, words=b"all is well", policy=b"linux:0123456789abcdef", code=b"note"):
    """A Healthy verdict with one reason, valid for an hour."""
    trust = b"\1\2" + 7 * b"\0\0"
    return (b"".join((b"\1" + vm if vm else b"\0", struct.pack("<Q", 1), bytes(32), struct.pack("<Q", 7),
                      bytes((1 if vm else 0, 1, 1)), trust, b"\1", blob(policy), blob(b""), blob(b""), b"\1", blob(code),
                      blob(words), struct.pack("<I", 3600))))
