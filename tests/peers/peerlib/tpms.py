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


def wait_for_socket(child, path, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args[0]} ended with status {child.returncode}")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
                return
            except OSError:
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
        wait_for_socket(self.child, self.control)
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


class Relay:
    """A TCP port of this machine alone for clients that know no unix socket: one connection after the other, each command
    and its answer whole, over one connection to the TPM."""

    def __init__(self, tpm):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.tpm = socket.socket(socket.AF_UNIX)
        self.tpm.settimeout(120)
        self.tpm.connect(str(tpm.data))
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def frame(link):
        """A whole command or answer; empty when the other side has left."""
        got = b""
        while len(got) < 10 or len(got) < int.from_bytes(got[2:6], "big"):
            more = link.recv(8192)
            if not more:
                return b""
            got += more
        return got

    def serve(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            with link:
                try:
                    while command := self.frame(link):
                        self.tpm.sendall(command)
                        answer = self.frame(self.tpm)
                        if not answer:
                            return
                        link.sendall(answer)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        self.tpm.close()


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
