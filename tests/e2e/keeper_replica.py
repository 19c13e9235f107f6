#!/usr/bin/env python3
# timeout: 300
# needs: disk-time
# programs: holdfast-keeper holdfast-vault
"""A VM's journal travels from its keeper to a keeper without its key: under load, across kill -9 of either, as a seed, sealed.

HOLDFAST_KILLS=n (environment) sets how often each is killed; 10 by default, 100 in script/nightly.
"""

import os
import random
import socket
import time

from lib import nbd, sequence_load
from lib.keeper import Keeper
from lib.process import Processes, wait_until
from lib.report import check, main
from lib.ship import Caretaker, Relay, Replica, own_memory, promote, run_to_end, two_vaults, wait_level

MIB = 1 << 20
KILLS = int(os.environ.get("HOLDFAST_KILLS", "10"))
DISK = 64 * MIB


def shipping(home):
    return home.control("status")["shipping"]


def write_some(home, count=200, seed=0):
    """Writes all over the disk, flushed."""
    disk = nbd.Nbd(home.socket_path("disk1"))
    chance = random.Random(seed)
    for _ in range(count):
        disk.write(chance.randrange(DISK // 65536) * 65536, chance.randbytes(65536))
    disk.flush()
    disk.close()


def is_quiet(replica):
    """Nothing wakes it while nothing comes, and it holds little."""
    time.sleep(2.5)  # what a busy stream needed is given back a second after
    before = own_memory(replica.process)
    time.sleep(5)
    memory, threads, switches = own_memory(replica.process)
    check(switches == before[2], f"an idle replica is not woken in 5 s ({switches - before[2]} context switches)")
    check(threads == 1, "it has one thread")
    check(memory <= 8 * MIB, f"and {memory / MIB:.1f} MiB of memory of its own, after 100 MiB came")


def is_alone(processes, replica):
    status, said = run_to_end(processes, "replica", replica.config, replica.listeners(), "second")
    check(status == 1 and "another keeper has the journal" in said, "a second keeper of the directory is refused")


def killed_while_receiving(home, replica, relay):
    chance = random.Random(20)
    disk = nbd.Nbd(home.socket_path("disk2"))
    number = 0
    for _ in range(KILLS):
        load = sequence_load.Load(disk, number)
        end = time.monotonic() + chance.uniform(0.1, 0.5)
        while time.monotonic() < end:
            number = load.run_batch()
        replica.process.kill()
        acknowledged = shipping(home).get("acknowledged", {"sequence": 0})["sequence"]
        replica.start()
        there = replica.status()["durable"]["sequence"]
        check(there >= acknowledged, f"killed while it received: {acknowledged} were acknowledged, {there} are there")
    disk.close()
    wait_level(home, replica)
    check(relay.streams > KILLS, "and it goes on by itself")


def home_killed_while_shipping(home, replica):
    chance = random.Random(21)
    for turn in range(KILLS):
        disk = nbd.Nbd(home.socket_path("disk2"))
        number = sequence_load.verify(disk, 0)
        load = sequence_load.Load(disk, number)
        end = time.monotonic() + chance.uniform(0.1, 0.4)
        while time.monotonic() < end:
            load.run_batch()
        home.process.kill()
        home.start(successor=turn % 2 == 0)
        home.wait_serving()
    wait_level(home, replica)
    check(True, f"home's keeper was killed {KILLS} times while it shipped; the replica follows")


def babble(replica):
    """What is no frame, and frames of another VM, end their stream only."""
    pid = replica.status()["pid"]
    for words in (b"GET / HTTP/1.1\r\n".ljust(64), os.urandom(4096), b"HFRP" + bytes(60)):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(replica.socket_path("ship")))
            link.sendall(words)
            while link.recv(65536):
                pass
    status = replica.status()
    check(status["pid"] == pid and status["error"]["cause"], f"strangers' bytes end their stream only: {status['error']['cause']}")


def seals(home, replica):
    wait_level(home, replica)
    sealed = replica.control("seal")
    check(sealed["ok"] and sealed["durable"] == replica.status()["durable"], "a seal tells what is durable")
    write_some(home, 4, seed=3)
    time.sleep(0.5)
    check(replica.status()["durable"] == sealed["durable"] and replica.status()["sealed"], "and nothing comes after it")
    check(shipping(home)["state"] != "streaming" and "sealed" in shipping(home)["error"]["cause"], "which home's keeper knows")
    replica.control("unseal")
    wait_level(home, replica)
    check(not replica.status()["sealed"], "unsealed it goes on")


def drains(home, replica, relay):
    write_some(home, 50, seed=4)
    check(home.control("drain", limit_ms=20000)["drained"], "home drains to its replica")
    check(replica.status()["durable"]["sequence"] >= 50, "which has it")
    relay.hold()
    write_some(home, 4, seed=5)
    began = time.monotonic()
    check(not home.control("drain", limit_ms=300)["drained"] and time.monotonic() - began < 5, "a silent peer ends a drain at its limit")


def is_seeded(processes, home, away, public_key, directory):
    """A replica that begins when home has merged long ago."""
    for seed in range(6):
        write_some(home, 300, seed=10 + seed)
    wait_until(lambda: home.control("status")["bases"] > 0, 30, "home to merge")
    late = Replica(processes, directory / "late", home, *away, public_key)
    late.start()
    relay = Relay(home, late)
    wait_level(home, late, 60)
    check("seeded" in late.process.log_tail(), "a replica that comes late is seeded")
    relay.cut()
    return late


def is_looked_after(processes, home, replica, public_key, directory):
    """Home is stopped with records that its replica lacks; a keeper without the key ships them."""
    write_some(home, 60, seed=30)
    home.stop()
    caretaker = Caretaker(processes, directory / "caretaker", home, public_key)
    caretaker.start()
    before = replica.status()["durable"]["sequence"]
    status = caretaker.control("status")
    check(status["mode"] == "caretaker" and status["durable"]["sequence"] > before and not status["shipping"]["caught_up"],
          "a stopped VM's caretaker knows what the replica lacks")
    relay = Relay(caretaker, replica)
    check(caretaker.process.wait(20) == 0, "it ships that, and ends")
    check(replica.status()["durable"] == status["durable"], "to the last record, the close")
    relay.cut()
    again = Caretaker(processes, directory / "again", home, public_key)
    again.start()
    relay = Relay(again, replica)
    check(again.process.wait(20) == 0, "one with nothing to ship ends, too")
    relay.cut()
    home.start()
    home.wait_serving()


def whole_disk(keeper, name):
    disk = nbd.Nbd(keeper.socket_path(name))
    data = b"".join(disk.read(at, MIB) for at in range(0, DISK, MIB))
    disk.close()
    return data


def test(directory):
    with Processes(directory) as processes:
        (vault, site), away = two_vaults(processes, directory)
        home = Keeper(processes, directory, vault, site, {"disk1": DISK, "disk2": DISK}, vtpm=False, peer_site=away[1],
                      segment_bytes=4 * MIB, merge_keep_segments=2)
        home.create()
        vault.give_key(home.vm, away[0])
        home.start()
        home.wait_serving()
        public_key = home.control("status")["journal_public_key"]
        replica = Replica(processes, directory / "replica", home, *away, public_key)
        replica.start()
        check(replica.status()["holds_anything"] is False, "a replica begins empty")
        is_alone(processes, replica)
        relay = Relay(home, replica)
        wait_level(home, replica)
        write_some(home, 100 * MIB // 65536)
        wait_level(home, replica)
        wait_until(lambda: shipping(home)["caught_up"], 10, "the replica's acknowledgement")  # it comes after its sync
        now = shipping(home)
        check(now["state"] == "streaming" and now["rpo_ms"] == 0, "it is level with home, which knows")
        is_quiet(replica)
        killed_while_receiving(home, replica, relay)
        home_killed_while_shipping(home, replica)
        seals(home, replica)
        drains(home, replica, relay)
        relay.cut()
        babble(replica)
        relay = Relay(home, replica)
        wait_level(home, replica)
        relay.cut()
        is_looked_after(processes, home, replica, public_key, directory)
        replica.stop()
        late = is_seeded(processes, home, away, public_key, directory)
        disks = [whole_disk(home, name) for name in ("disk1", "disk2")]
        home.process.kill()
        late.stop()
        promoted = promote(processes, directory / "promoted", late, away[1], 2, {"disk1": DISK, "disk2": DISK})
        check([whole_disk(promoted, disk) for disk in ("disk1", "disk2")] == disks, "taken over, it has home's disks")
        promoted.stop()


main(test)
