#!/usr/bin/env python3
# timeout: 900
# needs: qemu-2
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""Microsoft's 2011 certificates give way to those of 2023 in a running VM whose disk is sealed to PCR 7, and no step
locks it out: 2011, both, 2023 alone, back; then a signed update of dbx, with the VM stopped for it, and one that the
guest's own firmware takes while it runs. Each time the guest reseals for the PCR 7 that was predicted before it was
measured, unlocks its disk, and the boot is Healthy. The daemon's death in between, a change by another hand since, and
a way back after --without-reseal lock nobody out. When no agent answers, the operation ends before anything has
changed.

HOLDFAST_ROLLOVERS=n (environment) sets how often the round is made; 1 by default, in script/nightly 10 each at two sites.
"""

import base64
import json
import os
import signal
import struct
import time

from lib import probe, uefi_vars
from lib.agent import Agent
from lib.attest import Boots, expect_healthy, rest
from lib.process import Failure, Processes, run, wait_until
from lib.report import check, main
from lib.site import CliError, Site

ROUNDS = int(os.environ.get("HOLDFAST_ROLLOVERS", "1"))
VM = "probe"


class Rollover:
    def __init__(self, site, directory, kek):
        self.site, self.directory, self.kek = site, directory, kek
        self.boots = Boots(site, VM)
        self.consoles = 0

    def watch(self):
        self.consoles += 1
        self.console = self.site.vm_console(VM, self.directory / f"console{self.consoles}")

    def pcr7(self):
        return self.console.find(r"^HF PCR7 (\w+)")[2][1].lower()

    def unlocked(self, what):
        """The boot that the operation made: it unlocked by its vTPM."""
        self.watch()
        found, _ = probe.wait_unlocked(self.console)
        check(found.disk == found.raw or found.disk + 1 == found.raw, f"{what}: the guest unlocked its disk; {found}")

    def roll(self, what, *words):
        started = time.monotonic()
        result = self.site.json("secure-boot", "rollover", VM, *words, timeout=240)
        result = result.get("result", result)
        self.unlocked(what)
        check(result["verdict"] == "Healthy" and result.get("resealed"), f"{what}: Healthy, and resealed")
        check(self.pcr7() == result["pcr7_after"] != result["pcr7_before"],
              f"{what}: PCR 7 is what was predicted; {time.monotonic() - started:.0f} s")

    def dbx_update(self, key):
        """An entry more, as its vendor would send it: signed by a key in KEK. The file, and the entry's digest."""
        digest = os.urandom(32)
        (self.directory / "entry").write_bytes(uefi_vars.hash_list(digest))
        update = self.directory / "dbx.update"
        run([*self.site.argv("secure-boot", "sign-update", "dbx", self.directory / "entry"), "--append", "--key", key,
             "--certificate", self.kek, "--out", update])
        return update, digest

    def update_dbx(self, key):
        self.roll("an update of dbx", "--update", self.dbx_update(key)[0])

    def dbx(self):
        status, shown = rest(self.site, "GET", f"/v1/vms/{VM}/secure-boot")
        if status != 200:
            raise Failure(f"secure-boot of {VM}: {status} {shown}")
        return base64.b64decode(shown["state"]["dbx"])

    def refused(self, what, *words, cause="", effect="nothing was changed"):
        before = self.dbx()
        try:
            self.site.cli("secure-boot", "rollover", VM, *words, timeout=240)
        except CliError as refused:
            parts = refused.parts()
            check(cause in parts["cause"] and effect in parts["effect"], f"{what}: {parts['cause']}")
            check(self.dbx() == before, f"{what}: the keys are as they were")
        else:
            raise Failure(f"{what}: it was not refused")

    def update_in_guest(self, key):
        """The running guest's firmware takes the update; the guest's next restart measures it, and the rest follows."""
        update, digest = self.dbx_update(key)
        qemu = self.site.qemu_pid(VM)
        result = self.site.json("secure-boot", "rollover", VM, "--update", update, "--in-guest", timeout=240)
        result = result.get("result", result)
        check(result["verdict"] == "pending" and result["resealed"], f"in the guest: {result['note']}")
        check(digest in self.dbx() and self.site.qemu_pid(VM) == qemu, "in the guest: dbx has the entry, the VM ran on")
        self.refused("an end before the restart", "--finish", cause="has not been restarted",
                     effect="opens under the old value and the predicted one")
        self.boots.pass_over()
        self.restart_inside()
        expect_healthy(self.boots.verdict(timeout=200), "in the guest: the restart")
        # The probe guest's agent starts when its disk has been unlocked.
        agent = Agent(self.site.run_dir(VM) / "qga.sock", timeout=120)
        measured = agent.read("/sys/class/tpm/tpm0/pcr-sha256/7").decode().strip().lower()
        agent.close()
        check(measured == result["pcr7_after"] != result["pcr7_before"],
              "in the guest: after its restart it unlocked its disk, and PCR 7 is what was predicted")
        ended = wait_until(lambda: [job for job in self.site.json("job", "list")
                                    if job["kind"] == "secure-boot-finish" and job["state"] == "done"],
                           120, "the roll-over in the guest is brought to its end by itself")
        check(ended[0]["result"]["resealed"], "in the guest: resealed for the new value alone, asked by nobody")

    def restart_inside(self):
        agent = Agent(self.site.run_dir(VM) / "qga.sock")
        agent.call("guest-exec", path="/bin/sh", arg=["-c", "sleep 1; exec /bin/probe reboot"])
        agent.close()

    def back_would_lose(self, key):
        """Another hand adds to dbx after a roll-over of it: going back would take that away, and is refused."""
        update, _ = self.dbx_update(key)
        payload = struct.pack("<I", 0x67) + update.read_bytes()
        agent = Agent(self.site.run_dir(VM) / "qga.sock")
        agent.write("/run/update", payload)
        variable = "/sys/firmware/efi/efivars/dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
        agent.run("/bin/sh", "-c", f"chattr -i {variable}; dd if=/run/update of={variable} bs=2M conv=notrunc")
        agent.close()
        self.refused("a way back over newer revocations", "--back", cause="dbx was changed after the roll-over")

    def daemon_dies_then_back(self):
        """The daemon dies after the guest was asked to give the old value up, and never hears its answer."""
        forward = self.site.processes.start(self.site.argv("secure-boot", "rollover", VM, "--to", "microsoft-2011"), name="forward")

        def asked():
            newest = self.site.json("job", "list")[0]
            return newest["kind"].startswith("secure-boot") and "new value alone" in json.dumps(newest)

        wait_until(asked, 200, "the guest is asked to reseal for the new value alone", interval=0.05)
        os.kill(self.site.pids_of("holdfastd")[0], signal.SIGKILL)
        forward.wait(30)
        self.site.wait_answers()
        time.sleep(15)  # the hook in the guest ends by itself
        self.roll("back, after the daemon died at the end of the way forward", "--back")

    def refused_without_agent(self):
        agent = Agent(self.site.run_dir(VM) / "qga.sock")
        agent.call("guest-exec", path="/bin/sh", arg=["-c", "kill $(cat /run/qemu-ga.pid)"])
        agent.close()
        before = self.site.json("secure-boot", "show", VM)
        qemu = self.site.qemu_pid(VM)
        try:
            self.site.cli("secure-boot", "rollover", VM, "--to", "microsoft-2011")
        except CliError as refused:
            check("nothing was changed" in refused.parts()["effect"], f"no agent answers: {refused.parts()['cause']}")
        else:
            raise Failure("a roll-over went on although no agent answered")
        check(self.site.json("secure-boot", "show", VM) == before and self.site.qemu_pid(VM) == qemu,
              "the keys are as they were, and the VM runs on")


