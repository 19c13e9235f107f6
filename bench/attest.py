#!/usr/bin/env python3
"""Appraisals per second: evidence in (quote, 120-event log), policy and baseline applied, signed EAR token out.

1,000 VMs, each with an attestation key (half RSA-2048 RSASSA, half ECDSA P-256), a boot and a baseline of its own; every
request has a nonce of its own, and nothing is kept from one to the next. Two threads.

Beside it, in the same run: the floor, `openssl speed -multi 2` of the same signatures (per appraisal one verification,
half of them RSA-2048 and half P-256, and one P-256 signature); and the tools, tpm2_checkquote and tpm2_eventlog as
processes, two at a time, on the same quotes and logs, which judge nothing and sign nothing.

The last line is JSON; --json prints only that; --quick is for trying it out.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import statistics
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from lib.process import Failure, run  # noqa: E402

THREADS = 2
BOOT = pathlib.Path(__file__).resolve().parent.parent / "tests/corpus/event_logs/holdfast-shim-grub.bin"
PROGRAM = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast-attest-bench"
QUOTED = range(16)


def appraisals(vms, quotes, rounds, samples, directory):
    done = run([PROGRAM, BOOT, vms, quotes, rounds, THREADS, samples, directory], timeout=900)
    return json.loads(done.stdout)


def floor(seconds):
    """Signature operations alone, per second on two cores, in the appraisal's proportion."""
    text = run(["openssl", "speed", "-multi", THREADS, "-seconds", seconds, "rsa2048", "ecdsap256"], timeout=300).stdout
    rates = {}
    for key, pattern in (("rsa2048", r"rsa 2048 bits.*?([\d.]+)\s+([\d.]+)\s*$"),
                         ("p256", r"256 bits ecdsa.*?([\d.]+)\s+([\d.]+)\s*$")):
        match = re.search(pattern, text, re.MULTILINE)
        if not match:
            raise Failure(f"openssl speed said nothing of {key}:\n{text}")
        rates[key] = {"sign": float(match[1]), "verify": float(match[2])}
    seconds_each = 0.5 / rates["rsa2048"]["verify"] + 0.5 / rates["p256"]["verify"] + 1 / rates["p256"]["sign"]
    return 1 / seconds_each, rates


def serialized_pcrs(values):
    """PCR values as tpm2_quote -o writes them: TPML_PCR_SELECTION and TPML_DIGESTs of eight, little-endian."""
    selection = struct.pack("<I", 1) + struct.pack("<HB4sx", 0x000B, 3, bytes([0xFF, 0xFF, 0, 0])) + bytes(8 * 15)
    digests = [values[at:at + 32] for at in range(0, len(values), 32)]
    lists = [digests[at:at + 8] for at in range(0, len(digests), 8)]
    out = selection + struct.pack("<I", len(lists))
    for digests in lists:
        out += struct.pack("<I", len(digests))
        out += b"".join(struct.pack("<H64s", 32, digest) for digest in digests) + bytes(66 * (8 - len(digests)))
    return out


def tools(samples, directory):
    """Per second, two at a time: the quote checked by one process, the log replayed by another."""
    for number in range(samples):
        (directory / f"{number}.pcrs").write_bytes(serialized_pcrs((directory / f"{number}.pcrs").read_bytes()))

    def one(number):
        stem = directory / str(number)
        nonce = pathlib.Path(f"{stem}.nonce").read_text()
        run(["tpm2_checkquote", "-u", f"{stem}.ak.pem", "-m", f"{stem}.quote", "-s", f"{stem}.signature", "-f",
             f"{stem}.pcrs", "-q", nonce], timeout=30)
        run(["tpm2_eventlog", f"{stem}.log"], timeout=30)

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(samples)))
    return samples / (time.monotonic() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    vms, quotes, rounds, seconds, samples = (100, 5, 3, 1, 20) if arguments.quick else (1000, 10, 5, 3, 200)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-bench-", dir="/var/tmp"))
    try:
        ours = appraisals(vms, quotes, rounds, samples, directory)
        floor_per_s, rates = floor(seconds)
        tools_per_s = tools(samples, directory)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    per_round = ours["rounds_per_s"]
    result = {"per_s": round(statistics.median(per_round)), "p99_ms": round(ours["p99_ms"], 3),
              "floor_per_s": round(floor_per_s), "tools_per_s": round(tools_per_s, 1),
              "cpu_us": round(ours["cpu_us"]), "p50_ms": round(ours["p50_ms"], 3), "max_ms": round(ours["max_ms"], 3),
              "rounds_per_s": [round(rate) for rate in per_round], "vms": ours["vms"],
              "requests_a_round": ours["requests_a_round"], "threads": THREADS, "events": ours["events"],
              "log_bytes": ours["log_bytes"], "evidence_bytes": ours["evidence_bytes"], "openssl": rates}
    if not arguments.json:
        print(f"{result['per_s']} appraisals a second (median of {rounds} rounds of {ours['requests_a_round']}, "
              f"{min(per_round):.0f} to {max(per_round):.0f}), p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms; "
              f"{result['cpu_us']} us of CPU each")
        print(f"floor: {result['floor_per_s']} a second for their signatures alone (openssl speed -multi {THREADS})")
        print(f"tools: {result['tools_per_s']} a second (tpm2_checkquote and tpm2_eventlog as processes)")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
