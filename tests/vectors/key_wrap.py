#!/usr/bin/env python3
"""Makes src/vault/core/wrap_vector.inc: a key wrap (docs/formats/vault.md, "Wrap") by another hand.

Everything is computed here from the standards (RFC 8017 RSAES-OAEP, RFC 8032 Ed25519), with Python's
integers and hashlib and no cryptographic library, from fixed seeds: the same output every time. The
C++ test opens it, so the two agree on the format, or the test fails.
"""
import hashlib
import random
import struct


def sha256(data):
    return hashlib.sha256(data).digest()


# --- RSA -------------------------------------------------------------------------------------
def is_prime(n, rng):
    for p in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        if n % p == 0:
            return n == p
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for _ in range(24):
        x = pow(rng.randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def prime(bits, rng):
    while True:
        n = rng.getrandbits(bits) | 3 << (bits - 2) | 1
        if n % 65537 != 1 and is_prime(n, rng):
            return n


def der(tag, body):
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def integer(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


RSA_ALGORITHM = der(0x30, bytes.fromhex("06092a864886f70d010101") + b"\x05\x00")


def mgf1(seed, size):
    out = b"".join(sha256(seed + struct.pack(">I", i)) for i in range((size + 31) // 32))
    return out[:size]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def oaep(n, e, label, message, seed):
    k = (n.bit_length() + 7) // 8
    block = sha256(label) + bytes(k - len(message) - 66) + b"\x01" + message
    masked = xor(block, mgf1(seed, k - 33))
    em = b"\x00" + xor(seed, mgf1(masked, 32)) + masked
    return pow(int.from_bytes(em, "big"), e, n).to_bytes(k, "big")


# --- Ed25519, RFC 8032 section 6 ----------------------------------------------------------------
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    w, x, y, z = f - e, h - g, h + g, f + e
    return (w * x % P, y * z % P, x * y % P, w * z % P)


def multiply(s, a):
    r = (0, 1, 1, 0)
    while s:
        if s & 1:
            r = add(r, a)
        a, s = add(a, a), s >> 1
    return r


GY = 4 * pow(5, P - 2, P) % P
GX2 = (GY * GY - 1) * pow(D * GY * GY + 1, P - 2, P) % P
GX = pow(GX2, (P + 3) // 8, P)
if (GX * GX - GX2) % P:
    GX = GX * pow(2, (P - 1) // 4, P) % P
if GX & 1:
    GX = P - GX
G = (GX, GY, 1, GX * GY % P)


def compress(a):
    z = pow(a[2], P - 2, P)
    x, y = a[0] * z % P, a[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def expand(seed):
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & ((1 << 254) - 8) | (1 << 254), h[32:]


def public_of(seed):
    return compress(multiply(expand(seed)[0], G))


def sign(seed, message):
    a, prefix = expand(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % Q
    big_r = compress(multiply(r, G))
    h = int.from_bytes(hashlib.sha512(big_r + public_of(seed) + message).digest(), "little") % Q
    return big_r + ((r + h * a) % Q).to_bytes(32, "little")


# --- the wrap ---------------------------------------------------------------------------------
def main():
    rng = random.Random("holdfast key wrap vector 1")
    e = 65537
    p, q = sorted((prime(1536, rng), prime(1536, rng)), reverse=True)
    n, d = p * q, pow(e, -1, (p - 1) * (q - 1))
    private = der(0x30, b"".join(map(integer, (
        0, n, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)))))
    pkcs8 = der(0x30, integer(0) + RSA_ALGORITHM + der(4, private))
    spki = der(0x30, RSA_ALGORITHM + der(3, b"\x00" + der(0x30, integer(n) + integer(e))))

    key = bytes(range(32))
    key_id = sha256(b"holdfast gsp key id v1" + key)[:16]
    seed = bytes([0x5E] * 32)
    header = struct.pack("<4sHH16s16sII16s16s32sQQ", b"HFWB", 1, 1, bytes([0xA1] * 16), key_id, 3,
                         384, bytes([0xB2] * 16), bytes([0xC3] * 16), sha256(spki),
                         1760000000000000, 0)
    assert len(header) == 128
    blob = header + oaep(n, e, sha256(header), key, bytes([0xD4] * 32))
    blob += sign(seed, b"holdfast key wrap v1" + blob)

    print("// Made by tests/vectors/key_wrap.py. Do not edit.")
    for name, value in (("kPkcs8", pkcs8), ("kSigner", public_of(seed)), ("kKey", key),
                        ("kKeyId", key_id), ("kBlob", blob)):
        print(f"constexpr std::string_view {name} =")
        text = value.hex()
        lines = [f'    "{text[i:i + 92]}"' for i in range(0, len(text), 92)]
        print("\n".join(lines) + ";")


if __name__ == "__main__":
    main()
