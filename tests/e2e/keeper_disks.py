#!/usr/bin/env python3
# timeout: 300
# needs: disk-time
# programs: holdfast-keeper holdfast-vault
"""A keeper's disks under third-party NBD clients, and under kill -9: what was acknowledged survives the keeper, in order,
and the next keeper answers within 200 ms on the same sockets."""

import json
import random
import threading
import time

from lib import nbd, nbd_clients, sequence_load
from lib.keeper import Keeper, Vault
from lib.nbd_clients import MIB
from lib.process import Processes, run
from lib.report import check, main, step

DISK = 256 * MIB
KILLS = 20
PAUSE_MS_MAX = 200


class Pulse(threading.Thread):
    """Writes to a disk one at a time, and comes back at once when the server is gone; the longest gap between answers."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.gap, self.writes, self.ended, self.error = path, 0.0, 0, False, None

    def run(self):
        disk, last = None, time.monotonic()
        while not self.ended:
            try:
                if disk is None:
                    disk = nbd.Nbd(self.path)
                disk.write(self.writes % 1024 * 4096, bytes([self.writes % 251]) * 4096)
            except (ConnectionError, TimeoutError):
                disk = None
                continue
            except OSError as error:
                self.error = error
                return
            now = time.monotonic()
            self.gap, last, self.writes = max(self.gap, now - last), now, self.writes + 1
            time.sleep(0.001)

    def take_gap_ms(self):
        gap, self.gap = self.gap, 0.0
        return gap * 1000


def fio(uri, directory, phase):
    run(["fio", "--name=across", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bsrange=512-128k", "--blockalign=512",
         "--size=64m", "--iodepth=16", "--fsync=32", "--verify=sha256", "--verify_fatal=1", f"--output={directory}/fio.txt",
         *phase], cwd=directory, timeout=90)


def verifies_across_a_restart(keeper, directory):
    uri = keeper.uri("disk1")
    fio(uri, directory, ["--do_verify=0"])
    keeper.process.kill()
    keeper.start(successor=True)
    keeper.wait_serving()
    fio(uri, directory, ["--verify_only"])
    step("ok: fio --verify of everything it wrote, after kill -9 of the keeper")
    fio(uri, directory, ["--do_verify=0"])
    keeper.stop()
    keeper.start()
    keeper.wait_serving()
    fio(uri, directory, ["--verify_only"])
    step("ok: the same after an orderly stop")


def killed_under_load(keeper):
    chance = random.Random(20)
    pulse = Pulse(keeper.socket_path("disk2"))
    pulse.start()
    disk = nbd.Nbd(keeper.socket_path("disk3"))
    number, pauses = 0, []
    for _ in range(KILLS):
        end = time.monotonic() + chance.uniform(0.05, 0.4)
        load = sequence_load.Load(disk, number)
        killer = threading.Timer(end - time.monotonic(), keeper.process.child.kill)
        pulse.take_gap_ms()
        killer.start()
        flushed = number
        try:
            while True:
                flushed = load.run_batch()
        except (ConnectionError, TimeoutError):
            pass
        keeper.process.kill()
        keeper.start(successor=True)
        disk = nbd.Nbd(keeper.socket_path("disk3"))
        number = sequence_load.verify(disk, flushed)
        before = pulse.writes
        while pulse.writes < before + 3 and pulse.error is None:
            time.sleep(0.005)
        pauses.append(pulse.take_gap_ms())
        check(pulse.error is None, f"killed at write {number}: one prefix, nothing lost, no error; pause {pauses[-1]:.0f} ms")
    pulse.ended = True
    check(number > 20 * KILLS and pulse.writes > 20 * KILLS, f"{number} and {pulse.writes} writes in between")
    pauses.sort()
    check(pauses[-1] < PAUSE_MS_MAX, f"longest pause {pauses[-1]:.0f} ms, median {pauses[len(pauses) // 2]:.0f} ms, under {PAUSE_MS_MAX}")
    disk.close()


def test(directory):
    image = directory / "image"
    nbd_clients.make_image(image, DISK)
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": DISK, "disk2": 64 * MIB, "disk3": 64 * MIB}, vtpm=False)
        keeper.create({"image1": image})
        keeper.start()
        keeper.wait_serving()
        uri = keeper.uri("disk1")
        run(["nbdcopy", uri, directory / "imported"])
        check(nbd_clients.sha256(directory / "imported") == nbd_clients.sha256(image), "the image that was imported reads back by SHA-256")
        nbd_clients.nbdinfo_says_what_we_offer(uri, DISK, "disk1")
        nbd_clients.nbdcopy_there_and_back(uri, directory, image)
        nbd_clients.qemu_img_agrees(uri, directory, image, DISK)
        nbd_clients.qemu_io_agrees(uri)
        nbd_clients.fio_verifies(uri, directory)
        verifies_across_a_restart(keeper, directory)
        killed_under_load(keeper)
        status = keeper.control("status")
        check(status["state"] == "serving", f"still serving: {json.dumps(status)[:120]}…")
        keeper.stop()


main(test)
