#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""`vm console` on a terminal: Ctrl-] leaves a silent console at once, also while holdfastd hangs; the terminal is as it was on every
way out: keys, signals, a stop and its end, a killed daemon, a killed launcher, a terminal that goes. Commands that wait for an
answer say that the launcher has gone when it has, and do not wait on.
"""

import os
import pty
import select
import signal
import subprocess
import termios
import time

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, message_parts

HINT = b"[Ctrl-] leaves the console]"
LEAVE = b"\x1d"


class Terminal:
    """A user at a terminal, who looks at the console of a VM."""

    def __init__(self, site, vm="web", term="xterm"):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.said = b""
        self.viewer = subprocess.Popen([str(word) for word in site.argv("vm", "console", vm)], stdin=self.slave, stdout=self.slave,
                                       stderr=self.slave, env={**os.environ, "TERM": term}, start_new_session=True)

    def read(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.master], [], [], min(left, 0.05))[0]:
                continue
            try:
                self.said += os.read(self.master, 65536)
            except OSError:
                return

    def until(self, text, seconds=10):
        end = time.monotonic() + seconds
        while text not in self.said:
            if time.monotonic() > end:
                raise Failure(f"{text!r} is not on the terminal: {self.said[-400:]!r}")
            self.read(0.05)

    def type(self, keys):
        os.write(self.master, keys)

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def end(self, seconds=10):
        """Its exit status, or minus the signal that ended it; seconds until then."""
        began = time.monotonic()
        while self.viewer.poll() is None and time.monotonic() - began < seconds:
            self.read(0.02)
        if self.viewer.poll() is None:
            self.viewer.kill()
            self.viewer.wait()
            raise Failure(f"the console was not left within {seconds} s; the terminal has {self.said[-300:]!r}")
        self.read(0.1)
        return self.viewer.returncode, time.monotonic() - began

    def close(self):
        if self.viewer.poll() is None:
            self.viewer.kill()
            self.viewer.wait()
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)


def opened(site):
    terminal = Terminal(site)
    terminal.until(HINT)
    check(terminal.raw(), "every key goes to the guest")
    return terminal


def quiet(site):
    """Until the console says nothing any more."""
    said = None
    while (now := site.cli("vm", "console", "web").stdout) != said:
        said = now
        time.sleep(2)
    return said


def left_by_key(site):
    step("Ctrl-] at a console that says nothing")
    terminal = opened(site)
    said = quiet(site)
    if said.strip():
        check(terminal.said.rstrip().endswith(HINT) or HINT in terminal.said, "the hint stands below what was said so far")
    check(b"\x1b]0;web: Ctrl-] leaves" in terminal.said, "and in the terminal's title, which does not scroll away")
    terminal.type(b"\x03\x03\x03")
    time.sleep(0.5)
    terminal.read(0.5)
    check(terminal.said.count(HINT) == 2 and terminal.raw(), "who presses Ctrl-C again and again is told once more")
    terminal.type(LEAVE)
    status, seconds = terminal.end()
    check(status == 0 and seconds < 2, f"left after {seconds:.2f} s with status {status}")
    check(terminal.as_before(), "the terminal is as it was")
    terminal.close()


def ended_by_signals(site):
    step("signals")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        terminal = opened(site)
        terminal.viewer.send_signal(number)
        status, seconds = terminal.end()
        check(status == -number and terminal.as_before(), f"{number.name} ends it after {seconds:.2f} s, and the terminal is as it was")
        terminal.close()
    terminal = opened(site)
    terminal.viewer.send_signal(signal.SIGTSTP)
    wait_until(lambda: open(f"/proc/{terminal.viewer.pid}/stat").read().rpartition(")")[2].split()[0] == "T", 5, "it is stopped")
    check(terminal.as_before(), "stopped, it has given the terminal back")
    terminal.viewer.send_signal(signal.SIGCONT)
    wait_until(terminal.raw, 5, "it takes the terminal again")
    terminal.type(LEAVE)
    check(terminal.end()[0] == 0 and terminal.as_before(), "and leaves it as it was")
    terminal.close()


def terminal_goes(site):
    step("a terminal that goes")
    terminal = opened(site)
    os.close(terminal.slave)
    terminal.slave = None
    os.close(terminal.master)
    master, terminal.master = terminal.master, None
    del master
    began = time.monotonic()
    terminal.viewer.wait(10)
    check(time.monotonic() - began < 5, f"nobody is left behind: status {terminal.viewer.returncode}")
    terminal.close()


def daemon_hangs(site):
    step("holdfastd hangs")
    daemon = site.pids_of("holdfastd")[0]
    terminal = opened(site)
    os.kill(daemon, signal.SIGSTOP)
    terminal.type(b"x")
    time.sleep(0.3)
    terminal.type(LEAVE)
    status, seconds = terminal.end()
    check(status == 0 and seconds < 2 and terminal.as_before(), f"Ctrl-] is heard all the same, after {seconds:.2f} s")
    terminal.close()
    os.kill(daemon, signal.SIGCONT)
    site.wait_answers()


def daemon_dies(site):
    step("holdfastd is killed")
    terminal = opened(site)
    os.kill(site.pids_of("holdfastd")[0], signal.SIGKILL)
    status, seconds = terminal.end()
    said = message_parts(terminal.said.decode(errors="replace").replace("\r", ""))
    check(status == 1 and terminal.as_before(), f"it ends after {seconds:.2f} s with status {status}, the terminal as it was")
    check("site start" not in said["mend"] and all(said.values()), f"what to do is said: {said}")
    terminal.close()
    site.wait_answers()


def launcher_dies(site):
    step("the launcher is killed, and holdfastd is not able to end")
    daemon = site.pids_of("holdfastd")[0]
    waiting = [subprocess.Popen([str(word) for word in site.argv(*words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True) for words in
               (("vm", "stop", "web", "--timeout", "100"), ("vm", "list"))][:1]
    time.sleep(1)
    terminal = opened(site)
    os.kill(daemon, signal.SIGSTOP)
    waiting.append(subprocess.Popen([str(word) for word in site.argv("vm", "list")], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    site.launcher.kill()
    began = time.monotonic()
    status, seconds = terminal.end(15)
    check(status == 1 and seconds < 8 and terminal.as_before(), f"the console is left after {seconds:.2f} s")
    terminal.close()
    for command in waiting:
        stderr = command.communicate(timeout=15)[1]
        said = message_parts(stderr)
        check(command.returncode == 1 and "no launcher serves" in said["cause"] and "site start" in said["mend"],
              f"{' '.join(command.args[3:5])} after {time.monotonic() - began:.1f} s: {said}")
    check(time.monotonic() - began < 10, "none of them waits on")
    os.kill(daemon, signal.SIGKILL)


def test(directory):
    directory.chmod(0o711)
    with Processes(directory) as processes:
        site = Site(processes, directory, "north", 420000)
        try:
            site.init()
            site.start()
            site.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
            site.cli("vm", "start", "web")
            left_by_key(site)
            ended_by_signals(site)
            terminal_goes(site)
            daemon_hangs(site)
            daemon_dies(site)
            launcher_dies(site)
            site.start()
            site.cli("site", "stop", "--force", timeout=60)
        finally:
            site.end()


if __name__ == "__main__":
    main(test)
