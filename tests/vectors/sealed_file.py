#!/usr/bin/env python3
"""Makes src/vault/store/sealed_file_vector.inc: a sealed file (docs/formats/vault.md) by another hand.

AES-256 (FIPS 197), GCM (NIST SP 800-38D), HKDF (RFC 5869) and CRC-32C (RFC 3720) are computed here with
Python's integers and hashlib, so the format does not stand on one implementation only.
"""
import hashlib
import hmac
import struct


def xtime(a):
    return (a << 1 ^ 0x1B) & 0xFF if a & 0x80 else a << 1


def gmul(a, b):
    out = 0
    while b:
        if b & 1:
            out ^= a
        a, b = xtime(a), b >> 1
    return out


def make_sbox():
    box = []
    for value in range(256):
        inverse = next((x for x in range(256) if gmul(value, x) == 1), 0)
        out = 0x63
        for shift in range(5):
            out ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box.append(out)
    return box


SBOX = make_sbox()


def expand_key(key):
    words = [list(key[i:i + 4]) for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        word = list(words[-1])
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = xtime(rcon)
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 60, 4)]


def encrypt_block(rounds, block):
    state = [a ^ b for a, b in zip(block, rounds[0])]
    for number, key in enumerate(rounds[1:], 1):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < 14:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column:column + 4]
                mixed += [gmul(a[i], 2) ^ gmul(a[(i + 1) % 4], 3) ^ a[(i + 2) % 4] ^ a[(i + 3) % 4]
                          for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def ghash_multiply(x, y):
    out = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            out ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return out


def gcm_seal(key, nonce, aad, plaintext):
    rounds = expand_key(key)
    h = int.from_bytes(encrypt_block(rounds, bytes(16)), "big")
    ciphertext = b""
    for i in range(0, len(plaintext), 16):
        stream = encrypt_block(rounds, nonce + struct.pack(">I", 2 + i // 16))
        ciphertext += bytes(a ^ b for a, b in zip(plaintext[i:i + 16], stream))
    padded = b"".join(part + bytes(-len(part) % 16) for part in (aad, ciphertext))
    padded += struct.pack(">QQ", 8 * len(aad), 8 * len(ciphertext))
    y = 0
    for i in range(0, len(padded), 16):
        y = ghash_multiply(y ^ int.from_bytes(padded[i:i + 16], "big"), h)
    tag = y ^ int.from_bytes(encrypt_block(rounds, nonce + struct.pack(">I", 1)), "big")
    return ciphertext + tag.to_bytes(16, "big")


def hkdf(key, salt, info):
    prk = hmac.digest(salt, key, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def main():
    # SP 800-38D's test case 14 (AES-256, one zero block), so that a fault here shows here.
    assert gcm_seal(bytes(32), bytes(12), b"", bytes(16)).hex() == (
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
    assert crc32c(b"123456789") == 0xE3069283

    kek, salt = bytes([0x42] * 32), bytes(range(100, 132))
    plaintext = bytes(range(32))
    key_id = hashlib.sha256(b"holdfast gsp key id v1" + plaintext).digest()[:16]
    clear = struct.pack("<16sII16s16sQ32s", bytes([0xA1] * 16), 1, 0, key_id, bytes([0xB2] * 16),
                        1760000000000000, bytes([0x77] * 32))
    header = struct.pack("<4sHHII32s", b"HFVF", 1, 2, len(clear), len(plaintext) + 16, salt) + clear
    sealed = gcm_seal(hkdf(kek, salt, b"holdfast vault file v1"), bytes(12), header, plaintext)
    whole = header + sealed
    whole += struct.pack("<I", crc32c(whole))

    print("// Made by tests/vectors/sealed_file.py. Do not edit.")
    for name, value in (("kKek", kek), ("kClear", clear), ("kPlaintext", plaintext), ("kFile", whole)):
        print(f"constexpr std::string_view {name} =")
        text = value.hex()
        print("\n".join(f'    "{text[i:i + 92]}"' for i in range(0, len(text), 92)) + ";")


if __name__ == "__main__":
    main()
