#!/usr/bin/env python3
# timeout: 240
# programs: holdfast holdfast-vtpm-server holdfast-attest-bench
"""Attestation with tools that are not ours: evidence made with plain tpm2-tools is judged as tpm2_checkquote judges it,
credentials open in tpm2_activatecredential, and tokens pass between Holdfast and PyJWT.

Two TPMs, swtpm and Holdfast's own vTPM. Each is extended as a real boot's event log says, so that quote and log belong
together.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import time

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from lib.process import Processes, run
from lib.report import check, main, step

BIN = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin"))
LOG = pathlib.Path(__file__).resolve().parents[1] / "corpus/event_logs/holdfast-shim-grub.bin"
PCRS = "sha256:" + ",".join(str(pcr) for pcr in range(16))
NONCE = bytes(range(32))
POLICY = {"version": 1, "name": "quoted", "extends": "linux", "baseline": "optional",
          "evidence": {"quote": "required", "event_log": "required", "attestation_key": "any"}}


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def holdfast(*arguments, check=True):
    return run([BIN / "holdfast", *arguments], timeout=20, check=check)


class Tpm:
    def __init__(self, processes, directory, name):
        self.directory = directory / name
        self.directory.mkdir()
        self.name, self.socket = name, self.directory / "tpm"
        state = self.directory / "state"
        if name == "swtpm":
            state.mkdir()
            argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server",
                    f"type=unixio,path={self.socket}", "--ctrl", f"type=unixio,path={self.socket}.ctrl",
                    "--flags", "startup-clear"]
        else:
            argv = [BIN / "holdfast-vtpm-server", "--state", state, "--control", self.directory / "control",
                    "--tcti", self.socket, "--power-on"]
        server = processes.start(argv, name=name)
        processes.wait_for_socket(server, f"{self.socket}.ctrl")
        if name == "swtpm":
            self("createek", "-c", "0x81010001", "-G", "rsa", "-u", "ek-rsa.pub")
            self("flushcontext", "-t")

    def __call__(self, tool, *arguments, check=True):
        return run([f"tpm2_{tool}", *arguments], timeout=30, check=check, cwd=self.directory,
                   env={**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.socket}"})

    def path(self, name):
        return self.directory / name

    def read(self, name):
        return self.path(name).read_bytes()


def extends_of(log):
    """(PCR, SHA-256) of every measured event, as tpm2_eventlog reads them."""
    text = run(["tpm2_eventlog", log]).stdout
    found = []
    for event in text.split("- EventNum:")[1:]:
        digest = re.search(r'AlgorithmId: sha256\s+Digest: "([0-9a-f]{64})"', event)
        if digest and "EV_NO_ACTION" not in event:
            found.append((int(re.search(r"PCRIndex: (\d+)", event)[1]), digest[1]))
    return found


def pcr_values(tpm):
    lines = tpm("pcrread", PCRS).stdout.splitlines()
    return {match[1]: match[2].lower() for line in lines
            if (match := re.match(r"\s*(\d+)\s*:\s*0x([0-9A-Fa-f]{64})$", line))}


def make_evidence(tpm, kind, group, hash_name, scheme):
    """What a person in a guest does: three tools and a few lines of glue."""
    tpm("createak", "-Q", "-C", "0x81010001", "-c", f"{kind}.ctx", "-G", group, "-g", hash_name, "-s", scheme,
        "-u", f"{kind}.pub", "-n", f"{kind}.name")
    tpm("flushcontext", "-t")
    tpm("quote", "-Q", "-c", f"{kind}.ctx", "-l", PCRS, "-q", NONCE.hex(), "-g", hash_name, "--scheme", scheme,
        "-m", f"{kind}.quote", "-s", f"{kind}.signature", "-o", f"{kind}.pcrs")
    tpm("flushcontext", "-t")
    return {"version": 1, "nonce": b64url(NONCE), "pcrs": {"sha256": pcr_values(tpm)},
            "event_log": base64.b64encode(LOG.read_bytes()).decode(),
            **{member: base64.b64encode(tpm.read(f"{kind}.{suffix}")).decode()
               for member, suffix in (("quote", "quote"), ("signature", "signature"), ("ak_public", "pub"))}}


class Judge:
    def __init__(self, directory):
        self.evidence, self.policy = directory / "evidence.json", directory / "policy.json"
        self.policy.write_text(json.dumps(POLICY))

    def __call__(self, evidence, nonce=NONCE, *more):
        self.evidence.write_text(json.dumps(evidence))
        done = holdfast("attest", "appraise", self.evidence, "--policy", self.policy, "--nonce", b64url(nonce),
                        "-o", "json", *more, check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def checkquote(tpm, kind, nonce=NONCE, quote=None, signature=None):
    for suffix, changed in (("quote", quote), ("signature", signature)):
        tpm.path(f"check.{suffix}").write_bytes(changed or tpm.read(f"{kind}.{suffix}"))
    return tpm("checkquote", "-u", f"{kind}.pub", "-m", "check.quote", "-s", "check.signature", "-f", f"{kind}.pcrs",
               "-q", nonce.hex(), check=False).returncode == 0


def openssl_agrees(tpm, kind, nonce, quote, signature):
    """tpm2_checkquote 5.4 checks every RSA signature as PKCS #1 v1.5: PSS is left to OpenSSL."""
    pem = tpm("print", "-t", "TPM2B_PUBLIC", "-f", "pem", f"{kind}.pub").stdout
    key = serialization.load_pem_public_key(pem.encode())
    try:
        key.verify(signature[6:], quote, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO), hashes.SHA256())
    except InvalidSignature:
        return False
    return nonce in quote


