#!/usr/bin/env python3
# timeout: 120
# programs: holdfast
"""Event logs of real boots: `holdfast attest log` gives the PCRs that tpm2_eventlog gives and that the TPM held.

Reads tests/corpus/event_logs, where every log must be readable to both. HOLDFAST_EVENT_LOGS names more directories
(separated by colons), for public logs that are not ours to ship: those that both can read are compared, and what one of
the two refuses or crashes on is said.
"""

import json
import os
import pathlib
import random
import re
import subprocess

from lib.process import Failure
from lib.report import check, main, step

HOLDFAST = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast"
CORPUS = pathlib.Path(__file__).parent.parent / "corpus" / "event_logs"
MORE = [pathlib.Path(entry) for entry in os.environ.get("HOLDFAST_EVENT_LOGS", "").split(":") if entry]
CASES = CORPUS.parent / "cases"
LOGS_MIN = 20
CUTS = 60


def ours(log, *arguments):
    return subprocess.run([HOLDFAST, "attest", "log", log, *arguments], capture_output=True, text=True, timeout=20)


def theirs(log):
    """{bank: {pcr: hex}} of tpm2_eventlog; a text that says why not, if it cannot read the log."""
    done = subprocess.run(["tpm2_eventlog", log], capture_output=True, text=True, errors="replace", timeout=20)
    if done.returncode < 0:
        return f"tpm2_eventlog died of signal {-done.returncode}"
    if done.returncode > 0:
        return f"tpm2_eventlog refuses it: {done.stderr.strip().splitlines()[0]}"
    pcrs, bank, inside = {}, None, False
    for line in done.stdout.splitlines():
        if line == "pcrs:":
            inside = True
        elif inside and (found := re.fullmatch(r"  (\w+):", line)):
            bank = pcrs.setdefault(found[1], {})
        elif inside and (found := re.fullmatch(r"    (\d+)\s*: 0x([0-9a-f]+)", line)):
            bank[found[1]] = found[2]
    return pcrs


def need(condition, text):
    if not condition:
        raise Failure(text)


def compare(log, read, pcrs):
    """Both hold the same PCRs in the same banks; how many values that were."""
    need(set(pcrs) == set(read["banks"]), f"{log.name}: banks {sorted(pcrs)}, not {sorted(read['banks'])}")
    # tpm2_eventlog 5.4 extends PCRs with the zero digests of EV_NO_ACTION (StartupLocality, SP800-155 references), which
    # no TPM does; those PCRs cannot be compared.
    wrong = {str(event["pcr"]) for event in read["events"] if event["type"] == "EV_NO_ACTION" and event["number"] > 0}
    for bank, values in pcrs.items():
        for pcr, value in values.items():
            if pcr in wrong:
                continue
            need(read["pcrs"][bank][pcr] == value,
                 f"{log.name}: {bank} PCR {pcr} is {read['pcrs'][bank][pcr]}, tpm2_eventlog has {value}")
        missing = [pcr for pcr in read["extended"] if str(pcr) not in values]
        need(not missing, f"{log.name}: tpm2_eventlog has no PCRs {missing} of {bank}")
    return sum(map(len, pcrs.values()))


def corpus_agrees():
    logs = sorted(CORPUS.glob("*.bin"))
    check(len(logs) >= LOGS_MIN, f"{len(logs)} event logs are here")
    values = held = 0
    for log in logs:
        done = ours(log, "--json")
        need(done.returncode == 0, f"{log.name}: {done.stderr}")
        pcrs = theirs(log)
        need(isinstance(pcrs, dict), f"{log.name}: {pcrs}")
        values += compare(log, json.loads(done.stdout), pcrs)
        beside = log.with_suffix(".json")
        if beside.exists():
            done = ours(log, "--pcrs", beside)
            need(done.returncode == 0, f"{log.name} is not what its TPM held: {done.stderr}")
            held += 1
    check(values > 0, f"{values} PCR values are those of tpm2_eventlog")
    check(held >= LOGS_MIN, f"{held} logs lead to what their TPMs held")
    return logs


