"""A machine that runs Holdfast's programs inside, so that killing it loses what was not synced: a real power cut.

Debian's kernel with an initrd that is all of its root: busybox, bash, Python with just the modules the guest's
program imports, Holdfast's programs. State lies on one ext4 disk, mounted at /data. Boots in a few seconds under TCG.
"""

import os
import pathlib
import shutil
import subprocess

from .console import Console
from .probe import REPOSITORY
from .process import Failure, run
from .site import bin_dir

_PYTHON = "/usr/bin/python3"
_E2E = REPOSITORY / "tests/e2e"
_INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
$B mount -t tmpfs tmp /tmp
$B mount -t tmpfs run /run
$B --install -s /bin
export PATH=/bin:/usr/bin HOLDFAST_BIN=/holdfast PYTHONDONTWRITEBYTECODE=1
exec >/dev/ttyS0 2>&1 </dev/null
while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; sleep 0.1; done
mkdir -p /data
mount -t ext4 /dev/vda /data || echo "HF FAILED mount"
/usr/bin/python3 -S -c "import sys; sys.path.insert(0, '/e2e'); from lib import {module}; {module}.main()" $(cat /proc/cmdline)
echo "HF END $?"
sync
poweroff -f
"""


def newest_kernel():
    kernels = sorted(pathlib.Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    if not kernels:
        raise Failure("no kernel of linux-image-cloud-amd64 in /boot")
    return kernels[-1]


def _libraries(program):
    return [word for word in run(["ldd", program], check=False).stdout.split() if word.startswith("/")]


def _put(root, source, target=None):
    source = pathlib.Path(source)
    target = root / str(target or source).lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def build_initrd(path, module, programs):
    """module: what the guest runs, lib/MODULE.py with main(); programs: names out of build/…/bin."""
    root = path.parent / "initrd.root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "run", "lib/modules", "holdfast", "e2e"):
        (root / name).mkdir(parents=True)
    (root / "init").write_text(_INIT.format(module=module))
    (root / "init").chmod(0o755)
    _put(root, "/bin/busybox")
    _put(root, "/bin/bash")
    needed = _libraries("/bin/bash") + _libraries(_PYTHON)
    for program in programs:
        target = root / "holdfast" / program
        run(["llvm-strip-19", "-o", target, bin_dir() / program])
        needed += _libraries(target)
    listing = ("import sys; sys.path.insert(0, sys.argv[1]); import encodings.idna; import lib." + module + "; "
               "print('\\n'.join(sorted(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None))))")
    _put(root, pathlib.Path(_PYTHON).resolve(), _PYTHON)
    for file in run([_PYTHON, "-S", "-c", listing, _E2E]).stdout.split("\n"):
        if file.startswith(str(_E2E)):
            _put(root, file, "/e2e" + file.removeprefix(str(_E2E)))
        elif file.startswith("/"):
            _put(root, file)
            if file.endswith(".so"):
                needed += _libraries(file)
    for library in needed:
        _put(root, library)
    _put_modules(root, ["virtio_pci", "virtio_blk"])
    listed = subprocess.run(["find", "."], cwd=root, stdout=subprocess.PIPE, check=True).stdout
    with open(path, "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root, input=listed, stdout=out,
                       check=True)
    shutil.rmtree(root)


def _put_modules(root, names):
    release = newest_kernel().name.removeprefix("vmlinuz-")
    order = []
    for name in names:
        for line in run(["/usr/sbin/modprobe", "-S", release, "--show-depends", name]).stdout.splitlines():
            words = line.split()
            if words[0] == "insmod" and words[1] not in order:
                order.append(words[1])
    for file in order:
        _put(root, file, "/lib/modules/" + pathlib.Path(file).name)
    (root / "lib/modules/order").write_text("".join(pathlib.Path(file).name + "\n" for file in order))


class Appliance:
    def __init__(self, processes, directory, module, programs, disk_mib=512):
        self.processes = processes
        self.directory = pathlib.Path(directory)
        self.initrd = self.directory / "initrd"
        build_initrd(self.initrd, module, programs)
        self.disk = self.directory / "data.ext4"
        with open(self.disk, "wb") as disk:
            disk.truncate(disk_mib << 20)
        run(["/sbin/mke2fs", "-q", "-t", "ext4", "-F", self.disk])
        self.boots = 0

    def start(self, **arguments):
        """Boots; arguments reach the guest's main() as NAME=VALUE words of the kernel's command line."""
        # One vCPU. A kernel patches its own code while it boots (static keys, alternatives), and relies on what other processors
        # see of an instruction that is half written: text_poke_bp() in Linux' arch/x86/kernel/alternative.c, "Handling Self- and
        # Cross-Modifying Code" in Intel's SDM, volume 3. TCG's vCPU threads were seen not to keep to that: with two, a boot ended
        # in a panic in sched_clock_cpu(), at a jump label that had just been made a nop (66 90). What is shown here is a power
        # cut under load, by processes and threads that the guest's kernel interleaves; it does not take two processors.
        self.boots += 1
        words = " ".join(f"{name}={value}" for name, value in arguments.items())
        self.qemu = self.processes.start([
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", "768", "-smp", "1",
            "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-serial", "stdio",
            "-kernel", newest_kernel(), "-initrd", self.initrd,
            "-append", f"console=ttyS0 quiet loglevel=1 panic=-1 {words}",
            # The guest's syncs reach the host's page cache or disk; a killed QEMU loses neither, but all the guest had.
            "-drive", f"if=none,id=data,format=raw,file={self.disk},cache=writeback",
            "-device", "virtio-blk-pci,drive=data",
        ], name=f"appliance{self.boots}", stdout=subprocess.PIPE)
        return Console(self.qemu.child.stdout.fileno(), self.directory / f"appliance{self.boots}.console",
                       own=self.qemu.child)

    def kill(self):
        self.qemu.kill()
        self.processes.forget(self.qemu)
