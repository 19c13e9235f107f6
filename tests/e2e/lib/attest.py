"""Boots of a site's VM and what attestation said of them."""

import http.client
import json
import socket

from .process import Failure, wait_until

BOOT, GUEST_LOG, DEMAND = "boot", "guest's log", "on demand"
VERDICT_MS_MAX = 1000  # after the firmware handed over


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def rest(site, method, path, body=None, timeout=60):
    """(status, answer) of a call to the site's daemon."""
    link = _UnixConnection(site.state / "run/api.sock", timeout)
    link.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    answer = link.getresponse()
    text = answer.read()
    link.close()
    try:
        return answer.status, json.loads(text) if text else None
    except json.JSONDecodeError:
        raise Failure(f"{method} {path}: {answer.status}, no JSON: {text[:200]!r}") from None


class Boots:
    def __init__(self, site, vm):
        self.site = site
        self.vm = vm
        self._seen = self._newest_id()

    def show(self):
        status, answer = rest(self.site, "GET", f"/v1/vms/{self.vm}/attestation")
        if status != 200:
            raise Failure(f"attestation of {self.vm}: {status} {answer}")
        return answer

    def _newest_id(self):
        history = self.show()["history"]
        return history[0]["id"] if history else 0

    def pass_over(self):
        """The verdicts that are there are of earlier boots."""
        self._seen = self._newest_id()

    def start(self):
        """Powers on; the verdicts of earlier boots are passed over."""
        self.pass_over()
        self.site.cli("vm", "start", self.vm)

    def verdict(self, trigger=BOOT, timeout=90):
        """The record of the next verdict of that trigger that was not seen yet."""
        def there():
            shown = self.show()
            if not shown["history"]:
                return None
            newest = shown["history"][0]
            return shown["newest"] if newest["id"] > self._seen and newest.get("trigger") == trigger else None

        record = wait_until(there, timeout, f"a verdict of {self.vm} ({trigger})", interval=0.1)
        self._seen = self._newest_id()
        return record

    def check(self):
        """A verdict on demand."""
        status, answer = rest(self.site, "POST", f"/v1/vms/{self.vm}/attestation/check", {})
        if status != 200:
            raise Failure(f"attestation check of {self.vm}: {status} {answer}")
        return answer

    def off(self):
        """Cuts the power."""
        self.site.cli("vm", "stop", self.vm, "--force")
        self.site.wait_idle(self.vm)

    def unhealthy_so_far(self):
        return [entry for entry in self.show()["history"] if entry["verdict"] == "Unhealthy"]


def words(record):
    """A record's reasons, one a line, for a finding."""
    lines = [f"  {reason['severity']} {reason['code']}: {reason['words']}" for reason in record["reasons"]]
    return "\n".join([f"{record['verdict']}: {record['summary']}", *lines])


def expect_healthy(record, what):
    if record["verdict"] != "Healthy":
        raise Failure(f"{what}: {words(record)}")


def expect_reasons(record, what, *wanted):
    """Unhealthy, with for each of `wanted` one failure whose code is the first word and whose words hold the rest.

    wanted: (code or codes, text…).
    """
    if record["verdict"] != "Unhealthy":
        raise Failure(f"{what}: expected to be Unhealthy, but {words(record)}")
    failures = [reason for reason in record["reasons"] if reason["severity"] == "failure"]
    for codes, *texts in wanted:
        codes = (codes,) if isinstance(codes, str) else codes
        if not any(reason["code"] in codes and all(text in reason["words"] for text in texts) for reason in failures):
            raise Failure(f"{what}: no reason {'/'.join(codes)} with {texts}; {words(record)}")
