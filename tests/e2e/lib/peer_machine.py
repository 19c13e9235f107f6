"""A machine of third-party parts only: QEMU (TCG), swtpm, qemu-storage-daemon. The probe guest's known-good home."""

import pathlib
import shutil
import subprocess

from .console import Console
from .process import run
from .qmp import Qmp

OVMF = pathlib.Path("/usr/share/OVMF")
CODE_SECURE_BOOT = OVMF / "OVMF_CODE_4M.ms.fd"
VARS_MICROSOFT_KEYS = OVMF / "OVMF_VARS_4M.ms.fd"
VARS_NO_KEYS = OVMF / "OVMF_VARS_4M.fd"


class PeerMachine:
    """disk1, disk2, vars.fd and tpm/ lie in `directory`; they stay between boots and may be changed while it is off."""

    def __init__(self, processes, directory, disk1, disk2, uefi_vars=VARS_MICROSOFT_KEYS):
        self.processes = processes
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.disk1, self.disk2, self.vars = (self.directory / name for name in ("disk1", "disk2", "vars.fd"))
        run(["cp", "--sparse=always", disk1, self.disk1])
        run(["cp", "--sparse=always", disk2, self.disk2])
        shutil.copy(uefi_vars, self.vars)
        self.tpm = self.directory / "tpm"
        self.new_tpm()
        self.boots = 0
        self.parts = []

    def new_tpm(self):
        """Another TPM in the machine's place: other seeds, so it can't open what the old one sealed."""
        shutil.rmtree(self.tpm, ignore_errors=True)
        self.tpm.mkdir()
        run(["swtpm_setup", "--tpm2", "--tpmstate", self.tpm, "--create-ek-cert", "--overwrite", "--pcr-banks",
             "sha256"])

    def start(self):
        """Powers on; the console of this boot. The machine is off again when console.ended."""
        self.boots += 1
        run_dir = self.directory / f"boot{self.boots}"
        run_dir.mkdir()
        disks, tpm, qmp = run_dir / "nbd.sock", run_dir / "tpm.sock", run_dir / "qmp.sock"
        storage = ["qemu-storage-daemon", "--nbd-server", f"addr.type=unix,addr.path={disks},max-connections=0"]
        for name, path in (("disk1", self.disk1), ("disk2", self.disk2), ("vars", self.vars)):
            storage += ["--blockdev", f"driver=file,node-name={name},filename={path},discard=unmap",
                        "--export", f"type=nbd,id={name},node-name={name},name={name},writable=on"]
        storage = self.processes.start(storage, name=f"storage{self.boots}")
        swtpm = self.processes.start(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm}", "--ctrl",
                                      f"type=unixio,path={tpm}", "--terminate"], name=f"swtpm{self.boots}")
        self.processes.wait_for_socket(storage, disks)
        self.processes.wait_for_socket(swtpm, tpm)

        def nbd(name):
            return f"driver=nbd,server.type=unix,server.path={disks},export={name},node-name={name},reconnect-delay=10"

        self.qemu = self.processes.start([
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", "512",
            "-machine", "q35,smm=on,pflash0=code,pflash1=vars", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-global", "driver=cfi.pflash01,property=secure,value=on",
            "-blockdev", f"driver=file,filename={CODE_SECURE_BOOT},node-name=code,read-only=on",
            "-blockdev", nbd("vars"), "-blockdev", nbd("disk1"), "-blockdev", nbd("disk2"),
            "-device", "virtio-blk-pci,drive=disk1,bootindex=1", "-device", "virtio-blk-pci,drive=disk2",
            "-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm", "-serial", "stdio", "-qmp", f"unix:{qmp},server=on,wait=off",
        ], name=f"qemu{self.boots}", stdout=subprocess.PIPE)
        self.parts = [self.qemu, swtpm, storage]
        self.qmp_path = qmp
        return Console(self.qemu.child.stdout.fileno(), run_dir / "console.log", own=self.qemu.child)

    def press_power_button(self):
        qmp = Qmp(self.qmp_path)
        qmp.call("system_powerdown")
        qmp.close()

    def wait_off(self, timeout=30):
        self.qemu.wait(timeout)
        self._end_parts()

    def kill(self):
        """The host's end: QEMU is killed. swtpm ends with it, without telling the TPM."""
        self.qemu.kill()
        self._end_parts()

    def _end_parts(self):
        for part in self.parts:
            part.stop()
            if part in self.processes.all:
                self.processes.all.remove(part)
        self.parts = []