def test(directory):
    directory.chmod(0o711)
    image, data = directory / "probe.img", probe.make_data_disk(directory / "data", rate=4)
    run(["cp", "--sparse=always", probe.image(), image])
    for path in (image, data):
        path.chmod(0o644)
    kek_key, kek = uefi_vars.make_key(directory, "kek", "Holdfast test KEK")
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 310000)
        try:
            site.init()
            site.start()
            site.vm_create(VM, [image, data], "--memory", "512M")
            work = Rollover(site, directory, kek)
            work.boots.start()
            expect_healthy(work.boots.verdict(), "the first boot")
            work.unlocked("as it was made")
            for number in range(1, ROUNDS + 1):
                work.roll(f"round {number}: 2011 and 2023", "--to", "microsoft-2011+2023", "--guest", "linux", "--kek", kek)
                work.roll(f"round {number}: 2023 alone", "--to", "microsoft-2023", "--guest", "linux", "--kek", kek)
                work.roll(f"round {number}: back", "--back")
                if number < ROUNDS:
                    work.roll(f"round {number}: 2011 alone", "--to", "microsoft-2011")
            work.daemon_dies_then_back()
            work.update_dbx(kek_key)
            work.update_in_guest(kek_key)
            work.back_would_lose(kek_key)
            work.refused_without_agent()
            check(not work.boots.unhealthy_so_far(), f"{ROUNDS} round(s): 0 lock-outs, no boot was Unhealthy")
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
