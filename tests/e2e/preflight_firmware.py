#!/usr/bin/env python3
# timeout: 300
# needs: qemu-2
# programs: holdfast
"""`holdfast vm check` says of odd disks what OVMF does with them.

Some disks, each with one or two fields of its partition table or FAT file system wrong, are made of a seed and checked; then
OVMF tries them all in one boot, one after the other. The boot program of each writes the disk's name to a port of QEMU and
comes back with an error, which sends the firmware on to the next disk; the last one, which is whole, shuts the machine down.

HOLDFAST_DISKS says how many (20; 300 in script/nightly), HOLDFAST_DISKS_SEED where the seeds begin (39: of that and the 19 that follow, most kinds).
"""

import hashlib
import json
import os
import pathlib

from lib.machine import OVMF
from lib.odd_disks import Fat, OddDisk, write_sparse
from lib.process import Failure, Processes, run
from lib.report import check, main, step

HOLDFAST = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast"
PROBE = pathlib.Path(__file__).parent / "lib" / "efi_probe.c"
NAME = b"HF-PROBE-NAME-\0\0"
DISKS_A_BOOT = 60
END = "END"


def build_probe(directory):
    unit, program = directory / "probe.obj", directory / "probe.efi"
    run(["clang-19", "--target=x86_64-unknown-windows", "-O1", "-ffreestanding", "-fno-stack-protector", "-mno-red-zone", "-c", PROBE,
         "-o", unit])
    run(["lld-link-19", "/subsystem:efi_application", "/entry:efi_main", "/nodefaultlib", f"/out:{program}", unit])
    return program.read_bytes()


def named(program, name):
    if program.count(NAME) != 1:
        raise Failure("the boot program has no place for its name")
    # Longer than a cluster or three, so that its chain matters.
    return program.replace(NAME, name.encode().ljust(len(NAME), b"\0")).ljust(6000, b"\0")


def vm_check(disk, store):
    done = run([HOLDFAST, "-o", "json", "vm", "check", disk, "--vars", store], check=False)
    if not done.stdout.startswith("{"):
        return {"boots": "not checked", "summary": done.stderr.strip(), "warnings": []}
    return json.loads(done.stdout)


def boot(processes, directory, number, disks):
    """The names that the boot programs of these disks wrote."""
    variables, said = directory / f"vars{number}.fd", directory / f"said{number}"
    variables.write_bytes((OVMF / "OVMF_VARS_4M.fd").read_bytes())
    argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-m", "256", "-machine", "q35", "-accel", "tcg", "-cpu", "max",
            "-no-reboot", "-drive", f"if=pflash,format=raw,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}",
            "-drive", f"if=pflash,format=raw,file={variables}", "-chardev", f"file,id=said,path={said}",
            "-device", "isa-debugcon,iobase=0xe9,chardev=said"]
    for index, disk in enumerate(disks):
        slot, function = divmod(index, 8)
        argv += ["-drive", f"if=none,id=d{index},format=raw,snapshot=on,file={disk}",
                 "-device", f"virtio-blk-pci,drive=d{index},bootindex={index + 1},addr={slot + 3:#x}.{function},multifunction=on"]
    qemu = processes.start(argv, name=f"qemu{number}")
    qemu.wait(60 + 4 * len(disks))
    names = said.read_text(encoding="ascii").split()
    if not names or names[-1] != END:
        raise Failure(f"the firmware did not come to the last disk: {names}\n{qemu.log_tail()}")
    return names[:-1]


def said_of(disk, report):
    """Which of the disk's programs vm check says to start: 1, 2, or 0."""
    if report["boots"] in ("no", "not checked"):
        return 0
    path = next(path for path in report["paths"] if path["boots"] != "no")
    second = hashlib.sha256(disk.programs[1]).hexdigest()
    return 2 if path["parts"] and path["parts"][0]["file_sha256"] == second else 1


def compare(disk, report, booted):
    """None, or how they differ. booted: the number of the program that ran, or 0."""
    said = said_of(disk, report)
    if said == booted:
        return None
    says = f"vm check: {said}; {report['boots']}, {report['summary']} {report['warnings']}"
    return f"seed {disk.seed} ({disk.words}): OVMF starts program {booted}; {says}"


def test(directory):
    count = int(os.environ.get("HOLDFAST_DISKS", "20"))
    first = int(os.environ.get("HOLDFAST_DISKS_SEED", "39"))
    program = build_probe(directory)
    store = OVMF / "OVMF_VARS_4M.fd"
    last = write_sparse(directory / "last.img", Fat(named(program, END), 16, 5000).build())
    differences, started = [], 0
    with Processes(directory) as processes:
        for number, begin in enumerate(range(first, first + count, DISKS_A_BOOT)):
            seeds = range(begin, min(begin + DISKS_A_BOOT, first + count))
            disks = [OddDisk(seed, [named(program, f"D{seed}"), named(program, f"D{seed}-2")]) for seed in seeds]
            files = [write_sparse(directory / f"disk{disk.seed}.img", disk.content) for disk in disks]
            reports = [vm_check(file, store) for file in files]
            names = boot(processes, directory, number, [*files, last])
            for disk, report in zip(disks, reports):
                booted = 1 if f"D{disk.seed}" in names else 2 if f"D{disk.seed}-2" in names else 0
                started += booted != 0
                difference = compare(disk, report, booted)
                if difference:
                    differences.append(difference)
            for file in files:
                file.unlink()
            step(f"seeds {seeds.start} to {seeds.stop - 1}: OVMF started {len(names)} of {len(disks)}")
    check(not differences, f"vm check and OVMF agree on {count} odd disks, of which {started} boot" + "".join(
        f"\n  {line}" for line in differences))
    check(count // 5 < started < count, "some of them boot, some do not")


if __name__ == "__main__":
    main(test)
