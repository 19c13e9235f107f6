"""A machine of third-party parts only: QEMU, swtpm, qemu-storage-daemon. The probe guest's known-good home."""

import shutil

from .machine import VARS_MICROSOFT_KEYS, Machine
from .process import run


class PeerMachine(Machine):
    """disk1, disk2, vars.fd and tpm/ lie in `directory`; they stay between boots and may be changed while it is off."""

    def __init__(self, processes, directory, disk1, disk2, uefi_vars=VARS_MICROSOFT_KEYS, banks="sha256"):
        super().__init__(processes, directory)
        self.disk1, self.disk2, self.vars = (self.directory / name for name in ("disk1", "disk2", "vars.fd"))
        run(["cp", "--sparse=always", disk1, self.disk1])
        run(["cp", "--sparse=always", disk2, self.disk2])
        shutil.copy(uefi_vars, self.vars)
        self.tpm = self.directory / "tpm"
        self.banks = banks  # as swtpm_setup takes them: sha1,sha256,sha384,sha512
        self.new_tpm()
        self.parts = []

    def new_tpm(self):
        """Another TPM in the machine's place: other seeds, so it can't open what the old one sealed."""
        shutil.rmtree(self.tpm, ignore_errors=True)
        self.tpm.mkdir()
        run(["swtpm_setup", "--tpm2", "--tpmstate", self.tpm, "--create-ek-cert", "--overwrite", "--pcr-banks",
             self.banks])

    def start(self):
        """Powers on; the console of this boot. The machine is off again when console.ended."""
        run_dir = self.next_run_dir()
        disks, tpm = run_dir / "nbd.sock", run_dir / "tpm.sock"
        storage = ["qemu-storage-daemon", "--nbd-server", f"addr.type=unix,addr.path={disks},max-connections=0"]
        for name, path in (("disk1", self.disk1), ("disk2", self.disk2), ("vars", self.vars)):
            storage += ["--blockdev", f"driver=file,node-name={name},filename={path},discard=unmap",
                        "--export", f"type=nbd,id={name},node-name={name},name={name},writable=on"]
        storage = self.processes.start(storage, name=f"{self.directory.name}-storage{self.boots}")
        swtpm = self.processes.start(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm}", "--ctrl",
                                      f"type=unixio,path={tpm}", "--terminate"],
                                     name=f"{self.directory.name}-swtpm{self.boots}")
        self.processes.wait_for_socket(storage, disks)
        self.processes.wait_for_socket(swtpm, tpm)
        self.parts = [swtpm, storage]
        return self.start_qemu(run_dir, [(disks, "disk1"), (disks, "disk2")], (disks, "vars"), tpm)

    def end_parts(self):
        """swtpm ends with QEMU, without telling the TPM."""
        for part in self.parts:
            part.stop()
            self.processes.forget(part)
        self.parts = []
