#!/usr/bin/env python3
# timeout: 5400
# labels: nightly
# programs: holdfast-vtpm-server
"""tpm2-tools' own integration tests, on our vTPM and on swtpm, with one PCR bank and with four.

HOLDFAST_TPM2_TOOLS names a source tree of the installed version (tpm2 --version). Words on the command line pick tests. Between
tools and TPM stands tpm2-abrmd, on a D-Bus of its own: most of these tests leave more objects loaded than a TPM has room for.
"""

import os
import pathlib
import sys
import tempfile

from peerlib import suite, tpms

UNDER_ABRMD = """
tpm2-abrmd --session --allow-root --tcti="$HOLDFAST_TPM" &
for try in $(seq 100); do tpm2 getrandom --hex 4 >/dev/null 2>&1 && break; sleep 0.05; done
bash "$0"
status=$?
kill %1
wait
exit $status
"""

# Not for want of a bank: why a test that passes on swtpm cannot on ours.
KNOWN = {}


def tests_of(tree):
    integration = tree / "test" / "integration"
    return {str(path.relative_to(integration)): path
            for folder in ("tests", "fapi") for path in sorted((integration / folder).glob("*.sh"))}


def main():
    tree = suite.tree("HOLDFAST_TPM2_TOOLS", "test/integration/helpers.sh", "tpm2-tools")
    suite.programs("tpm2", "tpm2-abrmd", "dbus-run-session", "swtpm", "swtpm_setup", "xxd", "openssl", "expect", "bash")
    tests = tests_of(tree)
    banks = {"1 bank": tpms.ONE_BANK, "4 banks": tpms.ALL_BANKS}
    columns = {f"{kind} {words}": (kind, list_) for words, list_ in banks.items() for kind in tpms.KINDS}
    table = suite.Table("tpm2-tools", list(columns))
    with tempfile.TemporaryDirectory(prefix="hf-peers-") as scratch:
        for name in suite.wanted(tests):
            for column, (kind, list_) in columns.items():
                directory = tpms.fresh(pathlib.Path(scratch) / "run")
                with tpms.KINDS[kind](directory, list_) as tpm:
                    environment = {**os.environ, "PATH": f"{tree}/test/integration:{os.environ['PATH']}",
                                   "HOLDFAST_TPM": tpm.tcti(), "TPM2TOOLS_TEST_TCTI": "tabrmd:bus_type=session",
                                   "TPM2TOOLS_TCTI": "tabrmd:bus_type=session", "TPM2TOOLS_TEST_PERSISTENT": "",
                                   "srcdir": str(tree), "abs_srcdir": str(tree), "abs_builddir": str(tree),
                                   "TPM2_TOOLS_TEST_FIXTURES": str(tree / "test/integration/fixtures"),
                                   "PYTHON": sys.executable, "TMPDIR": str(directory), "TSS2_LOG": "all+ERROR",
                                   "TPM2_SIM": "", "TPM2_ABRMD": ""}
                    argv = ["dbus-run-session", "--", "bash", "-c", UNDER_ABRMD, tests[name]]
                    table.add(name, column, suite.run_test(argv, directory, environment, 300))
    ours_and_control = [(f"holdfast {words}", f"swtpm {words}") for words in banks]
    return table.judge(ours_and_control, KNOWN)


if __name__ == "__main__":
    sys.exit(main())
