#!/usr/bin/env python3
# timeout: 300
# needs: qemu
# programs: holdfast-vtpm-server
"""The vTPM as third parties see it: swtpm_ioctl and raw frames answered as a real swtpm beside it answers, tpm2-tools, and
QEMU.

With tpm2-tools the server is killed -9 over and over: counters stay, the orderly one too, the clock never goes back, and a
sealed object under dictionary-attack protection opens each time. With QEMU: Secure Boot firmware measures into it, resets, migrates out to a file and in again
at another server, and the stream holds no TPM secret.
"""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import time

from lib.process import Failure, Processes, run, wait_until
from lib.qmp import Qmp
from lib.report import check, main, step

SERVER = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")) / "holdfast-vtpm-server"
OVMF = pathlib.Path("/usr/share/OVMF")
KEY_A, KEY_B = "a1" * 32, "b2" * 32
STATE_HEADER_BYTES = 32
KILLS = 8


class Ours:
    """holdfast-vtpm-server with its state in `directory`; sockets ctrl, tcti, tcti.ctrl beside it."""

    def __init__(self, processes, directory, name):
        self.processes, self.name = processes, name
        self.state = directory / f"{name}-state"
        self.control = directory / f"{name}.sock"
        self.tcti = directory / f"{name}-tcti"
        self.server = None

    def start(self, *arguments):
        for path in (self.control, self.tcti, pathlib.Path(f"{self.tcti}.ctrl")):
            path.unlink(missing_ok=True)
        self.server = self.processes.start(
            [SERVER, "--state", self.state, "--control", self.control, "--tcti", self.tcti, *arguments], name=self.name)
        self.processes.wait_for_socket(self.server, f"{self.tcti}.ctrl")
        return self

    def kill(self):
        self.server.kill()

    def ioctl(self, *arguments):
        return run(["swtpm_ioctl", "--unix", self.control, *arguments], timeout=20, check=False)

    def tool(self, name, *arguments, check=True):
        return run([name, *arguments], timeout=30, check=check,
                   env={**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.tcti}"})


class Swtpm(Ours):
    """The peer, behind the same sockets."""

    def start(self, *arguments):
        self.state.mkdir(exist_ok=True)
        self.control = pathlib.Path(f"{self.tcti}.ctrl")
        self.server = self.processes.start(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}", "--server",
             f"type=unixio,path={self.tcti}", "--ctrl", f"type=unixio,path={self.control}", *arguments],
            name=self.name)
        self.processes.wait_for_socket(self.server, self.control)
        return self


def ioctl_answers(tpm, directory):
    """What swtpm_ioctl says to each step: [(step, exit status, output)]."""
    files = {kind: directory / f"{tpm.name}-{kind}" for kind in ("permanent", "volatile")}
    answers = []

    def ask(*arguments):
        done = tpm.ioctl(*arguments)
        words = " ".join(str(word) for word in arguments if word not in files.values())
        answers.append((words, done.returncode, done.stdout + done.stderr))

    def pcr(number):
        answers.append((f"pcr {number}", 0, tpm.tool("tpm2_pcrread", f"sha256:{number}").stdout))

    ask("-e")  # not running yet: refused
    ask("-h", "early")
    ask("-b", "0")
    ask("-b", "3000")
    ask("-i")
    ask("-b", "4000")  # running: refused
    ask("-b", "0")
    ask("-e")
    ask("-l", "4")
    ask("-l", "0")
    ask("-r", "3")
    ask("-C")
    ask("-h", "some data to measure")
    tpm.tool("tpm2_startup", "-c")
    pcr(17)
    tpm.tool("tpm2_pcrextend", "10:sha256=" + "5a" * 32)
    pcr(10)
    ask("--info", "1")
    ask("--info", "7")
    ask("--save", "permanent", files["permanent"])
    ask("--save", "volatile", files["volatile"])
    ask("--load", "permanent", files["permanent"])  # running: refused
    ask("--stop")
    ask("--load", "permanent", files["permanent"])
    ask("--load", "volatile", files["volatile"])
    ask("-i")
    pcr(10)  # resumed, not started up anew
    ask("-v")
    ask("--stop")
    ask("-i")
    pcr(10)  # resumed from what -v stored
    ask("-e")
    ask("-s")
    return answers, files


