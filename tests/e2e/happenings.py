#!/usr/bin/env python3
# timeout: 240
# needs: qemu disk-time
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""What happened is told: by whom and from where, of a VM's whole life at two sites, filtered by VM and time, as it comes. What
is audited can be read. A command that is interrupted says that its job goes on, and how to cancel it; a cancelled import
leaves nothing; a job that a dying holdfastd cut off keeps its steps, and says what became of it.
"""

import os
import pwd
import re
import signal
import subprocess

from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, refused, wait_protected

IMAGE_MIB = 768  # of bytes that do not compress and are no holes: its import takes seconds


def kinds(site, *words):
    return [event["kind"] for event in site.json("event", "list", *words)]


def one(site, kind, *words):
    found = [event for event in site.json("event", "list", "--newest", "1000", *words) if event["kind"] == kind]
    if not found:
        raise Failure(f"site {site.name} tells of no {kind}: {kinds(site, *words)}")
    return found[-1]


def by_operator(event):
    user = f"uid {os.geteuid()} ({pwd.getpwuid(os.geteuid()).pw_name})"
    return event["actor"] == user and re.fullmatch(r"api, pid [0-9]+", event["origin"])


def follower(site):
    command = subprocess.Popen([str(word) for word in site.argv("event", "list", "--follow", "--vm", "web")],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    os.set_blocking(command.stdout.fileno(), False)
    return command


def a_life(north, south):
    step("a VM's life at two sites")
    pair(north, south)
    check(by_operator(one(south, "peer.paired")) and one(north, "peer.paired")["actor"] == "site south",
          "both sites tell of the pairing: south of who gave the command, north of south")
    north.cli("vm", "create", "web", "--blank", "16M", "--memory", "256M")
    seen = follower(north)
    try:
        north.cli("vm", "start", "web")
        said = ""

        def told():
            nonlocal said
            said += seen.stdout.read() or ""
            return "was created" in said and "was started" in said

        wait_until(told, 10, "who follows is told of it")
        check(True, "--follow tells what was and what comes")
    finally:
        seen.kill()
        seen.communicate(timeout=10)
    refused(north, "vm", "start", "web")
    failed = one(north, "job.failed", "web")
    check(by_operator(failed) and "runs already" in failed["text"], f"a refusal: {failed['text']}")
    north.cli("protection", "enable", "web", "--to", "south")
    wait_protected(north, "web")
    south.cli("failover", "unplanned", "web", "--yes")
    check({"vm.created", "vm.started", "job.failed", "protection.enabled", "protection.stands-by", "vm.handed-over"} <= set(kinds(north, "web")),
          f"north has told: {kinds(north, 'web')}")
    lost = one(north, "vm.handed-over", "web")
    check(lost["actor"] == "site south" and lost["origin"] == south.listen, f"by whom: {lost['actor']} at {lost['origin']}")
    check(by_operator(one(south, "vm.failed-over", "--vm", "web")) and
          one(south, "protection.replica-made", "web")["actor"] == "site north", "south has told of replica and failover")
    wait_until(lambda: north.json("vm", "show", "web")["state"] == "standby", 20, "north stands by")
    wait_protected(south, "web")
    south.cli("vm", "stop", "web", "--force")
    check("its power was cut" in one(south, "vm.stopped", "web")["text"], "a stop, and how")
    south.cli("protection", "disable", "web")
    south.cli("vm", "delete", "web", "--yes")
    check(by_operator(one(south, "vm.deleted", "web")), "what happened to it is known after it is deleted")


def questions(north):
    step("filters, and what is audited")
    check(refused(north, "event", "list", "ghost")["cause"].startswith("there is no VM \"ghost\""), "no such VM: status 1")
    refused(north, "audit", "list", "ghost")
    check(kinds(north, "--since", "1h", "web") and not kinds(north, "--since", "2099-01-01 00:00:00Z"), "--since")
    check(refused(north, "event", "list", "--since", "yesterday")["mend"], "a time that is none")
    acts = [(row["act"], row["subject"]) for row in north.json("audit", "list")]
    check(("replica withdrawn", "web") in acts, f"audited: {acts}")
    table = north.cli("event", "list", "web").stdout
    check(re.search(r"^20[0-9]{2}-[0-9-]+ [0-9:]+Z", table, re.M), "times are shown as times")


def create(site, image, name):
    return subprocess.Popen([str(word) for word in site.argv("vm", "create", name, "--disk", image)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def importing(site):
    """The job that imports, once it says how far it is."""
    def far():
        jobs = [job for job in site.json("job", "list") if job["kind"] == "vm-create" and job["state"] == "running"]
        return jobs[0] if jobs and jobs[0].get("percent", 0) > 0 else None

    job = wait_until(far, 30, "an import that says how far it is", interval=0.02)
    check(0 < job["percent"] <= 100, f"it is at {job['percent']} %")
    return job


def nothing_left(site, what):
    wait_until(lambda: not site.json("vm", "list"), 10, f"{what}: no VM is left")
    check(not list((site.state / "vms").iterdir()) and not site.pids_of("holdfast-keeper"), f"{what}: nothing is left")


def interrupted(site, image):
    step("Ctrl-C, then the job is cancelled")
    command = create(site, image, "big")
    try:
        job = importing(site)
        command.send_signal(signal.SIGINT)
        said = command.communicate(timeout=5)[1]
    finally:
        command.kill()
        command.communicate(timeout=10)
    check(command.returncode == 130, f"status {command.returncode}")
    check(f"job {job['id']} goes on" in said and f"job follow {job['id']}" in said and f"job cancel {job['id']}" in said,
          f"it says: {said.splitlines()[-3:]}")
    if site.json("job", "show", str(job["id"]))["state"] != "running":
        raise Failure("the job has not gone on")
    done = site.json("job", "cancel", str(job["id"]))
    check(done["state"] == "cancelled" and "nothing was created" in done["error"]["effect"], done["error"]["effect"])
    nothing_left(site, "cancelled")
    parts = refused(site, "job", "cancel", str(job["id"]))
    check("ended already" in parts["cause"], parts["cause"])
    check(by_operator(one(site, "job.cancelled", "big")), "it is told who cancelled it")


def cut_off(site, image):
    step("holdfastd dies under a job")
    command = create(site, image, "big")
    try:
        job = importing(site)
        (daemon,) = site.pids_of("holdfastd")
        os.kill(daemon, signal.SIGKILL)
        said = command.communicate(timeout=60)[1]
    finally:
        command.kill()
        command.communicate(timeout=10)
    check(command.returncode == 1 and "nothing of it is left" in said, f"the command says: {said.splitlines()[-3:]}")
    shown = site.json("job", "show", str(job["id"]))
    check(shown["state"] == "interrupted" and any("import" in each["text"] for each in shown["steps"]),
          f"job {job['id']} is {shown['state']}: {[each['text'] for each in shown['steps']]}")
    told = one(site, "job.interrupted", "big")
    check(by_operator(told) and "nothing of it is left" in told["text"], told["text"])
    nothing_left(site, "cut off")


def test(directory):
    directory.chmod(0o711)
    image = directory / "image.raw"
    with open(image, "wb") as file:
        for _ in range(IMAGE_MIB // 16):
            file.write(os.urandom(16 << 20))
    image.chmod(0o644)
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        try:
            for site in (north, south):
                site.init()
                site.start()
            a_life(north, south)
            questions(north)
            interrupted(north, image)
            cut_off(north, image)
            check("site.serves" in kinds(north), "a holdfastd that begins anew is told of")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
