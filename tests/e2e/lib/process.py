"""Processes of a test: started in a session of their own, output kept in a file, all ended when the test ends."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time


class Failure(Exception):
    """A test's finding: what was expected and what was there instead. Ends the test with exit status 1."""


def wait_until(condition, timeout, what, interval=0.02):
    """Returns the condition's first true value; Failure naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


class Process:
    """One child. Its stderr (and stdout unless piped) goes to `log`."""

    def __init__(self, argv, log, name=None, stdout=None, **popen):
        self.name = name or pathlib.Path(argv[0]).name
        self.log = pathlib.Path(log)
        self._log_file = open(self.log, "ab")
        self.child = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=stdout or self._log_file,
            stderr=self._log_file, start_new_session=True, **popen)

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def wait(self, timeout):
        """Its exit status; Failure when it still runs after `timeout` seconds."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} (pid {self.pid}) still runs after {timeout:g} s") from None

    def kill(self):
        """kill -9, and waits for the end. A process that is gone already is fine."""
        if self.running():
            self.child.kill()
        return self.child.wait(10)

    def stop(self, timeout=5):
        """SIGTERM, then SIGKILL after `timeout`; also what it left behind in its session."""
        if self.running():
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(timeout)
        self.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._log_file.close()

    def log_tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Processes(contextlib.AbstractContextManager):
    """Starts processes and stops what is left of them, newest first, when the block ends."""

    def __init__(self, log_dir):
        self.log_dir = pathlib.Path(log_dir)
        self.all = []

    def start(self, argv, name=None, **popen):
        name = name or pathlib.Path(str(argv[0])).name
        process = Process(argv, self.log_dir / f"{name}.log", name=name, **popen)
        self.all.append(process)
        return process

    def wait_for_socket(self, process, path, timeout=10):
        def there():
            if not process.running():
                raise Failure(f"{process.name} ended with {process.child.returncode}:\n{process.log_tail()}")
            return pathlib.Path(path).exists()

        wait_until(there, timeout, f"{process.name}: socket {path}")

    def forget(self, process):
        """For one that has ended: many boots leave many."""
        if process in self.all:
            process.stop()
            self.all.remove(process)

    def stop_all(self):
        while self.all:
            self.all.pop().stop()

    def __exit__(self, *_):
        self.stop_all()


def run(argv, timeout=60, check=True, **kwargs):
    """Runs a command to its end with its output taken as text. Failure with that output when it fails (check)."""
    argv = [str(word) for word in argv]
    try:
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(argv, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout, text=True, errors="replace", check=False,
                              **kwargs)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(argv)}: no end within {timeout:g} s") from None
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done