def agrees(tpm, kind, nonce=NONCE, quote=None, signature=None):
    if kind != "rsapss":
        return checkquote(tpm, kind, nonce, quote, signature)
    return openssl_agrees(tpm, kind, nonce, quote or tpm.read(f"{kind}.quote"), signature or tpm.read(f"{kind}.signature"))


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def quotes(processes, directory):
    judge = Judge(directory)
    extends = extends_of(LOG)
    check(len(extends) > 40, f"the boot's log has {len(extends)} measurements")
    for name in ("swtpm", "vtpm"):
        tpm = Tpm(processes, directory, name)
        tpm("pcrextend", *(f"{pcr}:sha256={digest}" for pcr, digest in extends))
        kinds = [("rsassa", "rsa", "sha256", "rsassa"), ("rsapss", "rsa", "sha256", "rsapss"),
                 ("ecdsa", "ecc", "sha256", "ecdsa"), ("ecdsa384", "ecc384", "sha384", "ecdsa")]
        for kind, *parameters in kinds:
            evidence = make_evidence(tpm, kind, *parameters)
            status, verdict, error = judge(evidence)
            check(status == 0 and verdict["verdict"] == "Healthy" and agrees(tpm, kind),
                  f"{name}, {kind}: accepted by both {error}")
            named = tpm.read(f"{kind}.name").hex()
            check(judge(evidence, NONCE, "--ak-name", named)[0] == 0, f"{name}, {kind}: the key's name is tpm2-tools'")
            refusals(tpm, kind, evidence, judge)
        other = judge(evidence, NONCE, "--ak-name", tpm.read("rsassa.name").hex())
        check(other[0] == 1 and other[1]["verdict"] == "Unhealthy", f"{name}: another key than the enrolled one is refused")
        credentials(tpm)


