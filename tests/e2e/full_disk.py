#!/usr/bin/env python3
# timeout: 180
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper
"""A full disk. What does not fit is refused and leaves nothing behind; a running guest stands still without an error and
goes on when there is space; a replica falls behind, says why, and catches up; and without a byte left every refusal still
has cause, effect and mend.

A state directory lies on a small tmpfs, whose mount needs root.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import time

from lib.process import Failure, Processes, run, wait_until
from lib.refusal import check_refused
from lib.report import check, main, step
from lib.site import Site, message_parts, pair, wait_protected

MIB = 1 << 20


def on_small_disk(site):
    site.state.mkdir(mode=0o755)
    run(["mount", "-t", "tmpfs", "-o", "size=384M,mode=0755", "none", site.state])


def leave_free(site, size):
    """A file that takes all the space but `size` bytes."""
    ballast = site.state / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(site.state).free - size)
    return ballast


def wait_prepared(site):
    """The journals have prepared their next segments: the space is what it was a second ago."""
    free = None
    while free != (free := shutil.disk_usage(site.state).free):
        time.sleep(1)


def guest_disk(site, vm):
    """qemu-io's name for the VM's disk, with the options a guest has."""
    address = site.run_dir(vm) / "disk1.nbd"
    return f"driver=nbd,server.type=unix,server.path={address},export=disk1,reconnect-delay=120"


def each_of(count, command):
    return [word for number in range(count) for word in ("-c", f"{command} -P {number + 1} {number * 8}M 8M")]


def big_image(directory):
    image = directory / "big.img"
    with open(image, "wb") as file:
        for _ in range(400):
            file.write(os.urandom(MIB))
    image.chmod(0o644)
    return image


def home(processes, directory):
    site = Site(processes, directory, "full", 640000)
    on_small_disk(site)
    try:
        site.init()
        site.start()
        big = big_image(directory)
        before = shutil.disk_usage(site.state).used
        check_refused(site, "a VM whose image does not fit on the disk", "vm", "create", "big", "--disk", big,
                      code="no_space", timeout=120)
        big.unlink()
        check(site.json("vm", "list") == [] and not list((site.state / "vms").iterdir()), "nothing of the VM is left")
        check(shutil.disk_usage(site.state).used - before < MIB, "its space is free again")
        guest_stands_still(site)
        no_byte_left(site)
    finally:
        site.end()
        run(["umount", "-l", site.state], check=False)


def guest_stands_still(site):
    """qemu-io with the guest's own options writes until the disk is full: it waits, sees no error, and goes on."""
    site.cli("vm", "create", "web", "--blank", "256M", "--memory", "256M")
    site.cli("vm", "start", "web")
    qemu = site.qemu_pid("web")
    wait_prepared(site)
    ballast = leave_free(site, 24 * MIB)
    image = guest_disk(site, "web")
    # Two segments are prepared ahead: more than 128 MiB must be written before space is asked for.
    writer = site.processes.start(["qemu-io", "--image-opts", image, *each_of(20, "write"), "-c", "flush"], name="writer")

    def full():
        shown = site.json("vm", "show", "web")
        return shown if shown.get("keeper", {}).get("error", {}).get("code") == "no_space" else None

    shown = wait_until(full, 30, "vm show says that the disk is full", interval=0.2)
    error = shown["keeper"]["error"]
    check(error["effect"] and "free space" in error["mend"], f"vm show: {error['cause']} | {error['effect']} | {error['mend']}")
    wait_until(lambda: site.json("vm", "show", "web")["state"] == "stalled", 20, "vm show says that the guest stands still", interval=0.2)
    says_that_it_stalls(site)
    check_refused(site, "the disk of a VM that stands still", "vm", "check", "web", code="no_space", says=["stands still", "No space left"],
                  mend=["free space", "vm stop web --force", "vm check web"], snapshot=False)
    time.sleep(3)
    check(writer.running(), "the client waits")
    says_that_it_stalls(site)
    (daemon,) = site.pids_of("holdfastd")
    os.kill(daemon, signal.SIGKILL)
    site.wait_answers()
    wait_until(lambda: site.json("vm", "show", "web")["state"] == "stalled", 60, "the next holdfastd tries the keeper again and says so")
    check(pathlib.Path(f"/proc/{qemu}").exists(), "QEMU runs on")
    ballast.unlink()
    status = writer.wait(60)
    log = writer.log.read_text()
    check(status == 0 and log.count("wrote 8388608/8388608") == 20 and "rror" not in log,
          "space is freed: all 20 writes went through, the client saw no error")
    done = run(["qemu-io", "-r", "--image-opts", image, *each_of(20, "read")], timeout=60)
    check(done.stdout.count("read 8388608/8388608") == 20 and "verification failed" not in done.stdout,
          "and what it wrote is there")
    shown = wait_until(lambda: running(site), 60, "vm show says that it runs", interval=0.2)
    check(shown["qemu_pid"] == qemu and shown["keeper"]["state"] == "serving" and "reason" not in shown,
          "the VM runs on in the same QEMU")
    kinds = [event["kind"] for event in site.json("event", "list", "web")]
    # Each holdfastd tells once that it stands still.
    told = [kind for kind in kinds if kind in ("vm.stalled", "vm.runs-on")]
    check(told == ["vm.stalled", "vm.stalled", "vm.runs-on"], f"event list: {', '.join(kinds)}")
    check(site.json("site", "show")["stalled"] == [], "site show names nobody any more")


