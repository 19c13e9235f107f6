#!/usr/bin/env python3
# timeout: 3600
# labels: nightly
# programs: holdfast-vtpm-server
"""The regression test of IBM's TSS, on our vTPM and on swtpm, with one PCR bank and with four.

HOLDFAST_IBM_TSS names a source tree of it. Its programs are those that stand beside its scripts, if it was built; else those
of Debian's package tss2, which are of version 1045. Words on the command line pick scripts.
"""

import os
import pathlib
import re
import shutil
import sys
import tempfile

from peerlib import suite, tpms

KNOWN = {}

LEFT_OUT = {"testdevel.sh": "under development, as reg.sh says", "testntc.sh": "another maker's own commands"}


def scripts_of(tree):
    """Each regression script by the option of reg.sh that runs it."""
    text = (tree / "utils" / "reg.sh").read_text()
    found = re.findall(r'"\$1" == "(-\d+)" \]; then(?:(?!"\$1" ==).)*?\./regtests/(\w+\.sh)', text, re.S)
    return {script: option for option, script in found if script not in LEFT_OUT}


def prefix_of(tree):
    """What stands before a program's name, as reg.sh puts it: the tree's own, or Debian's."""
    if (tree / "utils" / "getrandom").exists():
        return f"{tree}/utils/"
    suite.programs("tssgetrandom")
    return "tss"


def workplace(tree, prefix, directory):
    """The scripts and their data in a directory to write in, with the programs' prefix in place of the built-in one."""
    for item in (tree / "utils").iterdir():
        if item.suffix in (".pem", ".sh", ".log") or item.name in ("policies", "regtests", "certificates"):
            copy = shutil.copytree if item.is_dir() else shutil.copy
            copy(item, directory / item.name)
    roots = directory / "certificates" / "rootcerts.txt"
    if roots.exists():  # names its author's home directory
        roots.write_text(re.sub(r"^.*/certificates/", f"{directory}/certificates/", roots.read_text(), flags=re.M))
    script = directory / "reg.sh"
    script.write_text(re.sub(r"^PREFIX=\./$", f"PREFIX={prefix}", script.read_text(), flags=re.M))


def main():
    tree = suite.tree("HOLDFAST_IBM_TSS", "utils/reg.sh", "IBM's TSS")
    suite.programs("swtpm", "swtpm_setup", "bash", "openssl")
    prefix = prefix_of(tree)
    scripts = scripts_of(tree)
    banks = {"1 bank": tpms.ONE_BANK, "4 banks": tpms.ALL_BANKS}
    columns = {f"{kind} {words}": (kind, list_) for words, list_ in banks.items() for kind in tpms.KINDS}
    table = suite.Table("ibm-tss", list(columns))
    checks = dict.fromkeys(columns, 0)
    with tempfile.TemporaryDirectory(prefix="hf-peers-") as scratch:
        for name in suite.wanted(scripts):
            for column, (kind, list_) in columns.items():
                directory = tpms.fresh(pathlib.Path(scratch) / "run")
                workplace(tree, prefix, directory)
                with tpms.KINDS[kind](directory, list_) as tpm:
                    simulator = tpms.Simulator(tpm)
                    environment = {**os.environ, "TPM_INTERFACE_TYPE": "socsim", "TPM_SERVER_TYPE": "mssim",
                                   "TPM_SERVER_NAME": "127.0.0.1", "TPM_COMMAND_PORT": str(simulator.port), "TPM_PLATFORM_PORT": str(simulator.port + 1),
                                   "TPM_DATA_DIR": str(directory),
                                   "LD_LIBRARY_PATH": f"{tree}/utils:{os.environ.get('LD_LIBRARY_PATH', '')}"}
                    outcome = suite.run_test(["bash", "reg.sh", scripts[name]], directory, environment, 600)
                    simulator.close()
                checks[column] += len(re.findall(r"^ INFO:", outcome.log, re.M))
                table.add(name, column, outcome)
    for column, count in checks.items():
        print(f"    {count} checks passed on {column}")
    return table.judge([(f"holdfast {words}", f"swtpm {words}") for words in banks], KNOWN)


if __name__ == "__main__":
    sys.exit(main())
