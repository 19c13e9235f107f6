"""How a test speaks: one line a step with the seconds since its start; a finding ends it with status 1."""

import pathlib
import shutil
import sys
import tempfile
import time
import traceback

from .process import Failure

_START = time.monotonic()


def step(text):
    print(f"{time.monotonic() - _START:7.2f} s  {text}", flush=True)


def check(condition, text):
    """A finding when the condition doesn't hold; else the text as a line of what was proved."""
    if not condition:
        raise Failure(text)
    step(f"ok: {text}")


def main(test):
    """Runs test(directory) in a fresh directory; keeps that directory when the test fails."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="hf-"))
    try:
        test(directory)
    except Failure as failure:
        step(f"FAILED: {failure}")
        print(f"logs and disks are kept in {directory}", flush=True)
        sys.exit(1)
    except Exception:  # a bug of the test itself
        traceback.print_exc()
        print(f"logs and disks are kept in {directory}", flush=True)
        sys.exit(1)
    shutil.rmtree(directory, ignore_errors=True)
    step("passed")