def running(site):
    shown = site.json("vm", "show", "web")
    return shown if shown["state"] == "running" else None


def says_that_it_stalls(site):
    """Wherever somebody looks, with the reason."""
    shown = site.json("vm", "show", "web")
    listed = site.json("vm", "list")[0]
    for where, view in (("vm show", shown), ("vm list", listed)):
        reason = view.get("reason", {})
        check(view["state"] == "stalled" and reason.get("code") == "no_space" and "free space" in reason["mend"],
              f"{where}: {view['state']}: {reason.get('cause')}")
    events = [event for event in site.json("event", "list", "web") if event["kind"] == "vm.stalled"]
    check(len(events) == 1 and "free space" in events[0]["text"], f"event list: {events[0]['text'] if events else events}")
    stalled = site.json("site", "show")["stalled"]
    check([one["vm"] for one in stalled] == ["web"] and stalled[0]["reason"]["code"] == "no_space", "site show names it")


def fill(site):
    """Not a byte is left."""
    ballast = site.state / "ballast"
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def ends_without_a_byte_left(site):
    """What frees space, and what tells why, works on a disk that has none: a VM is stopped, looked at and deleted."""
    for name in ("asks", "forced", "deleted"):
        site.cli("vm", "create", name, "--blank", "1M", "--memory", "256M")
    for name in ("asks", "forced"):
        site.cli("vm", "start", name)
    wait_prepared(site)
    ballast = fill(site)
    done = site.cli("vm", "stop", "asks", "--timeout", "1", check=False)
    said = message_parts(done.stderr)
    check(done.returncode == 1 and "did not shut down" in said["cause"] and "--force" in said["mend"],
          f"a guest without an operating system does not hear: {said['cause']}")
    site.cli("vm", "stop", "forced", "--force")
    check(site.json("vm", "show", "forced")["state"] == "stopped", "vm stop --force")
    fill(site)
    said = message_parts(site.cli("vm", "check", "asks", check=False).stderr)
    check("no boot program was found" in said["cause"], f"vm check reads the disk of one that runs: {said['cause']}")
    site.cli("vm", "stop", "asks", "--force")
    for name in ("asks", "forced", "deleted"):
        fill(site)
        site.cli("vm", "delete", name, "--yes")
    check([vm["name"] for vm in site.json("vm", "list")] == ["web"], "vm delete")
    ballast.unlink()


def files_of(directory):
    return {path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in directory.iterdir()}


def looked_at_without_a_byte_left(site):
    """A stopped VM is looked at without a trace."""
    fill(site)
    journal = site.state / "vms" / site.vm_id("web") / "journal"
    before = files_of(journal)
    said = message_parts(site.cli("vm", "check", "web", check=False).stderr)
    check("no boot program was found" in said["cause"], f"vm check reads the disk of one that is stopped: {said['cause']}")
    shown = site.json("secure-boot", "show", "web")
    check(len(shown) > 0, "and secure-boot show its variables")
    check(files_of(journal) == before, "not a byte of its journal has changed")


