"""What a test of two sites ends with."""

from . import nbd, sequence_load
from .report import check


def no_job_hangs(*sites):
    check(not [job for site in sites for job in site.json("job", "list") if job["state"] == "running"],
          "no job hangs at either site")


def has_all_writes(site, vm, number, disk="disk1"):
    """The VM that runs at `site` has the writes 1..number of lib/sequence_load."""
    connection = nbd.Nbd(site.run_dir(vm) / f"{disk}.nbd", disk)
    there = sequence_load.verify(connection, number)
    connection.close()
    check(there == number, f"at {site.name} the VM has all {number} writes")
