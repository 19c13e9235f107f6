#!/usr/bin/env python3
# timeout: 240
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""Trust in a site has an end: nothing that it says has an effect any more, and what it had here goes only where an operator
names it. A replica whose source is not there is removed. Peers are called what the operator says.
"""

import json

from lib.process import Failure, Processes, wait_until
from lib.refusal import check_refused
from lib.report import check, main, step
from lib.site import CliError, Site, pair, wait_protected


def names(site):
    return sorted(vm["name"] for vm in site.json("vm", "list"))


def create(site, name):
    site.cli("vm", "create", name, "--blank", "16M", "--memory", "256M")


def named_by_the_operator(north, south, third):
    """south calls north "hq"; a third site that calls itself north is refused that name."""
    token = north.json("site", "pair", "--new-token")["token"]
    check(south.json("site", "pair", "-", "--name", "hq", text=token)["peer"] == "hq", "south calls north hq")
    (peer,) = south.json("site", "peers")
    check(peer["name"] == "hq" and peer["site_id"] == north.json("site", "show")["site_id"], "with north's id beside it")
    check(north.json("site", "peers")[0]["name"] == "south", "north calls south as it calls itself")
    token = north.json("site", "pair", "--new-token")["token"]
    check_refused(third, "a peer that calls itself as another one", "site", "pair", "-", text=token, code="exists",
                  says=["south"], mend=["--name"])
    check_refused(third, "a name like an id", "site", "pair", "-", "--name", "0" * 32, text=token, code="invalid_argument")
    token = north.json("site", "pair", "--new-token", "--name", "south-2")["token"]
    third.json("site", "pair", "-", text=token)
    check([peer["name"] for peer in north.json("site", "peers")] == ["south", "south-2"], "under a name of its own it is taken")
    third.stop()
    north.cli("site", "unpair", "south-2", "--yes")
    check([peer["name"] for peer in north.json("site", "peers")] == ["south"], "and unpaired, though it is not there")


def unpaired(north, south):
    create(north, "web")
    create(south, "mail")
    north.cli("protection", "enable", "web", "--to", "south")
    south.cli("protection", "enable", "mail", "--to", "hq")
    check([one["vm"] for one in south.json("replica", "list")] == ["web"], "south has a replica of web")
    check_refused(south, "a site with replicas", "site", "unpair", "hq", "--yes", code="conflict", says=["web", "mail"],
                  mend=["--evict web", "--evict mail"], snapshot=False)  # records come in meanwhile
    check_refused(south, "some of them named", "site", "unpair", "hq", "--yes", "--evict", "web", code="conflict", says=["mail"],
                  mend=["--evict web", "--evict mail"], snapshot=False)
    check(names(south) == ["mail", "web"] and len(south.json("site", "peers")) == 1, "nothing was changed")
    waiting = south.json("site", "pair", "--new-token")["token"]
    south.cli("site", "unpair", "hq", "--yes", "--evict", "web", "--evict", "mail")
    check(names(south) == ["mail"] and not south.json("protection", "show"), "its replica is gone, south's own VM is not")
    check(south.json("site", "peers") == [], "south has no peer")
    wait_until(lambda: north.json("site", "peers")[0]["state"] != "reachable", 30, "north is a stranger at south's door")
    create(north, "more")
    try:
        north.cli("protection", "enable", "more", "--to", "south", timeout=60)
        raise Failure("a site that is not trusted any more placed a replica")
    except CliError as error:
        step(f"ok: nor can north place a replica: {error}"[:160])
    check(names(south) == ["mail"], "south is as it was")
    check_refused(north, "a token from before", "site", "pair", "-", text=waiting, code="not_found", says=["no such pairing token"],
                  snapshot=False)


def evicted(north, south):
    pair(north, south)
    north.cli("protection", "disable", "web", timeout=60)
    north.cli("protection", "enable", "web", "--to", "south")
    north.cli("vm", "start", "web")  # one that is stopped, with all it has at south, asks nothing
    check(names(south) == ["mail", "web"], "paired again, south has the replica again")
    check_refused(south, "the eviction of a VM of south's own", "replica", "evict", "mail", "--yes", code="conflict",
                  snapshot=False)
    south.cli("replica", "evict", "web", "--yes")
    check(names(south) == ["mail"] and south.json("replica", "list") == [], "the replica is gone")

    def told():
        return "do not protect" in json.dumps(north.json("protection", "show", "web").get("error", {}))

    wait_until(told, 30, "north hears that there is no replica of it")
    done = north.json("protection", "disable", "web", timeout=60)
    check(done["replica_removed"], "asked to remove it, south says that it is gone")
    north.cli("protection", "enable", "web", "--to", "south")
    check(names(south) == ["mail", "web"], "and it can be protected anew")


def expelled(north, south):
    """Both live: after unpair the VM's title names south no more, and nobody waits for it."""
    wait_protected(north, "web")
    north.cli("vm", "stop", "web", "--force")
    north.cli("site", "unpair", "south", "--yes", "--evict", "web", "--evict", "mail")
    title = north.json("vm", "title", "web")["title"]
    told = {event["kind"]: event for event in north.json("event", "list")}
    check("protection.disabled" in told and "south" in told["peer.unpaired"]["text"] and "uid" in told["peer.unpaired"]["actor"],
          f"events tell of it, and by whom: {told.get('peer.unpaired')}")
    check(title["kind"] == "expel" and title["standbys"] == title["being_seeded"] == [], f"south is expelled from web's title: {title}")
    north.cli("vm", "start", "web")
    check(north.json("vm", "show", "web")["state"] == "running", "web starts on nobody's word")
    south.cli("site", "unpair", "north", "--yes", "--evict", "web")
    check(names(south) == ["mail"], "south gives up what it had")
    pair(north, south)
    north.cli("protection", "enable", "web", "--to", "south")
    wait_protected(north, "web")
    check(names(south) == ["mail", "web"], "paired again, south becomes its standby again")


