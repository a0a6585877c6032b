"""Spoilt files of every kind that the library reads: each has to end in success, or in an error that helps.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --kinds GeoJSON slides --n 200 --seed 5 --minutes 2

Of each kind a small valid file or folder is spoilt again and again: bytes, fields, tags, arrays and headers. Each input
must be read, or be refused with one of the library's errors, whose message names the file: anything else is a crash.
It counts as a hang after some seconds, as a blow-up when it asks for more than `--gb` of memory, and as code when a
process is started, a connection opened or something unpickled. The table says how many of each there were.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuzz_kinds import KINDS, Kind
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

OURS = (ValueError, FileNotFoundError, FileExistsError, PermissionError, OSError, ImportError)
"""What the documentation says is raised; of these very types, since their subclasses come from other libraries."""
UNPICKLED = ("os", "posix", "nt", "subprocess", "sys", "shutil", "runpy", "importlib")
"""Modules of which nothing may be unpickled; dask pickles its own tasks."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
"""What no file may bring about, as Python's audit calls it."""
DEADLINE_S = 10.0
OUTCOMES = ("read", "refused", "crash", "hang", "memory", "code")

_watched: list[str] | None = None


class Hang(BaseException):
    """An input took too long."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event in FORBIDDEN or (event == "pickle.find_class" and arguments[0] in UNPICKLED):
        _watched.append(f"{event} {arguments[:2]}")


sys.addaudithook(_audit)


@contextmanager
def limited(gb: float) -> Iterator[list[str]]:
    """Limit time and memory of the block, and list what it does that no file may bring about."""
    global _watched

    def stop(*_: Any) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    resource.setrlimit(resource.RLIMIT_AS, (used + int(gb * 1e9), hard))
    signal.setitimer(signal.ITIMER_PROF, DEADLINE_S)  # of this process: other processes may be busy
    signal.setitimer(signal.ITIMER_REAL, 20 * DEADLINE_S)  # for what waits
    _watched = seen = []
    try:
        yield seen
    finally:
        _watched = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Fuzz:
    """A kind of file, its valid original, and what became of the spoilt ones.

    Parameters
    ----------
    kind
        One of `KINDS`.
    folder
        Empty; what is spoilt is written there.
    gb
        Memory that an input may ask for beyond what is in use.
    """

    def __init__(self, kind: Kind, folder: Path, *, gb: float = 1.0) -> None:
        self.kind, self.folder, self.gb = kind, folder, gb
        self.original = folder / "original"
        self.original.mkdir()
        self.spoils = dict(kind.make(self.original))
        self.contents = {name: (self.original / name).read_bytes() for name in self.spoils}
        self.outcomes: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(self._copy())  # it is valid, and all that is imported and compiled is there

    def inputs(self, n: int, seed_: int) -> Any:
        """Return a test of hypothesis over `n` spoilt inputs."""

        @seed(seed_)
        @settings(
            max_examples=n,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def run(data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(sorted(self.spoils)))
            self.try_one(name, self.spoils[name](data.draw, self.contents[name]))

        return run

    def try_one(self, name: str, content: bytes) -> str:
        """Read the folder with one file spoilt, and return what became of it."""
        folder = self._copy(name.partition("/")[0] if self.kind.alone else "")
        (folder / name).write_bytes(content)
        try:
            self.kind.finish(folder, name)
        except (ValueError, LookupError, TypeError):
            return "skipped"
        outcome, what = self._read(folder)
        self.outcomes[outcome] += 1
        if outcome not in ("read", "refused"):
            where, _, words = what.partition(": ")
            self.faults.setdefault(f"{outcome}: {name}: {where}", f"{words} {content[:300]!r}")
        return outcome

    def _read(self, folder: Path) -> tuple[str, str]:
        named = {path.name for path in folder.rglob("*")} | {folder.name}
        try:
            with warnings.catch_warnings(), limited(self.gb) as seen:
                warnings.simplefilter("ignore")
                self.kind.read(folder)
        except Hang as error:
            return "hang", _where(error)
        except MemoryError as error:
            return "memory", _where(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is counted
            helps = (
                isinstance(error, OURS) and type(error).__module__ == "builtins" and not isinstance(error, UnicodeError)
            )
            if not (helps and any(name in str(error) for name in named)):
                return "crash", _where(error)
            outcome = "refused"
        else:
            outcome = "read"
        return ("code", str(seen)) if seen else (outcome, "")

    def _copy(self, part: str = "") -> Path:
        """Return a fresh copy of the original, or of a part of it, under a name that no message has by chance."""
        target = self.folder / "spoilt-7f3a"
        shutil.rmtree(target, ignore_errors=True)
        if (self.original / part).is_dir():
            shutil.copytree(self.original / part, target / part)
        else:
            target.mkdir()
            shutil.copy(self.original / part, target / part)
        return target


def _where(error: BaseException) -> str:
    """Say what was raised, and by which line of the library and of others."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "stdistill" in frame.filename and "benchmarks" not in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in (*ours[-2:], frames[-1])]
    return f"{type(error).__name__} at {' > '.join(dict.fromkeys(places))}: {' '.join(str(error).split())[:150]}"


def main() -> None:
    """Spoil files of all kinds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--n", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no more inputs are tried")
    parser.add_argument("--gb", type=float, default=1.0, help="memory that an input may ask for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="show what was spoilt")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    print(f"{'kind':16}{'inputs':>8}" + "".join(f"{outcome:>9}" for outcome in OUTCOMES) + f"{'seconds':>9}")
    n_faults = 0
    for name in asked.kinds:
        with tempfile.TemporaryDirectory() as folder:
            fuzz = Fuzz(KINDS[name], Path(folder), gb=asked.gb)
            start, number = time.monotonic(), asked.seed
            while sum(fuzz.outcomes.values()) < asked.n and time.monotonic() < end:
                fuzz.inputs(min(100, asked.n - sum(fuzz.outcomes.values())), number)()
                number += 1
            counts = [fuzz.outcomes[outcome] for outcome in OUTCOMES]
            print(
                f"{name:16}{sum(counts):8}" + "".join(f"{n:9}" for n in counts) + f"{time.monotonic() - start:9.0f}",
                flush=True,
            )
            n_faults += len(fuzz.faults)
            for fault, words in fuzz.faults.items():
                print(f"    {fault}: {words if asked.verbose else words[:100]}")
    print("no faults" if not n_faults else f"{n_faults} faults")


if __name__ == "__main__":
    main()