def stops_however_full(site):
    """A VM may have a segment left that was prepared for it; then it runs until that is full. Each start gives room back, of
    what the one before left unused, and prepares the next segment with it: that is where the space runs out again."""
    rounds = starts = 0
    while starts < 6:
        rounds += 1
        if rounds > 30:
            raise Failure(f"only {starts} of 30 VMs started without a byte left")
        ballast = fill(site)
        done = site.cli("vm", "start", "web", check=False)
        fill(site)
        if done.returncode == 0:
            starts += 1
            began = time.monotonic()
            site.cli("vm", "stop", "web", "--force", timeout=20)
            step(f"ok: it started in what was prepared for it, and stopped after {time.monotonic() - began:.1f} s")
            continue
        said = message_parts(done.stderr)
        check("No space left" in said["cause"] and said["effect"] and said["mend"], f"it is refused: {said['cause']} | {said['mend']}")
        ballast.unlink()
        site.cli("vm", "start", "web")
        wait_prepared(site)
        site.cli("vm", "stop", "web", "--force")
    log = "".join(path.read_text() for path in (site.state / "run/log").glob("keeper-*.log"))
    # The vault's own record may lag: it is as far as the last report under the guest.
    odd = [line for line in log.splitlines() if "not in order" in line and "tell the vault" not in line]
    check(not odd, "each stop closed the journal" + "".join(f"\n  {line}" for line in odd))
    fill(site)


def no_byte_left(site):
    """Commands on a site whose disk has no byte left, and the site's own start."""
    site.cli("vm", "stop", "web", "--force")
    site.cli("vm", "delete", "web", "--yes")
    site.cli("vm", "create", "web", "--blank", "1M", "--memory", "256M")
    ends_without_a_byte_left(site)
    ballast = fill(site)
    space = ["free space"]
    check_refused(site, "a VM to create on a full disk", "vm", "create", "other", "--blank", "1M", code="no_space",
                  mend=space)
    looked_at_without_a_byte_left(site)
    stops_however_full(site)
    check_refused(site, "a token to make on a full disk", "site", "pair", "--new-token", code="no_space", mend=space)
    check(site.json("vm", "show", "web")["state"] == "stopped", "what there is can be looked at")
    site.stop()
    fill(site)
    # The catalog keeps its files; whether there is room for all else that a start makes is the file system's to say.
    done = site.cli("site", "start", check=False)
    if done.returncode == 0:
        check([vm["name"] for vm in site.json("vm", "list")] == ["web"], "the site starts without a byte left")
        fill(site)
        site.cli("site", "stop", timeout=30)
        step("ok: and stops without one")
        ballast.unlink()
    else:
        said = message_parts(done.stderr)
        check("full" in said["cause"] or "No space left" in said["cause"], f"the start of the site is refused: {said['cause']}")
        check("free space" in said["mend"], f"and what mends it is said: {said['mend']}")
        ballast.unlink()
    site.start()
    site.cli("vm", "start", "web")
    check(site.json("vm", "show", "web")["state"] == "running", "with space again, site and VM start")


def replica(processes, directory):
    """The replica's disk fills up: the guest does not notice, the source says why the replica falls behind."""
    north, south = Site(processes, directory, "north", 660000), Site(processes, directory, "south", 680000)
    on_small_disk(south)
    try:
        for site in (north, south):
            site.init()
            site.start()
        pair(north, south)
        north.cli("vm", "create", "web", "--blank", "256M", "--memory", "256M")
        north.cli("vm", "start", "web")
        north.cli("protection", "enable", "web", "--to", "south")
        wait_protected(north, "web")
        time.sleep(1)  # a segment or two are prepared by now, another may be under way
        ballast = leave_free(south, 24 * MIB)
        run(["qemu-io", "--image-opts", guest_disk(north, "web"), *each_of(24, "write"), "-c", "flush"], timeout=60)
        step("ok: the guest writes and flushes 192 MiB, more than the replica can take")

        def says_why():
            error = north.json("protection", "show", "web").get("error") or {}
            return error if "No space left" in error.get("cause", "") else None

        error = wait_until(says_why, 15, "protection show says why the replica falls behind", interval=0.2)
        check(error["effect"] and "free space" in error["mend"],
              f"protection show: {error['cause']} | {error['effect']} | {error['mend']}")
        ballast.unlink()
        check(True, f"space is freed: the replica has caught up after {wait_protected(north, 'web'):.1f} s")
    finally:
        north.end()
        south.end()
        run(["umount", "-l", south.state], check=False)


def test(directory):
    if os.geteuid() != 0:
        return step("left out: a small file system is mounted as root only")
    directory.chmod(0o711)
    with Processes(directory) as processes:
        home(processes, directory)
        replica(processes, directory)


if __name__ == "__main__":
    main(test)