def another_boot_is_noticed(logs):
    """A log beside the PCRs of a boot that differs in one thing: the PCR is named."""
    by_name = {log.stem: log for log in logs}
    for name, other, pcr in (("holdfast-other-cmdline", "holdfast-shim-grub", 8),
                             ("holdfast-mok", "holdfast-shim-grub", 4),
                             ("holdfast-direct-kernel", "holdfast-direct-kernel-own-keys", 4)):
        done = ours(by_name[name], "--pcrs", by_name[other].with_suffix(".json"))
        need(done.returncode == 1 and "PCR " in done.stderr and "mend:" in done.stderr,
             f"{name} passes for {other}: {done.stderr}")
    check(True, "a log beside the PCR values of another boot is refused, and the PCR is named")


def hostile_logs_are_refused(logs, directory):
    """Cut within an event: the error names the event. With the data of an event edited: that is not proven."""
    randomness = random.Random(3)
    bad = directory / "log"
    refused = 0
    for _ in range(CUTS):
        log = randomness.choice(logs)
        whole = log.read_bytes()
        size = randomness.randrange(1, len(whole))
        offsets = {event["offset"] for event in json.loads(ours(log, "--json").stdout)["events"]}
        bad.write_bytes(whole[:size])
        done = ours(bad)
        if size in offsets:
            continue
        need(done.returncode == 1 and re.search(r"error: .*event \d+ \(at byte \d+\): ", done.stderr),
             f"{log.name} cut at {size}: {done.returncode}, {done.stderr}")
        refused += 1
    check(refused > 0, f"{refused} logs that end in the middle of an event are refused with its number")
    bad.write_bytes(logs[0].read_bytes().replace(b"Exit Boot Services Invocation", b"Exit Boot Services Innovation"))
    done, beside = ours(bad), logs[0].with_suffix(".json")
    told = [line for line in done.stdout.splitlines() if "Innovation" in line]
    check(done.returncode == 0 and len(told) == 1 and "(not proven: its data is not what its digest was made of)" in told[0],
          "an edited action is marked as not proven, and the rest of the log is read")
    need(ours(bad, "--pcrs", beside).returncode == 0, "the digests of such a log are what its TPM held")


def odd_logs_are_read(directory):
    """Logs of other firmware: one event that nothing proves, and the PCRs that tpm2_eventlog gives (5.4 knows no H-CRTM)."""
    for name, pcr in (("hcrtm", None), ("crtm-version", "0")):
        log = CASES / f"{name}.bin"
        done = ours(log, "--json")
        need(done.returncode == 0 and "altered" not in done.stderr, f"{name}: {done.stderr}")
        read = json.loads(done.stdout)
        need([event["number"] for event in read["not_proven"]] == [1], f"{name}: {read['not_proven']}")
        if pcr:
            need(read["pcrs"]["sha256"][pcr] == theirs(log)["sha256"][pcr], f"{name}: PCR {pcr} is not tpm2_eventlog's")
    check(True, "an H-CRTM event and a firmware version that are not what was hashed are not proven, the rest is read")
    text = directory / "log.yaml"
    text.write_text("---\nversion: 1\nevents:\n- EventNum: 0\n  PCRIndex: 0\n  EventType: EV_NO_ACTION\n")
    done = ours(text)
    check(done.returncode == 1 and "no event log of a TPM but text" in done.stderr, "what is no TPM log is named for what it is")


def public_logs_agree():
    compared = 0
    for log in sorted(path for directory in MORE for path in directory.iterdir() if path.is_file()):
        done = ours(log, "--json")
        pcrs = theirs(log)
        if not done.stdout:
            step(f"{log.name}: {done.stderr.splitlines()[0]}")
        elif isinstance(pcrs, dict):
            compare(log, json.loads(done.stdout), pcrs)
            compared += 1
        if not isinstance(pcrs, dict):
            step(f"{log.name}: {pcrs}")
    if MORE:
        check(compared > 0, f"{compared} more logs lead to the PCRs of tpm2_eventlog")


def test(directory):
    logs = corpus_agrees()
    another_boot_is_noticed(logs)
    hostile_logs_are_refused(logs, directory)
    odd_logs_are_read(directory)
    public_logs_agree()


if __name__ == "__main__":
    main(test)
