#!/usr/bin/env python3
# timeout: 3600
# labels: nightly
# programs: holdfast-vtpm-server
"""swtpm's own tests of a TPM 2.0 behind sockets, on our vTPM (through stand_in/swtpm, which speaks swtpm's command line) and on
the swtpm that is installed.

HOLDFAST_SWTPM names a source tree of the installed version. Words on the command line pick tests.
"""

import os
import pathlib
import sys
import tempfile

from peerlib import suite, tpms

HERE = pathlib.Path(__file__).resolve().parent

# What is not of the vTPM but of swtpm's other programs (its setup, certificates, CUSE device, kernel proxy) and command line.
OTHERS = ("setup", "cert", "localca", "create_tpmca", "vtpm_proxy", "probe", "parameters", "samples", "ibmtss2", "print_",
          "file_permissions")
OWN_FILE = "starts from, or looks for, state files in swtpm's own format; ours is one sealed item of the VM's journal"
KNOWN = {
    "test_tpm2_ctrlchannel2": "begins with swtpm's character device interface, which no QEMU uses for a VM",
    "test_tpm2_derived_keys": OWN_FILE,
    "test_tpm2_encrypted_state": "swtpm's options for a key; ours comes from the vault",
    "test_tpm2_migration_key": "swtpm's options for a key; ours comes from the vault",
    "test_tpm2_resume_volatile": OWN_FILE,
    "test_tpm2_save_load_encrypted_state": "swtpm's options for a key; ours comes from the vault",
    "test_tpm2_save_load_state": "saves, stops, loads as it should, then: " + OWN_FILE,
    "test_tpm2_save_load_state_da_timeout": "locks out, saves, loads and heals as it should, then: " + OWN_FILE,
    "test_tpm2_volatilestate": OWN_FILE,
}


def main():
    tree = suite.tree("HOLDFAST_SWTPM", "tests/common", "swtpm")
    suite.programs("swtpm", "swtpm_ioctl", "swtpm_bios", "socat", "gawk", "bash", "ss")
    tests = sorted(path.name for path in (tree / "tests").glob("test_tpm2_*")
                   if not any(word in path.name for word in OTHERS) and path.suffix == "")
    table = suite.Table("swtpm", ["holdfast", "swtpm"])
    installed = suite.shutil.which("swtpm")
    with tempfile.TemporaryDirectory(prefix="hf-peers-") as scratch:
        for name in suite.wanted(tests):
            for column, program in (("holdfast", HERE / "stand_in" / "swtpm"), ("swtpm", installed)):
                directory = tpms.fresh(pathlib.Path(scratch) / "run")
                environment = {**os.environ, "SWTPM_EXE": str(program), "SWTPM_IOCTL": suite.shutil.which("swtpm_ioctl"),
                               "SWTPM_BIOS": suite.shutil.which("swtpm_bios"), "HOLDFAST_VTPM_SERVER": str(tpms.SERVER),
                               "abs_top_testdir": str(tree / "tests"), "abs_top_builddir": str(tree), "TMPDIR": str(directory)}
                table.add(name, column, suite.run_test(["bash", tree / "tests" / name], directory, environment, 300))
    return table.judge([("holdfast", "swtpm")], KNOWN)


if __name__ == "__main__":
    sys.exit(main())
