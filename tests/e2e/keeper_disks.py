#!/usr/bin/env python3
# timeout: 240
# needs: disk-time qemu
# programs: holdfast-keeper holdfast-vault
"""A keeper's disks under third-party NBD clients, by content, also across its death and an orderly stop."""

from lib import nbd_clients
from lib.keeper import Keeper, Vault
from lib.nbd_clients import MIB
from lib.process import Processes, run
from lib.report import check, main, step

DISK = 256 * MIB


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


def test(directory):
    image = directory / "image"
    nbd_clients.make_image(image, DISK)
    with Processes(directory) as processes:
        vault = Vault(processes, directory)
        site = vault.init()["site_id"]
        vault.start()
        keeper = Keeper(processes, directory, vault, site, {"disk1": DISK}, vtpm=False)
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
        keeper.stop()


main(test)
