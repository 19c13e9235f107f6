"""A vTPM of ours and a swtpm, made anew for each test, behind the same two unix sockets or the same TCP port."""

import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

SERVER = pathlib.Path(os.environ.get("HOLDFAST_BIN", "build/dev/bin")).resolve() / "holdfast-vtpm-server"
ONE_BANK, ALL_BANKS = "sha256", "sha1,sha256,sha384,sha512"


def listening(path):
    """Whether a unix socket listens there, without a connection that the server would have to serve."""
    accepts = 0x10000  # __SO_ACCEPTCON
    with open("/proc/net/unix") as sockets:
        fields = [line.split() for line in sockets.readlines()[1:]]
    return any(len(one) > 7 and one[7] == str(path) and int(one[3], 16) & accepts for one in fields)


def wait_for_socket(child, path, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args[0]} ended with status {child.returncode}")
        if listening(path):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{child.args[0]} does not listen at {path}")


class Tpm:
    """Context: a TPM with its state in `directory`, powered on and started up."""

    def __init__(self, directory, banks):
        self.directory, self.banks = pathlib.Path(directory), banks
        self.data = self.directory / "tpm"
        self.control = self.directory / "tpm.ctrl"
        self.child = None

    def __enter__(self):
        self.log = open(self.directory / "tpm.log", "ab")
        argv = [str(word) for word in self.argv()]
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for path in (self.control, self.data):
            wait_for_socket(self.child, path)
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(10)
        self.log.close()

    def tcti(self):
        return f"swtpm:path={self.data}"


class Ours(Tpm):
    def argv(self):
        return [SERVER, "--state", self.directory / "state", "--control", self.directory / "own", "--tcti", self.data,
                "--pcr-banks", self.banks, "--power-on"]


class Swtpm(Tpm):
    def argv(self):
        state = self.directory / "state"
        state.mkdir()
        subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", state, "--pcr-banks", self.banks], check=True,
                       timeout=60, stdout=self.log, stderr=self.log)
        return ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={self.data}",
                "--ctrl", f"type=unixio,path={self.control}", "--flags", "not-need-init,startup-clear"]


KINDS = {"holdfast": Ours, "swtpm": Swtpm}


class Simulator:
    """The TPM behind the two TCP ports of Microsoft's simulator, of this machine alone, for clients that know no other: port
    for commands, port + 1 for its power switch. One connection after the other at each."""

    SEND_COMMAND, SESSION_END, POWER_ON = 8, 20, 1
    RC_RETRY = (0x922).to_bytes(4, "big")
    CONTROL_INIT = (2).to_bytes(4, "big") + bytes(4)

    def __init__(self, tpm):
        self.data, self.control = self.connected(tpm.data), self.connected(tpm.control)
        self.commands, self.platform = self.two_ports()
        self.port = self.commands.getsockname()[1]
        for listener, serve in ((self.commands, self.serve_commands), (self.platform, self.serve_platform)):
            threading.Thread(target=self.accept, args=(listener, serve), daemon=True).start()

    @staticmethod
    def connected(path):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(120)
        link.connect(str(path))
        return link

    @staticmethod
    def two_ports():
        for _ in range(100):
            first = socket.create_server(("127.0.0.1", 0))
            try:
                return first, socket.create_server(("127.0.0.1", first.getsockname()[1] + 1))
            except (OSError, OverflowError):
                first.close()
        raise RuntimeError("no two neighbouring TCP ports are free")

    @staticmethod
    def exactly(link, size):
        got = b""
        while len(got) < size:
            more = link.recv(size - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def number(self, link):
        return int.from_bytes(self.exactly(link, 4), "big")

    def accept(self, listener, serve):
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                try:
                    while serve(link):
                        pass
                except (EOFError, OSError):
                    pass

    def serve_commands(self, link):
        word = self.number(link)
        if word != self.SEND_COMMAND:
            return False  # SESSION_END
        self.exactly(link, 1)  # locality: these suites use 0
        command = self.exactly(link, self.number(link))
        for _ in range(3):
            self.data.sendall(command)
            header = self.exactly(self.data, 10)
            answer = header + self.exactly(self.data, int.from_bytes(header[2:6], "big") - 10)
            if header[6:] != self.RC_RETRY:
                break  # else it is sent again, as drivers do
        link.sendall(len(answer).to_bytes(4, "big") + answer + bytes(4))
        return True

    def serve_platform(self, link):
        word = self.number(link)
        if word == self.SESSION_END:
            return False
        if word == self.POWER_ON:  # as a machine's reset
            self.control.sendall(self.CONTROL_INIT)
            link.sendall(self.exactly(self.control, 4))
        else:
            link.sendall(bytes(4))
        return True

    def close(self):
        for one in (self.commands, self.platform, self.data, self.control):
            one.close()


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