def compare_with_swtpm(processes, directory):
    ours = Ours(processes, directory, "ours").start("--exit-on-shutdown")
    swtpm = Swtpm(processes, directory, "swtpm").start()
    capability = int(re.search(r"0x([0-9a-f]+)", ours.ioctl("-c").stdout)[1], 16)
    theirs = int(re.search(r"0x([0-9a-f]+)", swtpm.ioctl("-c").stdout)[1], 16)
    # Ours lacks the TCP port's command header (bit 15) and has LOCK_STORAGE (bit 16), which swtpm 0.7 lacks.
    check(capability | 1 << 15 == theirs | 1 << 16 and not capability & 1 << 15,
          f"capabilities 0x{capability:x} are swtpm's 0x{theirs:x} but for the two known")
    check("0x2" in ours.ioctl("-g").stdout, "says that what migrates is encrypted")

    mine, files = ioctl_answers(ours, directory)
    reference, _ = ioctl_answers(swtpm, directory)
    for (words, status, text), (_, their_status, their_text) in zip(mine, reference, strict=True):
        if (status, text) != (their_status, their_text):
            raise Failure(f"swtpm_ioctl {words}: ours {status} {text!r}, swtpm {their_status} {their_text!r}")
    check(sum(status == 0 for _, status, _ in mine) > len(mine) // 2, f"{len(mine)} answers are swtpm's, to the letter")
    check(ours.server.wait(5) == 0, "ends in good order after SHUTDOWN")
    for kind, path in files.items():
        blob = path.read_bytes()
        check(blob[:4] == b"HFMB" and not magic_of_libtpms(blob), f"{kind} state left sealed")
    swtpm.server.stop()


def words(*values):
    return struct.pack(f">{len(values)}I", *values)


class Frames:
    """A raw client of a control socket."""

    def __init__(self, path):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(5)
        self.link.connect(str(path))

    def ask(self, frame, fd=None):
        """All that comes within a moment of the answer's first byte."""
        try:
            if fd is None:
                self.link.sendall(frame)
            else:
                socket.send_fds(self.link, [frame], [fd])
            answer = self.link.recv(1 << 16)
        except OSError as error:
            return f"{error}".encode()
        time.sleep(0.05)
        while select.select([self.link], [], [], 0)[0]:
            more = self.link.recv(1 << 16)
            if not more:
                return answer + b" and hung up"
            answer += more
        return answer


# Each with GET_CONFIG right behind it, in one write. HASH_DATA is not among them: swtpm 0.7 takes what follows for data and
# hangs.
FRAMES = {"GET_CAPABILITY": words(1), "INIT": words(2, 0), "GET_TPMESTABLISHED": words(4), "SET_LOCALITY": words(5) + b"\0",
          "SET_LOCALITY padded": words(5, 0), "HASH_START": words(6), "HASH_END": words(8), "CANCEL_TPM_CMD": words(9),
          "STORE_VOLATILE": words(10), "RESET_TPMESTABLISHED": words(11) + b"\3", "SET_STATEBLOB": words(13, 0, 1, 4) + b"blob",
          "STOP": words(14), "GET_CONFIG": words(15), "SET_DATAFD": words(16), "SET_BUFFERSIZE": words(17, 0),
          "GET_INFO": words(18, 0, 1, 0, 0), "unknown": words(99)}
READ_CLOCK, RANDOM = bytes.fromhex("80010000000a00000181"), bytes.fromhex("80010000000c0000017b0000")
STARTUP = bytes.fromhex("80010000000c000001440000")


def frame_answers(control):
    client, answers = Frames(control), []
    for state in ("off", "on"):
        for name, frame in FRAMES.items():
            client.ask(words(14) if state == "off" else words(2, 0))
            answer = client.ask(frame + words(15))
            # Which capabilities there are compare_with_swtpm() compares.
            answers.append((f"{name} while {state}", len(answer) if name == "GET_CAPABILITY" else answer))
    client.ask(words(2, 0))
    for size in (0, 1, 4096, 4097, 5000, 1_000_000):
        answers.append((f"HASH_DATA of {size}", [client.ask(words(6)), client.ask(words(7, size) + b"z" * size), client.ask(words(8))]))
    client.link.close()
    return answers


def data_answers(control, kind):
    """A data socket of `kind`; the commands' own answers do not depend on who gives them."""
    client = Frames(control)
    data, theirs = socket.socketpair(socket.AF_UNIX, kind)
    data.settimeout(5)

    def command(raw):
        data.sendall(raw)
        return data.recv(4096)

    with data, theirs:
        answers = [client.ask(words(16), theirs.fileno()), command(READ_CLOCK), client.ask(words(2, 0)), command(STARTUP),
                   command(RANDOM), command(READ_CLOCK)[:10]]
        if kind != socket.SOCK_STREAM:  # on a stream what follows would be another command, to us
            answers += [command(READ_CLOCK * 2), command(READ_CLOCK[:5] + b"\x0b" + READ_CLOCK[6:]), command(RANDOM)]
    client.link.close()
    return answers


def compare_frames(processes, directory):
    def beside(name, ask):
        """`ask` of a new one of each."""
        ours = Ours(processes, directory, f"{name}-ours").start()
        state = directory / f"{name}-swtpm"
        state.mkdir()
        swtpm = processes.start(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl",
                                 f"type=unixio,path={state}/sock"], name=f"{name}-swtpm")
        processes.wait_for_socket(swtpm, state / "sock")
        both = ask(ours.control), ask(state / "sock")
        ours.server.kill()
        swtpm.kill()
        return both

    mine, reference = beside("frames", frame_answers)
    for (name, answer), (_, theirs) in zip(mine, reference, strict=True):
        if answer != theirs:
            raise Failure(f"{name}, GET_CONFIG behind it: ours {answer!r}, swtpm {theirs!r}")
    check(True, f"{len(mine)} times frames come two in a write or long, and are answered as swtpm answers")
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        mine, reference = beside(kind.name, lambda control, kind=kind: data_answers(control, kind))
        if mine != reference:
            raise Failure(f"data socket {kind.name}: ours {mine}, swtpm {reference}")
    check(True, "a data socket may be a stream, SOCK_SEQPACKET or SOCK_DGRAM, as with swtpm")


