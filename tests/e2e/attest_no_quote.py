#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A guest that switches off what its TPM quotes with does not stay in its good name: it is judged without a quote, as
Unknown. A boot that has no verdict yet has none of the boot before, nor its token; a holdfastd that is killed meanwhile
takes none that came too early for the boot's. A key that an operator has forgotten is enrolled anew. A vault that hangs
leaves a boot Unknown until it answers again.
"""

import os
import signal

from lib import probe
from lib.agent import Agent
from lib.attest import BOOT, GUEST_LOG, Boots, expect_healthy, rest, words
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main
from lib.site import CliError, Site

VM = "probe"


def expect_code(record, code, what):
    if record["verdict"] != "Unknown" or not any(reason["code"] == code for reason in record["reasons"]):
        raise Failure(f"{what}: expected to be Unknown by {code}, but {words(record)}")


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as error:
        parts = error.parts()
        check(all(parts.values()), f"{' '.join(command[:3])} is refused: {parts['cause']} | {parts['mend']}")
        return
    raise Failure(f"{' '.join(command)} went through")


def without_quote(site, boots):
    agent = Agent(site.run_dir(VM) / "qga.sock")
    agent.run("/bin/sh", "-c", "tpm2 hierarchycontrol -C e ehEnable clear || tpm2 hierarchycontrol -C p ehEnable clear")
    agent.close()
    record = boots.check()
    expect_code(record, "quote_unavailable", "a TPM without its endorsement hierarchy")
    check(boots.show()["verdict"] == "Unknown", f"a TPM that does not quote: {record['summary']}")
    refused(site, "attest", "baseline", "accept", VM)


def reset_in_guest(site, boots):
    """The guest resets itself; what is said while it boots."""
    agent = Agent(site.run_dir(VM) / "qga.sock")
    agent.call("guest-exec", path="/bin/sh", arg=["-c", "sleep 1; echo b > /proc/sysrq-trigger"])
    agent.close()
    booting = wait_until(lambda: (shown := boots.show()).get("note") and shown, 30, "the next boot is seen", interval=0.1)
    check(booting["verdict"] == "Unknown" and "token" not in booting["newest"],
          f"while the next boot has no verdict: {booting['note']}")
    refused(site, "attest", "token", VM)


def killed_before_the_hand_over(site, boots):
    """An answer on demand that came too early, then another holdfastd."""
    def early():
        status, answer = rest(site, "POST", f"/v1/vms/{VM}/attestation/check", {})
        return answer if status == 200 else None  # nothing is measured yet

    expect_code(wait_until(early, 20, "the firmware measures", interval=0.05), "boot_not_finished", "a check while it boots")
    (daemon,) = site.pids_of("holdfastd")
    os.kill(daemon, signal.SIGKILL)
    site.wait_answers()
    record = boots.verdict(BOOT)
    expect_healthy(record, "the boot after the reset")
    check(True, f"the boot got its own verdict from the next holdfastd, {record['after_hand_over_ms']} ms after the hand-over: "
                "Healthy, since the hierarchy is back")
    check("note" not in boots.show() and site.cli("attest", "token", VM).stdout.count(".") == 2, "it has a token again")


def vault_hangs(site, boots):
    """The guest boots anew while the vault answers nobody, and later does."""
    (vault,) = site.pids_of("holdfast-vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        agent = Agent(site.run_dir(VM) / "qga.sock")
        agent.call("guest-exec", path="/bin/sh", arg=["-c", "sleep 1; echo b > /proc/sysrq-trigger"])
        agent.close()
        record = boots.verdict(BOOT, timeout=150)
        expect_code(record, "vault_away", "a boot while the vault hangs")
        check("token" not in record, f"while the vault hangs a boot is Unknown: {record['summary']}")
    finally:
        os.kill(vault, signal.SIGCONT)
    wait_until(lambda: boots.show()["verdict"] == "Healthy", 60, "the boot is appraised again")
    check(site.cli("attest", "token", VM).stdout.count(".") == 2, "with the vault back it is Healthy by itself and has a token")


def test(directory):
    directory.chmod(0o711)
    image = directory / "probe.img"
    run(["cp", "--sparse=always", probe.image(), image])
    image.chmod(0o644)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 460000)
        try:
            site.init()
            site.start()
            site.vm_create(VM, [image], "--memory", "512M")
            boots = Boots(site, VM)
            boots.start()
            expect_healthy(boots.verdict(BOOT), "the first boot")
            expect_healthy(boots.verdict(GUEST_LOG), "the first boot with the guest's log")
            without_quote(site, boots)
            reset_in_guest(site, boots)
            killed_before_the_hand_over(site, boots)
            status, _ = rest(site, "DELETE", f"/v1/vms/{VM}/attestation/key")
            record = boots.check()
            expect_healthy(record, "after its key was forgotten")
            enrolled = [event for event in site.json("event", "list") if event["kind"] == "attestation.enrolled"]
            check(status == 200 and len(enrolled) == 2, "a key that was forgotten is enrolled anew")
            vault_hangs(site, boots)
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
