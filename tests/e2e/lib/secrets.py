"""Searching files and process memory for secrets: raw, hexadecimal and base64, whatever stands around them."""

import base64
import contextlib
import pathlib
import re

from .process import Failure

_CHUNK_BYTES = 16 << 20
_REVEALED = re.compile(re.escape(b"HF-LUKS-SECRET1=") + b"(.{32})", re.DOTALL)


def spellings(secret):
    """Every spelling of `secret` that is searched for: {bytes: name}. Base64 at its three alignments, both alphabets."""
    out = {secret: "raw", secret[::-1]: "raw reversed", secret.hex().encode(): "hex",
           secret.hex().upper().encode(): "HEX"}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            text = encode(b"\0" * shift + secret).rstrip(b"=")
            # Characters that also hold bits of the neighbours before and behind are left out.
            first = (shift * 8 + 5) // 6
            out[text[first:(shift + len(secret)) * 8 // 6]] = f"base64+{shift}"
    return out


def _chunks_of_memory(pid):
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps.splitlines():
            span, mode = line.split()[:2]
            if "r" not in mode or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            at, end = (int(word, 16) for word in span.split("-"))
            while at < end:
                size = min(_CHUNK_BYTES, end - at)
                data = b""
                with contextlib.suppress(OSError, OverflowError, ValueError):
                    memory.seek(at)
                    data = memory.read(size)
                if data:
                    yield data
                at += size


def _chunks_of_file(path):
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK_BYTES):
            yield data


def _search(chunks, needles, keep):
    """Names of the needles ({bytes: name}) found; a needle across a chunk's edge is found too."""
    found, tail = set(), b""
    for data in chunks:
        text = tail + data
        found |= {name for needle, name in needles.items() if name not in found and needle in text}
        tail = data[-keep:]
    return found


def _labelled(secrets):
    return {needle: f"{label} ({how})" for label, secret in secrets.items()
            for needle, how in spellings(secret).items()}


def search_process(pid, secrets):
    """secrets: {label: bytes}. The set of "label (spelling)" found in the memory of process `pid`."""
    needles = _labelled(secrets)
    return _search(_chunks_of_memory(pid), needles, max(map(len, needles)))


def search_memory_files(pid, secrets):
    """As search_process, in the memory files (memfd) that process `pid` holds open, mapped or not."""
    needles = _labelled(secrets)
    found = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(link.readlink()).startswith("/memfd:"):
                found |= _search(_chunks_of_file(link), needles, max(map(len, needles)))
    return found


def search_files(paths, secrets):
    """{path: {"label (spelling)", …}} of the files and, below directories, of all regular files that hold one."""
    needles = _labelled(secrets)
    keep = max(map(len, needles))
    out = {}
    for top in map(pathlib.Path, paths):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and not path.is_symlink():
                found = _search(_chunks_of_file(path), needles, keep)
                if found:
                    out[str(path)] = found
    return out


def revealed_luks_secret(qemu_pid):
    """The disk secret of a probe guest that runs with reveal=1, taken out of its memory."""
    found, tail = set(), b""
    for data in _chunks_of_memory(qemu_pid):
        text = tail + data
        found.update(match[1] for match in _REVEALED.finditer(text) if any(match[1]))
        tail = data[-64:]
    if len(found) != 1:
        raise Failure(f"the guest's memory holds {len(found)} disk secrets where one is revealed")
    return found.pop()
