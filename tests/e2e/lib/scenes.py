"""How each effect of a VM's life comes about with real processes: which commands, at which site, beside which trouble.

A scene is a generator over a Stage (lifecycle_kills). It arms the hold at the site where the effect takes place, sets off
what leads there, and yields; when it goes on, the hold was reached, a process was killed and the hold is gone: it mends what
it broke. Of the stage: `home` holds the VM and runs it, `other` stands by.
"""

import contextlib
import os
import signal

from .process import wait_until


@contextlib.contextmanager
def stopped(pids):
    """They stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def silent(site):
    """Nothing of the site is heard, and it runs."""
    return stopped(site.pids_of("holdfast-link"))


def fail_over(stage, *words):
    stage.begin(stage.other, "failover", "unplanned", stage.vm, "--yes", *words)


def kill_daemon(site):
    (pid,) = site.pids_of("holdfastd")
    os.kill(pid, signal.SIGKILL)


# ---- With the source alive ----------------------------------------------------------------------

def at_the_holder(stage, arm):
    arm(stage.home)
    fail_over(stage)
    yield


def at_the_taker(stage, arm):
    arm(stage.other)
    fail_over(stage)
    yield


def withdrawal_stuck(stage, arm):
    """The protection was to end, and the site that stands by has been quicker."""
    hold = stage.hold(stage.other, "take-over ask-hand-over before")
    fail_over(stage)
    hold.wait()
    stage.home.cli("protection", "disable", stage.vm, check=False)
    arm(stage.home)
    hold.release()
    yield


def tail_stuck(stage, arm):
    hold = stage.hold(stage.home, "hand-over end-keeper after")
    fail_over(stage, "--wait-for-tail", "1s")
    hold.wait()
    with stopped(stage.other.keepers_of(stage.vm_id)):
        arm(stage.home)
        hold.release()
        yield


def replica_does_not_answer(stage, arm):
    moment = stage.moment
    with stopped(stage.other.keepers_of(stage.vm_id)):
        if moment.endswith(" before"):
            arm(stage.other)
            fail_over(stage)
            yield
            return
        hold = stage.hold(stage.other, moment.replace(" after", " before"))
        fail_over(stage)
        hold.wait()
    arm(stage.other)
    hold.release()
    yield


def taken_guest_fails(stage, arm, how):
    """Its QEMU is struck as soon as it is there."""
    hold = stage.hold(stage.other, "take-over start-guest before")
    fail_over(stage)
    hold.wait()
    arm(stage.other)
    hold.release()
    pid, = wait_until(lambda: stage.other.pids_of("qemu-system-x86"), 10, "its QEMU is there", interval=0.001)
    os.kill(pid, how)
    yield


def taken_guest_stalls(stage, arm):
    """Killed by its start, which waits half a minute for its vCPUs."""
    return taken_guest_fails(stage, arm, signal.SIGSTOP)


def taken_guest_dies(stage, arm):
    return taken_guest_fails(stage, arm, signal.SIGKILL)


# ---- With a source that is not heard ------------------------------------------------------------

def source_off(stage, arm):
    with silent(stage.home):
        arm(stage.other)
        fail_over(stage, "--source-is-off")
        yield
        stage.commands_end()


def source_comes_back(stage, arm):
    hold = stage.hold(stage.other, "take-over ask-members before")
    with silent(stage.home):
        fail_over(stage, "--source-is-off")
        hold.wait()
    wait_until(lambda: stage.other.json("site", "peers")[0]["state"] == "reachable", 20, "the source is back")
    arm(stage.other)
    hold.release()
    yield


def mistaken_take(stage, arm):
    """The other site takes the VM on a word, while its holder runs on and is not heard."""
    with silent(stage.home):
        stage.other.cli("failover", "unplanned", stage.vm, "--yes", "--source-is-off")
        arm(stage.home)
    yield


def daemon_missed_it(stage, arm):
    """Its vault learned of that, and its daemon died before it did anything about it."""
    with silent(stage.home):
        stage.other.cli("failover", "unplanned", stage.vm, "--yes", "--source-is-off")
        hold = stage.hold(stage.home, "fence store-superseded before")
    hold.wait()
    kill_daemon(stage.home)
    hold.release()
    arm(stage.home)
    yield


def seal_left(stage, arm):
    hold = stage.hold(stage.other, "take-over seal-replica after")
    with silent(stage.home):
        fail_over(stage, "--source-is-off")
        hold.wait()
        kill_daemon(stage.other)
        hold.release()
        arm(stage.other)
    yield


# ---- Starts and stops ---------------------------------------------------------------------------

def cold_start(stage, arm):
    stage.home.cli("vm", "stop", stage.vm, "--force")
    arm(stage.home)
    stage.begin(stage.home, "vm", "start", stage.vm)
    yield


def start_without_peer(stage, arm):
    stage.home.cli("vm", "stop", stage.vm, "--force")
    with silent(stage.other):
        arm(stage.home)
        stage.begin(stage.home, "vm", "start", stage.vm, "--without-peer")
        yield
        stage.commands_end()


def started_guest_fails(stage, arm):
    """It is told to stop while it is started, with its guest there already."""
    stage.home.cli("vm", "stop", stage.vm, "--force")
    hold = stage.hold(stage.home, "start start-guest before")
    stage.begin(stage.home, "vm", "start", stage.vm)
    hold.wait()
    stage.begin(stage.home, "vm", "stop", stage.vm, "--force")
    wait_until(lambda: any(job["kind"] == "vm-stop" and job["state"] in ("running", "queued")
                           for job in stage.home.json("job", "list")), 10, "the stop is under way")
    arm(stage.home)
    hold.release()
    yield


def taken_not_run(stage, arm):
    hold = stage.hold(stage.other, "take-over store-taken after")
    fail_over(stage)
    hold.wait()
    kill_daemon(stage.other)
    hold.release()
    arm(stage.other)
    stage.commands_end(expected=True)
    stage.other.wait_answers()
    stage.begin(stage.other, "vm", "start", stage.vm)
    yield


def stop(stage, arm):
    arm(stage.home)
    stage.begin(stage.home, "vm", "stop", stage.vm, "--force")
    yield


# ---- Protection ---------------------------------------------------------------------------------

def unprotected(stage):
    stage.home.cli("protection", "disable", stage.vm)


def enable(stage):
    stage.begin(stage.home, "protection", "enable", stage.vm, "--to", stage.other.name)


def protect(stage, arm):
    unprotected(stage)
    arm(stage.home)
    enable(stage)
    yield


def offer_refused(stage, arm):
    unprotected(stage)
    stage.other.cli("site", "peer", "set", stage.home.name, "--accept", "no")
    try:
        arm(stage.home)
        enable(stage)
        yield
        stage.commands_end(expected=True)
    finally:
        stage.other.cli("site", "peer", "set", stage.home.name, "--accept", "yes")


def withdraw(stage, arm):
    arm(stage.home)
    stage.begin(stage.home, "protection", "disable", stage.vm)
    yield


def withdrawal_refused(stage, arm):
    hold = stage.hold(stage.other, "take-over ask-hand-over before")
    fail_over(stage)
    hold.wait()
    arm(stage.home)
    stage.begin(stage.home, "protection", "disable", stage.vm)
    yield
    hold.release()


def withdraw_without_peer(stage, arm):
    with silent(stage.other):
        arm(stage.home)
        stage.begin(stage.home, "protection", "disable", stage.vm, "--without-peer")
        yield
        stage.commands_end()


SCENES = {
    "fence store-superseded": mistaken_take,
    "fence fence": mistaken_take,
    "follow store-superseded": daemon_missed_it,
    "follow fence": daemon_missed_it,
    "follow end-keeper": mistaken_take,
    "follow end-stream": at_the_holder,
    "follow store-standby": at_the_holder,
    "follow start-replica": at_the_holder,
    "follow unseal-replica": seal_left,
    "follow start-stream": at_the_taker,
    "follow exchange": protect,
    "follow find-line": protect,
    "follow sign": protect,
    "hand-over store-protected": withdrawal_stuck,
    "hand-over start-again": tail_stuck,
    "hand-over": at_the_holder,
    "take-over start-replica": replica_does_not_answer,
    "take-over reopen-replica": source_off,
    "take-over sign": source_off,
    "take-over unseal-replica": source_comes_back,
    "take-over kill-guest": taken_guest_stalls,
    "take-over end-keeper": taken_guest_dies,
    "take-over": at_the_taker,
    "start sign": start_without_peer,
    "start end-keeper": started_guest_fails,
    "start kill-guest": started_guest_fails,
    "start end-replica": taken_not_run,
    "start adopt": taken_not_run,
    "start": cold_start,
    "stop": stop,
    "protect forget-protection": offer_refused,
    "protect": protect,
    "withdraw exchange": withdrawal_refused,
    "withdraw ask-members": withdraw_without_peer,
    "withdraw sign": withdraw_without_peer,
    "withdraw": withdraw,
}


def scene_of(act, effect):
    """None: nobody has said how it comes about."""
    return SCENES.get(f"{act} {effect}", SCENES.get(act))
