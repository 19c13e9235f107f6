"""A machine on a vault and a keeper alone: what the guest sees of Holdfast, without daemon and CLI in between."""

import pathlib

from .keeper import Keeper, Vault
from .machine import VARS_MICROSOFT_KEYS, Machine


class KeeperMachine(Machine):
    def __init__(self, processes, directory, disk1, disk2, uefi_vars=VARS_MICROSOFT_KEYS, **config):
        super().__init__(processes, directory)
        vault = Vault(processes, self.directory)
        site = vault.init()["site_id"]
        vault.start()
        sizes = {"disk1": pathlib.Path(disk1).stat().st_size, "disk2": pathlib.Path(disk2).stat().st_size}
        self.keeper = Keeper(processes, self.directory, vault, site, sizes, **config)
        self.keeper.create({"image1": disk1, "image2": disk2}, uefi_vars)
        self.vault = vault

    def start(self):
        """Powers on, and starts the keeper if it doesn't run. The console of this boot."""
        if self.keeper.process is None or not self.keeper.process.running():
            self.keeper.start()
            self.keeper.wait_serving()
        path = self.keeper.socket_path
        return self.start_qemu(self.next_run_dir(), [(path("disk1"), "disk1"), (path("disk2"), "disk2")],
                               (path("vars"), "vars"), path("tpm"))

    def kill_both(self):
        """QEMU and keeper at once, as with a host that is lost; the journal is what is left."""
        self.keeper.process.child.kill()
        self.qemu.child.kill()
        self.keeper.process.kill()
        self.kill()
