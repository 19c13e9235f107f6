#!/usr/bin/env python3
# timeout: 180
# needs: qemu
# programs: holdfast holdfastd holdfast-launcher holdfast-vault holdfast-keeper holdfast-link
"""What holdfastd answers is what api/openapi.yaml says: every answer of two living sites that protect a VM is held against the
schema of its operation, and has no member that the schema does not name. Every path of the document is served, and a wrong
method on it is refused as the document says.
"""

import http.client
import json
import socket

import jsonschema
import yaml

from lib import vault_words
from lib.probe import REPOSITORY
from lib.process import Failure, Processes, wait_until
from lib.report import check, main, step
from lib.site import Site, pair, wait_protected

API = yaml.safe_load((REPOSITORY / "api/openapi.yaml").read_text())


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def ask(site, method, path, body=None):
    """(status, the JSON of the answer)"""
    connection = Connection(site.state / "run/api.sock")
    connection.request(method, path, body=None if body is None else json.dumps(body))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def resolve(schema):
    while "$ref" in schema:
        at = API
        for name in schema["$ref"].removeprefix("#/").split("/"):
            at = at[name]
        schema = at
    return schema


def unnamed(value, schema, place):
    """Members that the schema does not name, as paths."""
    schema = resolve(schema)
    if isinstance(value, list) and "items" in schema:
        return [found for number, item in enumerate(value) for found in unnamed(item, schema["items"], f"{place}[{number}]")]
    if not isinstance(value, dict) or "properties" not in schema or "additionalProperties" in schema:
        return []
    found = []
    for name, item in value.items():
        if name in schema["properties"]:
            found += unnamed(item, schema["properties"][name], f"{place}.{name}")
        else:
            found.append(f"{place}.{name}")
    return found


def schema_of(method, path, status):
    operation = API["paths"][path][method.lower()]
    response = resolve(operation["responses"].get(str(status), operation["responses"]["default"]))
    return response["content"]["application/json"]["schema"]


def hold(site, method, path, pattern, body=None):
    """Asks, holds the answer against the document, returns it."""
    status, answer = ask(site, method, path, body)
    schema = schema_of(method, pattern, status)
    validator = jsonschema.Draft202012Validator({**schema, "components": API["components"]})
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(answer)]
    errors += [f"{name}: not in the document" for name in unnamed(answer, schema, "answer")]
    if errors:
        raise Failure(f"{method} {path} ({status}): " + "; ".join(errors[:8]))
    return status, answer


def follow(site, job):
    def ended():
        _, shown = hold(site, "GET", f"/v1/jobs/{job['id']}?wait_ms=5000&seen={job['version']}", "/v1/jobs/{id}")
        return shown if shown["state"] != "running" else None

    shown = wait_until(ended, 60, f"job {job['id']} ends")
    check(shown["state"] == "done", f"job {shown['kind']} is done")
    return shown


def act(site, method, path, pattern, body=None):
    status, job = hold(site, method, path, pattern, body)
    check(status == 202, f"{method} {path} begins a job")
    return follow(site, job)


def hold_all_reads(site, vm):
    for pattern, operations in API["paths"].items():
        if "get" not in operations or "console" in pattern:
            continue
        path = pattern.replace("{vm}", vm).replace("{id}", "1")
        if "{" in path:
            continue
        hold(site, "GET", path, pattern)
        status, _ = ask(site, "PUT", path, {}) if "put" not in operations else (405, None)
        check(status == 405, f"{pattern}: as the document says; PUT is refused")


def consent(north, south):
    """What a peer may place here; an offer that waits is shown, agreed to, declined."""
    hold(south, "PUT", "/v1/peers/north", "/v1/peers/{peer}", {"accept": "ask", "quota_bytes": 1 << 30})
    status, _ = hold(south, "PUT", "/v1/peers/north", "/v1/peers/{peer}", {"accept": "perhaps"})
    check(status == 400, "a way to take replicas that is none is refused")
    act(north, "POST", "/v1/vms", "/v1/vms", {"name": "more", "disks": [{"size_bytes": 16 << 20}], "memory_mib": 256})
    word = bytes.fromhex(north.vm_id("more") + south.json("site", "show")["site_id"])
    vault_words.ask(north.state / "run/vault-operators.sock", vault_words.ADD_MEMBER, word)
    _, job = hold(north, "POST", "/v1/vms/more/protection", "/v1/vms/{vm}/protection", {"to": "south"})
    wait_until(lambda: hold(north, "GET", f"/v1/jobs/{job['id']}", "/v1/jobs/{id}")[1]["state"] == "failed", 30,
               "south does not take it unasked")
    for site in (north, south):
        hold_all_reads(site, "web")
    hold(south, "POST", "/v1/replicas/more/accept", "/v1/replicas/{vm}/accept", {})
    hold_all_reads(south, "web")
    act(south, "DELETE", "/v1/replicas/more", "/v1/replicas/{vm}")
    status, _ = hold(south, "POST", "/v1/replicas/more/accept", "/v1/replicas/{vm}/accept", {})
    check(status == 404, "an offer that was declined is no offer")


def test(directory):
    with Processes(directory) as processes:
        north, south = Site(processes, directory, "north", 310000), Site(processes, directory, "south", 360000)
        directory.chmod(0o711)
        try:
            for site in (north, south):
                site.init()
                site.start()
            pair(north, south)
            act(north, "POST", "/v1/vms", "/v1/vms",
                {"name": "web", "disks": [{"size_bytes": 16 << 20}], "memory_mib": 256})
            act(north, "POST", "/v1/vms/web/start", "/v1/vms/{vm}/start", {})
            word = bytes.fromhex(north.vm_id("web") + south.json("site", "show")["site_id"])
            check(vault_words.ask(north.state / "run/vault-operators.sock", vault_words.ADD_MEMBER, word) == b"\0\0\1",
                  "an operator says that south may have its key")
            act(north, "POST", "/v1/vms/web/protection", "/v1/vms/{vm}/protection", {"to": "south"})
            wait_protected(north, "web")
            step("running and protected")
            for site in (north, south):
                hold_all_reads(site, "web")
            status, _ = hold(north, "GET", "/v1/vms/nobody", "/v1/vms/{vm}")
            check(status == 404, "an unknown VM is an error of the documented form")
            status, _ = hold(north, "POST", "/v1/jobs/1/cancel", "/v1/jobs/{id}/cancel")
            check(status == 409, "a job that has ended is not cancelled")
            status, _ = hold(north, "GET", "/v1/events?vm=nobody", "/v1/events")
            check(status == 404, "nor is an unknown VM's list of events empty")
            consent(north, south)
            act(south, "POST", "/v1/vms/web/failover", "/v1/vms/{vm}/failover", {"kind": "unplanned"})
            for site in (north, south):
                hold_all_reads(site, "web")
        finally:
            north.end()
            south.end()


if __name__ == "__main__":
    main(test)