def magic_of_libtpms(blob):
    """Whether clear libtpms state stands in there: the permanent state's and the volatile state's magic numbers."""
    return bytes.fromhex("ab364723") in blob or bytes.fromhex("45637889") in blob


ORDERLY = "0x01500002"


def counter(tpm, index):
    """Its last byte: these stay small."""
    return tpm.tool("tpm2_nvread", "-C", "o", index).stdout.encode("utf-8", "surrogateescape")[-1]


def clock(tpm):
    text = tpm.tool("tpm2_readclock").stdout
    found = {name: re.search(rf"{name}: (\w+)", text)[1] for name in ("clock", "reset_count", "restart_count", "safe")}
    return {name: {"yes": 1, "no": 0}.get(value) if name == "safe" else int(value) for name, value in found.items()}


def tools_and_kills(processes, directory):
    tpm = Ours(processes, directory, "tools").start("--power-on")
    banks = tpm.tool("tpm2_getcap", "pcrs").stdout
    check("sha1: [ ]" in banks and "sha256: [ 0," in banks, "of the PCR banks only sha256 is active")
    handles = tpm.tool("tpm2_getcap", "handles-persistent").stdout
    check(all(handle in handles for handle in ("0x81000001", "0x81010001", "0x81010016")), "EKs and SRK are there")
    context, public, private, secret = (directory / name for name in ("p.ctx", "k.pub", "k.priv", "secret"))
    secret.write_text("the disk's key")
    tpm.tool("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", context)
    tpm.tool("tpm2_create", "-Q", "-C", context, "-u", public, "-r", private, "-p", "pw", "-i", secret)
    tpm.tool("tpm2_flushcontext", "-t")
    tpm.tool("tpm2_nvdefine", "-Q", "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite|authread|authwrite|nt=counter|no_da",
             "0x01500001")
    tpm.tool("tpm2_nvdefine", "-Q", "-C", "o", "-s", "8", "-a",
             "ownerread|ownerwrite|authread|authwrite|nt=counter|no_da|orderly", ORDERLY)
    count, told = 0, clock(tpm)
    for kill in range(1, KILLS + 1):
        loaded = directory / "k.ctx"
        tpm.tool("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", context)
        tpm.tool("tpm2_load", "-Q", "-C", context, "-u", public, "-r", private, "-c", loaded)
        tpm.tool("tpm2_flushcontext", "-t")
        opened = tpm.tool("tpm2_unseal", "-c", loaded, "-p", "pw", check=False)
        if opened.stdout != "the disk's key":
            raise Failure(f"kill {kill}: not unsealed: {opened.stderr}")
        tpm.tool("tpm2_nvincrement", "-C", "o", "0x01500001")
        count += 1
        for _ in range(kill):
            tpm.tool("tpm2_nvincrement", "-C", "o", ORDERLY)
        if kill % 2:
            tpm.tool("tpm2_setclock", str(told["clock"] + 1_000_000))
        orderly, told = counter(tpm, ORDERLY), clock(tpm)
        tpm.kill()
        tpm.start("--power-on")
        now = clock(tpm)
        if counter(tpm, ORDERLY) != orderly or now["clock"] < told["clock"] or now["reset_count"] <= told["reset_count"]:
            raise Failure(f"kill {kill}: told {orderly}, {told}; then {counter(tpm, ORDERLY)}, {now}")
        if counter(tpm, "0x01500001") != count:
            raise Failure(f"kill {kill}: the counter is {counter(tpm, '0x01500001')}, should be {count}")
    check(now["safe"] == 1, "the clock is safe: no value of it was told twice")
    check(True, f"unsealed and counted through {KILLS} kills -9, three being the limit of wrong tries")
    tpm.server.stop()


