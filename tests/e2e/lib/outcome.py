"""What a test of two sites ends with."""

from . import nbd, sequence_load
from .process import Failure
from .report import check
from .site import bin_dir


def no_job_hangs(*sites):
    check(not [job for site in sites for job in site.json("job", "list") if job["state"] == "running"],
          "no job hangs at either site")


def has_all_writes(site, vm, number, disk="disk1"):
    """The VM that runs at `site` has the writes 1..number of lib/sequence_load."""
    connection = nbd.Nbd(site.run_dir(vm) / f"{disk}.nbd", disk)
    there = sequence_load.verify(connection, number)
    connection.close()
    check(there == number, f"at {site.name} the VM has all {number} writes")


def sanitized():
    """Is it programs built with a sanitizer that are tested? They say what they find in their logs; times mean nothing."""
    return b"__tsan_" in (bin_dir() / "holdfastd").read_bytes()


def no_sanitizer_reports(*sites):
    logs = [path for site in sites for path in sorted((site.state / "run/log").rglob("*.log"))]
    for path in logs:
        text = path.read_text(errors="replace")
        if (at := text.find("WARNING: ThreadSanitizer")) >= 0:
            raise Failure(f"{path}:\n{text[at:at + 6000]}")
    check(len(logs) >= 4 * len(sites), f"{len(logs)} logs of the sites' processes, and no report of the sanitizer in them")
