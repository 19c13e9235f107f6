#!/usr/bin/env python3
# timeout: 900
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""What happens to an honest VM raises no alarm: boots after a power cut and after a shutdown, a reboot inside the
guest, a network card added, the disk grown, the order of the boot options changed, a failover. Each boot is Healthy, by
the TPM's record alone and again with the guest's event log; none is Unhealthy.

HOLDFAST_BOOTS=n (environment) sets how many boots; 4 by default, 50 in script/nightly.
"""

import hashlib
import json
import os
import pathlib
import sqlite3

from lib import probe
from lib.agent import Agent
from lib.attest import GUEST_LOG, VERDICT_MS_MAX, Boots, expect_healthy, words
from lib.nbd import Nbd
from lib.process import Failure, Processes, run
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

BOOTS = int(os.environ.get("HOLDFAST_BOOTS", "4"))
VM = "probe"
GROWN_BYTES = 64 << 20
BOOT_ORDER = "/sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Turns the order of the boot options round: 4 bytes of attributes, then 16 bits an option.
TURN_BOOT_ORDER = f"""set -e
cd /run
xxd -p {BOOT_ORDER} | tr -d '\\n' >order
read -r now <order || true
turned=${{now%"${{now#????????}}"}}
rest=${{now#????????}}
back=
while [ -n "$rest" ]; do back=${{rest%"${{rest#????}}"}}$back; rest=${{rest#????}}; done
chattr -i {BOOT_ORDER} 2>/dev/null || true
printf %s "$turned$back" | xxd -r -p >new
cat new >{BOOT_ORDER}
"""


def grow_partition_table(site, directory):
    """The disk is larger than its partition table says, as after it was grown: the table is told, from the host."""
    link = Nbd(site.run_dir(VM) / "disk1.nbd", "disk1")
    sectors = 34 * 512
    copy = directory / "grown"
    with open(copy, "wb") as file:
        file.write(link.read(0, sectors))
        file.truncate(link.size)
    old_end = link.size - GROWN_BYTES - sectors
    with open(copy, "r+b") as file:
        file.seek(old_end)
        file.write(link.read(old_end, sectors))
    run(["/usr/sbin/sgdisk", "-e", copy])
    with open(copy, "rb") as file:
        link.write(512, file.read(sectors)[512:])
        file.seek(link.size - sectors)
        link.write(link.size - sectors, file.read(sectors))
    link.flush()
    link.close()


def add_network_card(site):
    """In the VM's definition, as there is no command for it yet."""
    with sqlite3.connect(site.state / "daemon/catalog.sqlite", timeout=10) as catalog:
        vm_id, text = catalog.execute("SELECT id, definition FROM vms WHERE name = ?", (VM,)).fetchone()
        definition = json.loads(text)
        place = len(definition["nics"])
        digest = hashlib.sha256(bytes.fromhex(vm_id) + bytes([place])).digest()
        mac = ":".join(f"{byte:02x}" for byte in b"\x02" + digest[:5])
        definition["nics"].append({"name": f"nic{place + 1}", "mac": mac, "network": "none"})
        catalog.execute("UPDATE vms SET definition = ? WHERE name = ?", (json.dumps(definition), VM))


class Run:
    def __init__(self, site, directory):
        self.site, self.directory = site, directory
        self.boots = Boots(site, VM)
        self.count = 0

    def healthy(self, how):
        """The present boot: its verdict from the record alone, then with the guest's log."""
        self.count += 1
        record = self.boots.verdict()
        expect_healthy(record, how)
        learned = any(reason["code"] == "baseline_learned" for reason in record["reasons"])
        if learned != (self.count == 1):
            raise Failure(f"{how}: {'learned anew' if learned else 'not learned'}: {words(record)}")
        if record["after_hand_over_ms"] > VERDICT_MS_MAX:
            raise Failure(f"{how}: the verdict came {record['after_hand_over_ms']} ms after the hand-over")
        expect_healthy(self.boots.verdict(GUEST_LOG), f"{how}, with the guest's log")
        step(f"ok: boot {self.count}, {how}: Healthy {record['after_hand_over_ms']} ms after the hand-over, and with its log")

    def agent(self):
        return Agent(self.site.run_dir(VM) / "qga.sock", timeout=30)

    def start(self, how):
        self.boots.start()
        self.healthy(how)


def test(directory):
    directory.chmod(0o711)
    image, data = directory / "probe.img", probe.make_data_disk(directory / "data", rate=4)
    run(["cp", "--sparse=always", probe.image(), image])
    with open(image, "r+b") as file:
        file.truncate(image.stat().st_size + GROWN_BYTES)
    for path in (image, data):
        path.chmod(0o644)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            north.vm_create(VM, [image, data], "--memory", "512M")
            work = Run(north, directory)
            work.start("the first")
            agent = work.agent()
            agent.run("/bin/sh", "-c", TURN_BOOT_ORDER)
            grow_partition_table(north, directory)
            agent.call("guest-exec", path="/bin/probe", arg=["reboot"])
            agent.close()
            work.healthy("after a reboot inside, boot order turned round, disk grown")
            work.boots.off()
            add_network_card(north)
            work.start("after a power cut, with a network card more")
            north.cli("protection", "enable", VM, "--to", "south")
            while work.count < BOOTS - 1:
                if work.count % 3 == 0:
                    north.cli("vm", "stop", VM)
                    north.wait_idle(VM)
                else:
                    work.boots.off()
                work.start("again")
            wait_protected(north, VM)
            north.kill_whole()
            count, work = work.count, Run(south, directory)
            work.count = count
            south.cli("failover", "unplanned", VM, "--source-is-off", "--yes")
            work.healthy("after a failover")
            check(not work.boots.unhealthy_so_far(), f"{BOOTS} boots: none was Unhealthy")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