class Machine:
    """QEMU with nothing but firmware, flash and our vTPM. Its serial line tells when the firmware is through."""

    def __init__(self, processes, directory, name, tpm, uefi_vars, *arguments):
        self.serial, self.qmp_path = directory / f"{name}.serial", directory / f"{name}.qmp"
        self.qemu = processes.start([
            "qemu-system-x86_64", "-machine", "q35,smm=on", "-accel", "tcg", "-m", "256", "-nodefaults", "-display",
            "none", "-global", "driver=cfi.pflash01,property=secure,value=on",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.ms.fd",
            "-drive", f"if=pflash,unit=1,format=raw,file={uefi_vars}",
            "-chardev", f"socket,id=tpm,path={tpm.control}", "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm", "-serial", f"file:{self.serial}",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off", *arguments], name=name)

    def wait_firmware(self, boots, timeout=40):
        def through():
            if not self.qemu.running():
                raise Failure(f"QEMU ended:\n{self.qemu.log_tail()}")
            return self.serial.exists() and self.serial.read_bytes().count(b"No bootable option") >= boots

        wait_until(through, timeout, f"boot {boots} of the firmware")

    def qmp(self, command, arguments=None):
        qmp = Qmp(self.qmp_path)
        try:
            return qmp.call(command, arguments)
        finally:
            qmp.close()


def pcrs(tpm):
    return tpm.tool("tpm2_pcrread", "sha256:0,2,7").stdout


def migrate_out(machine, stream):
    machine.qmp("migrate", {"uri": f"exec:cat > {stream}"})
    wait_until(lambda: machine.qmp("query-migrate").get("status") in ("completed", "failed"), 30, "migration")
    check(machine.qmp("query-migrate")["status"] == "completed", "QEMU migrated out, TPM blobs with it")


def qemu(processes, directory):
    source = Ours(processes, directory, "source").start("--key", KEY_A)
    uefi_vars = directory / "vars.fd"
    shutil.copy(OVMF / "OVMF_VARS_4M.ms.fd", uefi_vars)
    machine = Machine(processes, directory, "qemu-source", source, uefi_vars)
    machine.wait_firmware(1)
    first = pcrs(source)
    check(re.search(r"7 ?: 0x(?!0{64})", first) and re.search(r"0 ?: 0x(?!0{64})", first),
          "Secure Boot firmware measured itself and its keys (PCR 0, 7)")
    machine.qmp("system_reset")
    machine.wait_firmware(2)
    check(pcrs(source) == first, "after system_reset it measured the same from zero")

    stream = directory / "stream"
    migrate_out(machine, stream)
    permanent = (source.state / "vtpm-state").read_bytes()[STATE_HEADER_BYTES:]
    # The first 32 bytes that look random are a hierarchy's seed: libtpms writes those first.
    seeds = next(piece for at in range(len(permanent) - 32) if len(set(piece := permanent[at:at + 32])) > 27)
    check(seeds not in stream.read_bytes() and b"HFMB" in stream.read_bytes(), "the stream holds sealed state only")
    machine.qmp("quit")
    machine.qemu.wait(10)
    source.kill()

    refusing = Ours(processes, directory, "other-key").start("--key", KEY_B, "--incoming")
    wrong = Machine(processes, directory, "qemu-wrong", refusing, uefi_vars, "-incoming", f"exec:cat {stream}")
    check(wrong.qemu.wait(30) != 0 and "sealed vTPM state" in refusing.server.log_tail(),
          "a target with another key does not start the machine")
    refusing.kill()

    target = Ours(processes, directory, "target").start("--key", KEY_A, "--incoming")
    machine = Machine(processes, directory, "qemu-target", target, uefi_vars, "-incoming", f"exec:cat {stream}")
    wait_until(lambda: machine.qmp("query-status")["status"] == "running", 30, "the migrated machine")
    check(pcrs(target) == first, "the machine runs at the target with its PCRs")
    check(not (target.state / "vtpm-state").exists(), "the target stored nothing before it was allowed to")
    target.server.child.send_signal(signal.SIGUSR1)
    wait_until((target.state / "vtpm-state").exists, 5, "the target's store once it was allowed to")
    machine.qmp("system_reset")
    machine.wait_firmware(1)
    check(pcrs(target) == first, "it reset and measured the same there")
    machine.qemu.kill()
    again = Machine(processes, directory, "qemu-again", target, uefi_vars)
    again.wait_firmware(1)
    check(pcrs(target) == first, "QEMU was killed -9; the next one connected and booted")


def test(directory):
    with Processes(directory) as processes:
        for part in (compare_with_swtpm, compare_frames, tools_and_kills, qemu):
            step(part.__name__)
            part(processes, directory)


if __name__ == "__main__":
    main(test)
