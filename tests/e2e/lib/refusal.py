"""Refused commands: their exit status, the three parts of their message, and a state directory that stays as it was."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile

from .process import Failure
from .report import step

# What a refused command may leave behind, with the reason. Everything else counts, with owner and mode.
#   run/                   sockets, pid files, logs: what processes say of themselves; a reboot empties it
#   daemon/catalog.sqlite* compared row by row instead: SQLite moves the same rows between the file and its log
#     jobs, events, audit  a refusal is recorded there on purpose
#     vm_numbers, free_vm_numbers   a create that is undone gives its number back as the last of those that are free
#   vault/audit.log        may grow at its end (refusals and undone acts are recorded); what it held must stay
_CATALOG_TABLES_LEFT_OUT = {"jobs", "events", "audit", "vm_numbers", "free_vm_numbers", "sqlite_sequence"}


def _catalog_rows(daemon_dir):
    """{table: rows} of a copy, so that looking changes nothing, not even SQLite's own files."""
    with tempfile.TemporaryDirectory(prefix="hf-") as copy:
        for name in ("catalog.sqlite", "catalog.sqlite-wal"):
            if (daemon_dir / name).exists():
                shutil.copyfile(daemon_dir / name, pathlib.Path(copy) / name)
        if not (pathlib.Path(copy) / "catalog.sqlite").exists():
            return {}
        with contextlib.closing(sqlite3.connect(f"{copy}/catalog.sqlite")) as catalog:
            tables = [row[0] for row in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: sorted(map(repr, catalog.execute(f"SELECT * FROM {table}")))
                    for table in tables if table not in _CATALOG_TABLES_LEFT_OUT}


class Snapshot:
    """What counts of a state directory. `digest` is one hash over all of it but the vault's audit log, which may grow."""

    def __init__(self, state):
        self.parts = {}
        for folder, folders, files in os.walk(state):
            if pathlib.Path(folder) == state:
                folders.remove("run") if "run" in folders else None
            for name in folders + files:
                path = pathlib.Path(folder) / name
                relative = str(path.relative_to(state))
                if not relative.startswith("daemon/catalog.sqlite") and relative != "vault/audit.log":
                    self.parts[relative] = self._entry(path)
        for table, rows in _catalog_rows(state / "daemon").items():
            self.parts[f"catalog:{table}"] = rows
        audit = state / "vault/audit.log"
        self.audit = audit.read_bytes() if audit.exists() else b""
        self.digest = hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    @staticmethod
    def _entry(path):
        status = path.lstat()
        content = ""
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        return [oct(status.st_mode), status.st_uid, status.st_gid, content]

    def check_same(self, later, what):
        if later.digest != self.digest:
            names = sorted(name for name in self.parts.keys() | later.parts.keys()
                           if self.parts.get(name) != later.parts.get(name))
            raise Failure(f"{what}: the state directory changed: {', '.join(names)}")
        if not later.audit.startswith(self.audit):
            raise Failure(f"{what}: what the vault's audit log held changed")


def message_of(stderr, what):
    """The error of a command run with -o json, its last line on stderr; Failure if a part is missing."""
    try:
        error = json.loads(stderr.strip().splitlines()[-1])["error"]
    except (IndexError, KeyError, TypeError, json.JSONDecodeError):
        raise Failure(f"{what}: no error in JSON at the end of stderr:\n{stderr}") from None
    for part in ("code", "cause", "effect", "mend"):
        if not error.get(part, "").strip():
            raise Failure(f"{what}: the message has no {part}: {error}")
    return error


def check_refused(site, what, *words, code, says=(), mend=(), status=1, timeout=60, snapshot=True, text=""):
    """Runs a command that must be refused: with this exit status and error code, a cause that holds each of `says`, an
    effect, a mend that holds each of `mend`, and no change of the state directory. The error."""
    before = Snapshot(site.state) if snapshot else None
    done = site.cli("-o", "json", "-q", *words, check=False, timeout=timeout, text=text)
    if done.returncode != status:
        raise Failure(f"{what}: `{' '.join(map(str, words))}` ended with status {done.returncode}, not {status}:\n"
                      f"{done.stdout}{done.stderr}")
    error = message_of(done.stderr, what)
    codes = {code} if isinstance(code, str) else set(code)
    missing = [text for text in says if text not in error["cause"]]
    missing += [text for text in mend if text not in error["mend"]]
    if error["code"] not in codes or missing:
        raise Failure(f"{what}: refused otherwise than expected ({', '.join(codes)}; missing {missing}): {error}")
    if before:
        before.check_same(Snapshot(site.state), what)
    step(f"refused: {what}: {error['cause']} | {error['effect']} | {error['mend']}")
    return error
