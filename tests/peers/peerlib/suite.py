"""Other people's suites: where one is, what each of its tests said of us and of the control, and what may differ."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77  # as automake's, and ctest's SKIP_RETURN_CODE


def skip(word):
    print(f"skipped: {word}")
    sys.exit(SKIPPED)


def tree(variable, marker, what):
    """The source tree that the variable names; it is fetched by nobody here."""
    given = os.environ.get(variable)
    if not given:
        skip(f"{variable} names no source tree of {what}")
    path = pathlib.Path(given).resolve()
    if not (path / marker).exists():
        sys.exit(f"{variable}={given}: no {marker} in it, so it is not a source tree of {what}")
    return path


def programs(*names):
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        skip(f"not installed here: {', '.join(missing)}")


@dataclasses.dataclass
class Outcome:
    word: str  # "pass", "FAIL", "skip"
    seconds: float
    log: str

    def reason(self):
        """The last line that says something."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        told = [line for line in lines if "ERROR" in line or "failed" in line or "Error" in line]
        return (told or lines or ["said nothing"])[-1][:160]


def run_test(argv, directory, environment, timeout):
    """Runs one test of a suite in a session of its own, which ends with it."""
    with tempfile.TemporaryFile(dir=directory) as log:
        begun = time.monotonic()
        child = subprocess.Popen([str(word) for word in argv], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait(10)
        log.seek(0)
        text = log.read().decode(errors="replace")
    if status is None:
        text += f"\nno end within {timeout} s"
    word = {0: "pass", SKIPPED: "skip"}.get(status, "FAIL")
    return Outcome(word, time.monotonic() - begun, text)


class Table:
    """The tests' outcomes by column."""

    def __init__(self, name, columns):
        self.name, self.columns, self.rows = name, columns, {}

    def add(self, test, column, outcome):
        self.rows.setdefault(test, {})[column] = outcome
        print(f"    {outcome.word}  {outcome.seconds:5.1f} s  {column:16}  {test}", flush=True)

    def count(self, column, word):
        return sum(row[column].word == word for row in self.rows.values() if column in row)

    def markdown(self):
        lines = [f"| {self.name} | " + " | ".join(self.columns) + " |", "|---" * (len(self.columns) + 1) + "|"]
        for word in ("pass", "FAIL", "skip"):
            lines.append(f"| {word} | " + " | ".join(str(self.count(column, word)) for column in self.columns) + " |")
        for test, row in sorted(self.rows.items()):
            words = [row[column].word if column in row else "" for column in self.columns]
            if set(words) != {"pass"}:
                lines.append(f"| `{test}` | " + " | ".join(words) + " |")
        return "\n".join(lines)

    def keep(self):
        """Under HOLDFAST_PEERS_OUT: the table, and what each test said that did not pass."""
        given = os.environ.get("HOLDFAST_PEERS_OUT")
        if not given:
            return
        out = pathlib.Path(given)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{self.name}.md").write_text(self.markdown() + "\n")
        words = {test: {column: outcome.word for column, outcome in row.items()} for test, row in self.rows.items()}
        (out / f"{self.name}.json").write_text(json.dumps(words, indent=1))
        for test, row in self.rows.items():
            for column, outcome in row.items():
                if outcome.word != "pass":
                    file = f"{self.name}.{test}.{column}.log".replace("/", ".").replace(" ", "_")
                    (out / file).write_text(outcome.log)

    def judge(self, pairs, known):
        """Each of `pairs` is (ours, control). What the control passes and ours does not is a fault, unless `known` says why it
        has to be so; what is known and passes after all is a fault of `known`. Returns the exit status."""
        faults = 0
        for ours, control in pairs:
            for test, row in sorted(self.rows.items()):
                if ours not in row or control not in row:
                    continue
                worse = row[control].word == "pass" and row[ours].word != "pass"
                if worse and test in known:
                    print(f"    known: {test}: {known[test]}")
                elif worse:
                    faults += 1
                    print(f"FAULT: {test}: passes on {control}, on {ours}: {row[ours].reason()}")
                elif test in known and row[ours].word == "pass":
                    faults += 1
                    print(f"FAULT: {test}: is said not to pass, and does: {known[test]}")
        print(self.markdown())
        self.keep()
        return 1 if faults else 0


def wanted(tests):
    """Those whose names hold one of the command line's words, or all."""
    words = sys.argv[1:]
    return [test for test in tests if not words or any(word in test for word in words)]
