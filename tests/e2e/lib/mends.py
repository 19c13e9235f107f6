"""A refusal's mend, done as its reader would: the commands that it names, in their order, at the sites that it names."""

import re

from .process import Failure
from .site import CliError

_STEP = re.compile(r"(?:\b[aA]t site (?P<site>\S+?): |(?P<here>\bhere: ))?holdfast (?P<words>[a-z][^;,:()]*?)"
                   r"(?= says\b| lists\b| at both\b|;|,|:|\(|$)")
_OTHERWISE = re.compile(r"if that does not|; to give up ")
_ONLY_LOOKS = {("vm", "show"), ("vm", "list"), ("vm", "title"), ("protection", "show"), ("job", "list"), ("job", "show"),
               ("event", "list"), ("attest", "show"), ("host", "show")}


def steps_of(mend, here, sites):
    """[(site, words)]: "at site X" holds until another place is named. What follows "if that does not", or gives something up, is not
    needed."""
    by_name = {site.name: site for site in sites}
    at, steps = here, []
    for found in _STEP.finditer(_OTHERWISE.split(mend)[0]):
        if found["site"]:
            if found["site"] not in by_name:
                raise Failure(f"a mend names no site of these: {mend}")
            at = by_name[found["site"]]
        elif found["here"]:
            at = here
        steps.append((at, found["words"].split()))
    return steps


def follow_mend(mend, here, sites, timeout=120):
    """Gives those commands; what was done, in words. A mend that only looks, or says to try again, does nothing here. Failure
    when one of the commands is refused."""
    done = []
    for site, words in steps_of(mend, here, sites):
        if tuple(words[:2]) in _ONLY_LOOKS:
            site.cli(*words, check=False)
            continue
        if words[:2] in (["failover", "unplanned"], ["vm", "delete"]):
            words = [*words, "--yes"]
        try:
            site.cli(*words, timeout=timeout)
        except CliError as error:
            if words[:2] == ["vm", "stop"] and "does not run" in error.parts()["cause"]:
                continue  # which is what it was to bring about
            raise Failure(f"the mend \"{mend}\" does not lead on: {error}") from None
        done.append(f"at {site.name}: {' '.join(words)}")
    return "; ".join(done) or "nothing to do but again"