def refusals(tpm, kind, evidence, judge):
    """What one refuses the other refuses."""
    quote, signature = tpm.read(f"{kind}.quote"), tpm.read(f"{kind}.signature")

    def both(what, changed, **theirs):
        status, verdict, _ = judge({**evidence, **changed}, theirs.get("nonce", NONCE))
        ours = status == 1 and verdict.get("verdict") == "Unhealthy"
        check(ours and not agrees(tpm, kind, **theirs), f"{tpm.name}, {kind}: {what}, refused by both")

    both("an old nonce", {}, nonce=NONCE[::-1])
    for at in (50, len(quote) - 1):
        changed = flip(quote, at)
        both(f"octet {at} of the quote", {"quote": base64.b64encode(changed).decode()}, quote=changed)
    changed = flip(signature, len(signature) - 9)
    both("the signature", {"signature": base64.b64encode(changed).decode()}, signature=changed)
    pcrs = {"sha256": {**evidence["pcrs"]["sha256"], "4": "00" * 32}}
    check(judge({**evidence, "pcrs": pcrs})[1]["verdict"] == "Unhealthy", f"{tpm.name}, {kind}: another PCR 4, refused")
    log = flip(LOG.read_bytes(), 3000)
    check(judge({**evidence, "event_log": base64.b64encode(log).decode()})[1]["verdict"] == "Unhealthy",
          f"{tpm.name}, {kind}: an edited event log, refused")


def credentials(tpm):
    """tpm2_activatecredential opens what Holdfast makes, and what tpm2_makecredential makes beside it."""
    secret = tpm.path("secret")
    secret.write_bytes(os.urandom(32))
    endorsement = [("0x81010001", True)] + ([("0x81010016", False)] if tpm.name == "vtpm" else [])
    for handle, needs_policy in endorsement:
        tpm("readpublic", "-Q", "-c", handle, "-o", "ek.pub")
        name = tpm.read("ecdsa.name").hex()
        holdfast("attest", "make-credential", "--ek", tpm.path("ek.pub"), "--ak", tpm.path("ecdsa.pub"),
                 "--secret", secret, "--out", tpm.path("ours"))
        tpm("makecredential", "-Q", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name, "-o", "theirs")
        for maker in ("ours", "theirs"):
            authorization = []
            if needs_policy:
                tpm("startauthsession", "--policy-session", "-S", "session")
                tpm("policysecret", "-Q", "-S", "session", "-c", "e")
                authorization = ["-P", "session:session"]
            tpm("activatecredential", "-Q", "-c", "ecdsa.ctx", "-C", handle, "-i", maker, "-o", "opened", *authorization)
            check(tpm.read("opened") == secret.read_bytes(), f"{tpm.name}: EK {handle} opens the credential, {maker}")
            if needs_policy:
                tpm("flushcontext", "session")
            tpm("flushcontext", "-t")


def our_token_by_pyjwt(_, directory):
    run([BIN / "holdfast-attest-bench", LOG, "2", "1", "0", "1", "2", directory], timeout=60)
    keys = json.loads((directory / "jwks.json").read_text())
    jwk = keys["keys"][0]
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    check(jwk["kid"] == b64url(hashlib.sha256(canonical.encode()).digest()), "the kid is the RFC 7638 thumbprint")
    for number in (0, 1):
        token = (directory / f"{number}.token").read_text()
        header = jwt.get_unverified_header(token)
        key = jwt.PyJWKSet.from_dict(keys)
        found = next(one for one in key.keys if one.key_id == header["kid"])
        claims = jwt.decode(token, found.key, algorithms=["ES256"])
        boot = claims["submods"]["boot"]
        check(claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04" and boot["ear_status"] == "affirming"
              and claims["holdfast"]["verdict"] == "Healthy", f"token {number} verifies with PyJWT {jwt.__version__}")
        nonce = bytes.fromhex((directory / f"{number}.nonce").read_text())
        done = holdfast("attest", "verify", f"@{directory / f'{number}.token'}", "--jwks", directory / "jwks.json",
                        "--nonce", b64url(nonce), "--vm", claims["holdfast"]["vm"], "-o", "json")
        check(json.loads(done.stdout) == claims, "and holdfast attest verify reads the same claims")
        other = holdfast("attest", "verify", f"@{directory / f'{number}.token'}", "--jwks", directory / "jwks.json",
                         "--nonce", b64url(nonce[::-1]), check=False)
        check(other.returncode == 1 and "nonce" in other.stderr, "for another nonce it is refused")