def consent(north, south):
    """south is asked before it takes a replica; then has no room for one; then takes none."""
    north.cli("protection", "disable", "web", timeout=60)
    south.cli("site", "peer", "set", "north", "--accept", "ask")
    check_refused(north, "an offer that nobody has agreed to", "protection", "enable", "web", "--to", "south", code="permission",
                  says=["south", "when its operator agrees"], mend=["at site south: holdfast replica accept web"], snapshot=False)
    (waits,) = south.json("replica", "list")
    check(waits["vm"] == "web" and waits["state"] == "asks" and names(south) == ["mail"], "it waits at south, and nothing is there")
    check(any("replica accept web" in one["text"] for one in south.json("event", "list")), "an event says so")
    south.cli("replica", "accept", "web")
    north.cli("protection", "enable", "web", "--to", "south")
    check(names(south) == ["mail", "web"], "once it is agreed to, the same command places it")
    check([one["state"] for one in south.json("replica", "list")] != ["accepted"], "and no offer waits any more")
    create(north, "third")
    south.cli("site", "peer", "set", "north", "--accept", "yes", "--quota", "31M")
    check_refused(north, "a replica over the quota", "protection", "enable", "third", "--to", "south", code="limit",
                  says=["31 MiB", "16 MiB are there"], mend=["site peer set north --quota"], snapshot=False)
    south.cli("site", "peer", "set", "north", "--quota", "32M")
    north.cli("protection", "enable", "third", "--to", "south")
    create(north, "fourth")
    south.cli("site", "peer", "set", "north", "--quota", "none", "--accept", "no")
    check_refused(north, "a replica where none is taken", "protection", "enable", "fourth", "--to", "south", code="permission",
                  says=["takes no replicas"], mend=["--accept ask"], snapshot=False)
    north.cli("protection", "enable", "third", "--to", "south")
    check(south.json("site", "peers")[0]["accept"] == "no" and names(south) == ["mail", "third", "web"],
          "what is there stays, and may be asked for again")
    south.cli("site", "peer", "set", "north", "--accept", "ask")
    check_refused(north, "an offer to decline", "protection", "enable", "fourth", "--to", "south", code="permission", snapshot=False)
    south.cli("replica", "evict", "fourth", "--yes")
    check("fourth" not in [one["vm"] for one in south.json("replica", "list")], "an offer is declined by evict")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        third = Site(processes, directory, "third", 410000)
        directory.chmod(0o711)
        try:
            for site in (north, south, third):
                site.init(called="south" if site is third else None)
                site.start()
            named_by_the_operator(north, south, third)
            unpaired(north, south)
            evicted(north, south)
            expelled(north, south)
            consent(north, south)
        finally:
            for site in (north, south, third):
                site.end()


if __name__ == "__main__":
    main(test)
