"""Evidence of a boot that a guest makes with plain tpm2-tools (docs/formats/evidence.md), over its agent."""

import base64

from .agent import EVENT_LOG
from .probe import PCR_COUNT

QUOTED = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]
_DIRECTORY = "/run/evidence"
_SCRIPT = f"""set -e
mkdir -p {_DIRECTORY}
cd {_DIRECTORY}
tpm2 createek -Q -G ecc -c ek.ctx -u ek.pub
tpm2 createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub
tpm2 quote -Q -c ak.ctx -l sha256:{','.join(map(str, QUOTED))} -q NONCE -g sha256 -m quote -s signature
"""


def gather(agent, nonce):
    """The evidence as JSON. nonce: bytes."""
    agent.run("/bin/sh", "-c", _SCRIPT.replace("NONCE", nonce.hex()))
    parts = {name: base64.b64encode(agent.read(f"{_DIRECTORY}/{file}")).decode()
             for name, file in (("quote", "quote"), ("signature", "signature"), ("ak_public", "ak.pub"))}
    pcrs = {str(pcr): agent.read(f"/sys/class/tpm/tpm0/pcr-sha256/{pcr}").decode().strip().lower()
            for pcr in range(PCR_COUNT)}
    return {"version": 1, "nonce": base64.urlsafe_b64encode(nonce).decode().rstrip("="), **parts, "pcrs": {"sha256": pcrs},
            "event_log": base64.b64encode(agent.read(EVENT_LOG)).decode()}