def their_token_by_us(_, directory):
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    public_pem = key.public_key().public_bytes(serialization.Encoding.PEM,
                                               serialization.PublicFormat.SubjectPublicKeyInfo)
    other_rsa = rsa.generate_private_key(65537, 2048)
    jwks = directory / "their-jwks.json"
    jwks.write_text(json.dumps({"keys": [
        {"kty": "RSA", "kid": "rsa", "n": b64url(other_rsa.public_key().public_numbers().n.to_bytes(256, "big")), "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "k", "x": b64url(numbers.x.to_bytes(32, "big")),
         "y": b64url(numbers.y.to_bytes(32, "big"))}]}))
    claims = {"eat_profile": "tag:ietf.org,2026:rats/ear#04", "iat": int(time.time()),
              "ear_verifier_id": {"developer": "x", "build": "y"},
              "submods": {"boot": {"ear_status": "affirming", "ear_trustworthiness_vector": {"executables": 3}}},
              "holdfast": {"role": "production", "freshness": "current", "verdict": "Healthy"}}

    def verdict(token):
        return holdfast("attest", "verify", token, "--jwks", jwks, check=False)

    def refused(what, token):
        done = verdict(token)
        check(done.returncode == 1 and done.stdout == "" and "proves nothing" in done.stderr, f"refused: {what}")

    good = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "k"})
    done = verdict(good)
    check(done.returncode == 0 and "Healthy" in done.stdout, "a token that PyJWT signed is taken")
    check(verdict(good + "\n").returncode == 1 and
          run([BIN / "holdfast", "attest", "verify", "-", "--jwks", jwks], check=False,
              stdin=open(write(directory / "good", good + "\n"))).returncode == 0, "from a file too")
    header, payload, signature = good.split(".")
    refused("alg none", jwt.encode(claims, None, algorithm="none", headers={"kid": "k"}))
    refused("alg none with the old signature", jwt.encode(claims, None, algorithm="none", headers={"kid": "k"}) + signature)
    mac = hmac.HMAC(public_pem, hashes.SHA256())  # PyJWT itself refuses a PEM as a secret
    text = b64url(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "k"}).encode()) + "." + payload
    mac.update(text.encode())
    refused("HS256 with the public key as secret", text + "." + b64url(mac.finalize()))
    refused("RS256 by a key of the set", jwt.encode(claims, other_rsa, algorithm="RS256", headers={"kid": "rsa"}))
    refused("ES256 with the RSA key's kid", jwt.encode(claims, key, algorithm="ES256", headers={"kid": "rsa"}))
    refused("an unknown kid", jwt.encode(claims, key, algorithm="ES256", headers={"kid": "K"}))
    refused("no kid", jwt.encode(claims, key, algorithm="ES256"))
    stranger = ec.generate_private_key(ec.SECP256R1())
    refused("another key's signature", jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": "k"}))
    refused("padding", f"{header}.{payload}.{signature}==")
    refused("the other alphabet", f"{header}.{payload}.{signature}".replace("-", "+").replace("_", "/") + "+")
    twice = json.dumps(claims)[:-1] + ', "holdfast": ' + json.dumps(claims["holdfast"]) + "}"
    signed = jwt.api_jws.encode(twice.encode(), key, algorithm="ES256", headers={"kid": "k"})
    refused("a member twice", signed)
    drill = jwt.encode({**claims, "holdfast": {**claims["holdfast"], "role": "drill"}}, key, algorithm="ES256",
                       headers={"kid": "k"})
    done = verdict(drill)
    check(done.returncode == 1 and "drill" in done.stderr, "a drill presented as production is refused")
    old = jwt.encode({**claims, "iat": claims["iat"] - 3600}, key, algorithm="ES256", headers={"kid": "k"})
    check("old" in verdict(old).stderr, "an old token is refused")


def write(path, text):
    path.write_text(text)
    return path


def test(directory):
    with Processes(directory) as processes:
        for part in (our_token_by_pyjwt, their_token_by_us, quotes):
            step(part.__name__)
            part(processes, directory)


if __name__ == "__main__":
    main(test)
