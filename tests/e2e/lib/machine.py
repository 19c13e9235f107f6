"""A trusted-launch machine under QEMU's TCG: the same hardware whoever serves its disks, variables and TPM."""

import pathlib
import subprocess

from .console import Console
from .qmp import Qmp

OVMF = pathlib.Path("/usr/share/OVMF")
CODE_SECURE_BOOT = OVMF / "OVMF_CODE_4M.ms.fd"
VARS_MICROSOFT_KEYS = OVMF / "OVMF_VARS_4M.ms.fd"
VARS_NO_KEYS = OVMF / "OVMF_VARS_4M.fd"


def _nbd(node, socket_path, export):
    return (f"driver=nbd,server.type=unix,server.path={socket_path},export={export},node-name={node},"
            "reconnect-delay=30")


class Machine:
    """Starts and ends QEMU. A subclass says where disks, variables and TPM are, and ends what it started itself."""

    def __init__(self, processes, directory):
        self.processes = processes
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.boots = 0
        self.qemu = None
        self.firmware = CODE_SECURE_BOOT
        self.tpm_device = "tpm-crb"
        self.with_agent = False  # a port for the guest's agent at agent_path
        self.reboots = False  # a guest's reset starts it again; else it ends QEMU
        self.more_argv = []  # further words for QEMU: another device, a kernel

    def next_run_dir(self):
        self.boots += 1
        run_dir = self.directory / f"boot{self.boots}"
        run_dir.mkdir()
        return run_dir

    def start_qemu(self, run_dir, disks, variables, tpm):
        """disks: [(socket, export)] in order; variables: (socket, export); tpm: control socket. The console."""
        self.qmp_path = run_dir / "qmp.sock"
        self.agent_path = run_dir / "agent.sock"
        argv = [
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-m", "512",
            "-machine", "q35,smm=on,pflash0=code,pflash1=vars", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-global", "driver=cfi.pflash01,property=secure,value=on",
            "-blockdev", f"driver=file,filename={self.firmware},node-name=code,read-only=on",
            "-blockdev", _nbd("vars", *variables),
            "-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", f"{self.tpm_device},tpmdev=tpm", "-serial", "stdio", "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
        ]
        for number, (socket_path, export) in enumerate(disks, 1):
            boot = ",bootindex=1" if number == 1 else ""
            argv += ["-blockdev", _nbd(f"disk{number}", socket_path, export),
                     "-device", f"virtio-blk-pci,drive=disk{number}{boot}"]
        if not self.reboots:
            argv.append("-no-reboot")
        if self.with_agent:
            argv += ["-device", "virtio-serial-pci",
                     "-chardev", f"socket,id=agent,path={self.agent_path},server=on,wait=off",
                     "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        argv += self.more_argv
        self.qemu = self.processes.start(argv, name=f"{self.directory.name}-qemu{self.boots}", stdout=subprocess.PIPE)
        return Console(self.qemu.child.stdout.fileno(), run_dir / "console.log", own=self.qemu.child)

    def end_parts(self):
        """Overridden by a subclass that has parts of its own to end with the machine."""

    def press_power_button(self):
        qmp = Qmp(self.qmp_path)
        qmp.call("system_powerdown")
        qmp.close()

    def wait_off(self, timeout=30):
        self.qemu.wait(timeout)
        self._end()

    def kill(self):
        """kill -9 of QEMU, then the end of its parts."""
        self.qemu.kill()
        self._end()

    def _end(self):
        self.processes.forget(self.qemu)
        self.end_parts()
