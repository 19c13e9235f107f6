#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast-keeper holdfast-vault
"""What the vTPM's keeper saw of a boot, held against what the guest saw of it: the record of extends has, in order and
with their digests, the events of the guest's own log; it says when the firmware handed over; the registers agree; and
tpm2-tools accept the quote that the keeper gives over them. A reboot inside the guest begins a record of its own.
"""

import base64
import contextlib
import os
import struct

from lib import probe
from lib.agent import EVENT_LOG, Agent
from lib.keeper_machine import KeeperMachine
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main, step

_NO_ACTION = 3
_ACTION = 0x80000007
_SIZES = {0x4: ("sha1", 20), 0xB: ("sha256", 32), 0xC: ("sha384", 48), 0xD: ("sha512", 64)}


def log_events(log):
    """[(pcr, type, {bank: hex}, data)] of a crypto-agile log, without the first event, which names its format."""
    at = 32 + struct.unpack_from("<I", log, 28)[0]
    out = []
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        digests = {}
        for _ in range(count):
            name, size = _SIZES[struct.unpack_from("<H", log, at)[0]]
            digests[name] = log[at + 2:at + 2 + size].hex()
            at += 2 + size
        size, = struct.unpack_from("<I", log, at)
        out.append((pcr, kind, digests, log[at + 4:at + 4 + size]))
        at += 4 + size
    return out


def record(keeper):
    """(head, extends) of the running boot, all answers put together."""
    extends = []
    while True:
        answer = keeper.control("measurements", **{"from": len(extends)})
        extends += answer["extends"]
        if len(extends) >= answer["total"] or not answer["extends"]:
            return answer["boot"], extends


def check_record_is_log(keeper, log):
    boot, extends = record(keeper)
    check([extend["n"] for extend in extends] == list(range(len(extends))) and boot["complete"],
          f"the record of boot {boot['id'][:8]} is complete: {len(extends)} extends")
    measured = [(pcr, digests["sha256"]) for pcr, kind, digests, _ in log_events(log) if kind != _NO_ACTION]
    of_firmware = [(extend["pcr"], extend["digests"]["sha256"]) for extend in extends if extend["pcr"] != 10]
    check(of_firmware == measured, f"but for the kernel's PCR 10 it is the guest's event log: {len(measured)} events")
    handed_over = extends[boot["exit_boot_services"]]
    hand_over = [digests["sha256"] for pcr, kind, digests, data in log_events(log)
                 if (pcr, kind, data) == (5, _ACTION, b"Exit Boot Services Invocation")]
    check(handed_over["pcr"] == 5 and [handed_over["digests"]["sha256"]] == hand_over,
          "it names the extend of \"Exit Boot Services Invocation\"")
    check(handed_over["time_us"] == boot["exit_us"] >= boot["started_us"], "and when that was")
    return boot, extends


def check_quote(keeper, directory, pcrs):
    """tpm2_checkquote takes the quote with its nonce, and refuses it with another."""
    nonce = os.urandom(20)
    selection = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]
    key = keeper.control("attestation_key")
    quote = keeper.control("quote", nonce=base64.b64encode(nonce).decode(), selection={"sha256": selection})
    for name, data in (("ak.tpm", key["ak_public"]), ("quote", quote["quote"]), ("signature", quote["signature"])):
        (directory / name).write_bytes(base64.b64decode(data))
    pem = run(["tpm2_print", "-t", "TPM2B_PUBLIC", "-f", "pem", directory / "ak.tpm"]).stdout
    (directory / "ak.pem").write_text(pem)
    values = b"".join(bytes.fromhex(pcrs[pcr]) for pcr in selection)
    (directory / "values").write_bytes(values)
    argv = ["tpm2_checkquote", "-u", directory / "ak.pem", "-m", directory / "quote", "-s", directory / "signature", "-g",
            "sha256", "-q"]
    run([*argv, nonce.hex()])
    check(run([*argv, os.urandom(20).hex()], check=False).returncode != 0,
          "tpm2_checkquote takes the keeper's quote with its nonce, not with another")
    digest = run(["openssl", "dgst", "-sha256", "-r", directory / "values"]).stdout.split()[0]
    check(bytes.fromhex(digest) in (directory / "quote").read_bytes(), "the quote is over the PCRs that the guest reads")


def check_credential(keeper, directory):
    """The key that quotes lies in the TPM with the endorsement key: what tpm2_makecredential hides for the two, it finds."""
    key = keeper.control("attestation_key")
    (directory / "ek.tpm").write_bytes(base64.b64decode(key["ek_public"]))
    (directory / "secret").write_bytes(b"known to whoever enrols")
    run(["tpm2_makecredential", "-T", "none", "-Q", "-u", directory / "ek.tpm", "-s", directory / "secret", "-n", key["ak_name"],
         "-o", directory / "credential"])
    blob = (directory / "credential").read_bytes()[8:]  # after tpm2-tools' magic and version
    middle = 2 + struct.unpack_from(">H", blob)[0]
    answer = keeper.control("activate_credential", id_object=base64.b64encode(blob[:middle]).decode(),
                            encrypted_secret=base64.b64encode(blob[middle:]).decode())
    check(base64.b64decode(answer.get("secret", "")) == b"known to whoever enrols",
          f"tpm2_makecredential's secret for that key is found in that TPM {answer.get('error', '')}")


def test(directory):
    data = probe.make_data_disk(directory / "data", rate=4, log=1)
    with Processes(directory) as processes:
        machine = KeeperMachine(processes, directory / "m", probe.image(), data)
        machine.with_agent = True
        machine.reboots = True
        console = machine.start()
        probe.wait_unlocked(console)
        agent = Agent(machine.agent_path)
        log = agent.read(EVENT_LOG)
        first, extends = check_record_is_log(machine.keeper, log)
        pcrs = {int(pcr): value for pcr, value in machine.keeper.control("pcrs")["pcrs"]["sha256"].items()}
        guest = {pcr: agent.read(f"/sys/class/tpm/tpm0/pcr-sha256/{pcr}").decode().strip().lower() for pcr in range(16)}
        check(all(pcrs[pcr] == guest[pcr] for pcr in guest), "keeper and guest read the same PCRs 0 to 15")
        check_quote(machine.keeper, directory, pcrs)
        check_credential(machine.keeper, directory)

        step("the guest starts again from inside")
        with contextlib.suppress(Failure):  # it may be gone before it has answered
            agent.call("guest-exec", path="/bin/probe", arg=["reboot"])
        agent.close()

        def handed_over_again():
            boot = record(machine.keeper)[0]
            return boot["id"] != first["id"] and boot["exit_boot_services"] is not None

        wait_until(handed_over_again, probe.UNLOCK_SECONDS_MAX, "the hand-over of a second boot", interval=0.2)
        second, again = record(machine.keeper)
        step("ok: its second boot has a record of its own")
        handed = (first["exit_boot_services"], second["exit_boot_services"])
        step(f"extends until the hand-over: {handed[0]} and {handed[1]}")
        before = {(extend["pcr"], extend["digests"]["sha256"]) for extend in extends[:handed[0]] if extend["pcr"] in (4, 7, 8, 9)}
        after = {(extend["pcr"], extend["digests"]["sha256"]) for extend in again[:handed[1]] if extend["pcr"] in (4, 7, 8, 9)}
        check(before == after, "and measures the same programs, keys and files")
        machine.kill()


if __name__ == "__main__":
    main(test)
