"""What the command `cutwire` says of itself: its keys, its presets, and the version of its codecs."""
from __future__ import annotations

import functools
import json
import pathlib
import re
import struct
import subprocess
import tempfile
import zlib

from .errors import StudyError

# Options of `train` that say where and how fast a run is made, not what comes out.
NOT_OF_THE_RUN = {"local", "split", "processes", "preset", "json", "quiet", "threads", "loader-threads", "timeout",
                  "join-timeout", "allow-plaintext", "own-data", "data-dir", "recipe", "weights", "resume", "out",
                  "overwrite", "sample", "classes", "input", "checkpoint-every", "help"}


def plain_number(value: str) -> str:
    """One spelling for each number, so that 5e-4 and 0.0005 are the same setting."""
    try:
        return f"{float(value):g}" if re.fullmatch(r"[-+.\deE]+", value) else value
    except ValueError:
        return value


def coded_in_context(spec: str) -> bool:
    """Whether a codec chooses what it sends by contexts, which a later version of it may choose otherwise."""
    return spec.startswith("ec") or "entropy=ctx" in spec


class Program:
    """The executable at `path`; `commit` is that of its sources, "" to ask git."""

    def __init__(self, path: str, commit: str = ""):
        self.path = path
        self._commit = commit

    def output(self, *args: str) -> str:
        try:
            done = subprocess.run([self.path, *args], capture_output=True, text=True)
        except OSError as error:
            raise StudyError(f"study: cannot run {self.path}: {error.strerror}: build it, or name it by --cutwire") \
                from error
        if done.returncode != 0:
            raise StudyError(f"study: `cutwire {' '.join(args)}` failed: {done.stderr.strip() or 'without a word'}")
        return done.stdout

    @functools.cached_property
    def defaults(self) -> dict[str, str]:
        """Every key of a run, in the order of the help, with the value it has unless given."""
        found = {}
        for name, metavar, text in re.findall(r"^  --([a-z-]+)( \S+)? +(.*)$", self.output("train", "--help"), re.M):
            if name not in NOT_OF_THE_RUN:
                default = re.search(r" \[([^\]]*)\]$", text)
                found[name] = plain_number(default[1]) if default else "" if metavar else "0"
        return found

    @functools.cached_property
    def flags(self) -> set[str]:
        """The keys that are on or off."""
        return set(re.findall(r"^  --([a-z-]+) {2,}", self.output("train", "--help"), re.M))

    @functools.cached_property
    def presets(self) -> dict[str, dict[str, str]]:
        lines = self.output("train", "--preset", "list").splitlines()
        found = {}
        for head, settings in zip(lines[::2], lines[1::2]):
            pairs = (pair.split("=", 1) for pair in settings.split())
            found[head.split()[0]] = {key: plain_number(value) for key, value in pairs if key not in NOT_OF_THE_RUN}
        return found

    # ---- what a row records of the program that made it ----

    @functools.cached_property
    def commit(self) -> str:
        if self._commit:
            return self._commit
        root = pathlib.Path(__file__).resolve().parents[2]
        done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"],
                              capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else self.output("--version").split()[-1]

    @functools.cached_property
    def _folder(self) -> tempfile.TemporaryDirectory:
        folder = tempfile.TemporaryDirectory(prefix="cutwire-probe-")
        write_probe(pathlib.Path(folder.name) / "x.npy")
        return folder

    @functools.lru_cache(maxsize=None)
    def _payload(self, spec: str) -> tuple[int, int]:
        """Version and checksum of the payload that a codec makes of the probe."""
        source, made = f"{self._folder.name}/x.npy", f"{self._folder.name}/x.cw"
        self.output("codec", "encode", "--codec", spec, "--in", source, "--out", made)
        told = json.loads(self.output("codec", "inspect", made, "--json").strip().splitlines()[-1])
        return int(told["version"]), int(told["checksum"])

    @functools.cached_property
    def payload_version(self) -> int:
        return self._payload("none")[0]

    @functools.lru_cache(maxsize=None)
    def probe(self, specs: tuple[str, ...]) -> str:
        """A fingerprint of what the codecs that code in context make of a fixed tensor; "" where none does."""
        sums = [self._payload(spec)[1] for spec in specs if coded_in_context(spec)]
        return f"{zlib.crc32(struct.pack(f'<{len(sums)}I', *sums)):08x}" if sums else ""

    def version_of(self, specs: tuple[str, ...]) -> int:
        """The newest payload version among what these codecs make."""
        return max([self.payload_version] + [self._payload(spec)[0] for spec in specs if coded_in_context(spec)])


def write_probe(path: pathlib.Path) -> None:
    """A fixed tensor of 32x8x16x16 with the look of a map behind a ReLU: smooth, half of it 0; no numpy needed."""
    values = []
    for sample in range(32):
        for channel in range(8):
            for place in range(256):
                y, x = divmod(place, 16)
                wave = (y * (sample % 7 + 1) + x * (channel + 2)) % 32 - 16
                grain = (sample * 2654435761 + channel * 40503 + place * 69069) % 1021 / 1021 - 0.5
                values.append(max(0.0, abs(wave) / 8 - 1 + grain / 4))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (32, 8, 16, 16), }"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() +
                     struct.pack(f"<{len(values)}f", *values))


def machine() -> str:
    """The processor, and the widest instructions that the engine uses on it."""
    text = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    return f"{name[1].strip() if name else 'unknown processor'}, {widest_instructions(text)}"


def widest_instructions(cpuinfo: str) -> str:
    flags = re.search(r"^flags\s*:\s*(.*)$", cpuinfo, re.M)
    words = set(flags[1].split()) if flags else set()
    for word, name in (("amx_bf16", "amx"), ("avx512_bf16", "avx512_bf16"), ("avx512f", "avx512"), ("avx2", "avx2")):
        if word in words:
            return name
    return "no AVX2"


def precision_of_auto() -> str:
    """What the engine's `auto` comes to here: bf16 where the processor multiplies it."""
    text = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
    return "bf16" if widest_instructions(text) in ("amx", "avx512_bf16") else "fp32"
