#!/usr/bin/env python3
# timeout: 420
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A VM's boots are appraised by its site: the first is learned and Healthy within a second of the hand-over, without a
word from the guest; its agent's event log is appraised after; the token verifies offline; a reboot inside the guest is
a boot of its own; policy, baseline, key and history come along at failover, where the token names the new epoch.
"""

import base64
import json
import secrets

from lib import probe
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main, step
from lib.site import CliError, Site, pair, wait_protected


def nonce():
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def wait_verdict(site, vm, trigger, seconds, after=0):
    """The newest record, once it is of that trigger and its id is above `after`."""
    seen = {}

    def come():
        view = site.json("attest", "show", vm)
        seen["view"] = view
        found = [entry for entry in view["history"] if entry["trigger"] == trigger and entry["id"] > after]
        return found and found[0]

    try:
        return wait_until(come, seconds, f"a verdict of the trigger \"{trigger}\"")
    except Failure as failure:
        raise Failure(f"{failure}; attest show: {json.dumps(seen.get('view'))[:3000]}") from None


def verify(site, directory, token, *flags):
    """`holdfast attest verify` with the site's published keys, as a relying party runs it."""
    keys = directory / "keys.json"
    keys.write_text(site.cli("attest", "keys").stdout)
    path = directory / "token.jwt"
    path.write_text(token)
    return site.cli("attest", "verify", f"@{path}", "--jwks", str(keys), *flags)


def first_boot(site, directory):
    entry = wait_verdict(site, "probe", "boot", probe.UNLOCK_SECONDS_MAX)
    view = site.json("attest", "show", "probe")
    newest = view["newest"]
    check(entry["verdict"] == "Healthy", f"the first boot is Healthy: {entry['summary']}")
    late = [e for e in view["history"] if e["trigger"] == "boot"]
    check(len(late) == 1, "one verdict of the boot")
    check(view["baseline"]["boots"] == 1, "and was learned as the baseline")
    check(newest["epoch"] == 1 and newest["role"] == "production", "the verdict names epoch and role")
    check(bool(view["key"]["certificate"]), "the attestation key is enrolled and certified")
    return view


def submit_by_own_rules(north, south, directory, evidence, asked):
    """A policy of the asker's that calls anything healthy is worth nothing about a VM."""
    own = directory / "own.json"
    own.write_text(json.dumps({"version": 1, "name": "mine", "extends": "none", "baseline": "optional",
                               "evidence": {"attestation_key": "any"}, "secure_boot": {"state": "optional"}}))
    arguments = ["attest", "submit", str(evidence), "--nonce", asked]
    theirs = south.json(*arguments, "--policy", str(own))
    claims = json.loads(base64.urlsafe_b64decode(theirs["token"].split(".")[1] + "=="))["holdfast"]
    check("vm" not in claims and "role" not in claims, "a token by the asker's own policy names no VM and no role")
    for site, token, more in ((south, theirs["token"], []), (north, north.json(*arguments)["token"], ["--policy", "mine:0"])):
        try:
            verify(site, directory, token, *more)
            raise Failure("a token by another policy than expected was taken")
        except CliError as error:
            step(f"ok: it is refused by who relies on it: {error}"[:160])
    known = north.json(*arguments)
    check(known["verdict"] == "Healthy", f"the VM's own site judges its evidence by its own rules: {known['summary']}")
    try:
        north.json(*arguments, "--policy", str(own))
        raise Failure("the site judged its own VM by a stranger's policy")
    except CliError:
        step("ok: the VM's own site takes no other policy for it")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            image = directory / "probe.img"
            run(["cp", "--sparse=always", probe.image(), image])
            data = probe.make_data_disk(directory / "data.img", rate=2)
            north.vm_create("probe", [image, data], "--memory", "512M")
            north.cli("vm", "start", "probe")
            console = north.vm_console("probe", directory / "north.console")

            first_boot(north, directory)
            record = [e for e in north.json("attest", "show", "probe")["history"] if e["trigger"] == "boot"][0]
            check(record["after_hand_over_ms"] < 1000,
                  f"{record['after_hand_over_ms']} ms after the firmware handed over")
            probe.wait_unlocked(console)
            entry = wait_verdict(north, "probe", "guest's log", 60)
            check(entry["verdict"] == "Healthy", f"with the guest's event log too: {entry['summary']}")
            newest = north.json("attest", "show", "probe")["newest"]
            check(any("event log" in line and "no event" not in line for line in newest["compared"]),
                  "the event log was compared")
            verify(north, directory, newest["token"])

            asked = nonce()
            checked = north.json("attest", "check", "probe", "--nonce", asked)
            check(checked["verdict"] == "Healthy", "a check on demand is Healthy")
            vm_id = north.vm_id("probe")
            verify(north, directory, checked["token"], "--nonce", asked, "--vm", vm_id)
            try:
                verify(north, directory, checked["token"], "--nonce", nonce())
                raise Failure("a token for another nonce was taken")
            except CliError:
                step("ok: a token for another nonce is refused")

            asked = nonce()
            evidence = directory / "evidence.json"
            north.cli("attest", "evidence", "probe", "--nonce", asked, "--out", str(evidence))
            elsewhere = south.json("attest", "submit", str(evidence), "--nonce", asked)
            check(elsewhere["verdict"] != "Unhealthy", f"another site appraises its evidence: {elsewhere['summary']}")
            claims = json.loads(base64.urlsafe_b64decode(elsewhere["token"].split(".")[1] + "=="))["holdfast"]
            check("vm" not in claims, "and names no VM: north's CA does not vouch for one that south has nothing to do with")
            replayed = south.json("attest", "submit", str(evidence), "--nonce", nonce())
            check(replayed["verdict"] == "Unhealthy", f"and refuses it replayed: {replayed['summary']}")
            submit_by_own_rules(north, south, directory, evidence, asked)

            north.cli("protection", "enable", "probe", "--to", "south")
            wait_protected(north, "probe", 120)
            probe.wait_round(console, max(probe.rounds(console), default=0) + 4, 60)
            before = north.json("attest", "show", "probe")
            north.kill_whole()
            done = south.json("failover", "unplanned", "probe", "--source-is-off", "--yes", "--attestation", "require",
                              timeout=200)
            check(done["verdict"] == "Healthy", "the boot after the failover is Healthy, as was required")
            after = south.json("attest", "show", "probe")
            check(after["key"]["ak_name"] == before["key"]["ak_name"], "the attestation key came along")
            check(after["newest"]["epoch"] == before["newest"]["epoch"] + 1 and after["newest"]["site"] == "south",
                  "its verdict names the new epoch and site")
            check(any(entry["site"] == "north" for entry in after["history"]), "the history came along")
            verify(south, directory, after["newest"]["token"], "--vm", vm_id)
        finally:
            north.end()
            south.end()
    step("attested on both sites")


if __name__ == "__main__":
    main(test)
