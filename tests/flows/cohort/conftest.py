from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = '''
"""Slides that take no time, worked on by processes of their own; some of them kill who works on them."""
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
import pandas as pd
from stdistill._flows.cohort import slide, work, workers
from stdistill._flows.cohort.slide import Unit
from stdistill._flows.cohort.work import work_through
from stdistill._flows.cohort.workers import share
from stdistill._flows.predict import Asked
from stdistill._runs.cohort import CohortFolder

def predict(model, data, out, asked, *, copy=None):
    out.mkdir(parents=True, exist_ok=True)
    text = data.read_text()
    with (out / "tries").open("a") as file:
        file.write(f"{os.getpid()} ")
    if text == "deadly" or (text == "deadly once" and (out / "tries").read_text().count(" ") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "broken":
        raise ValueError("It is broken.")
    time.sleep(0.05)
    (out / "niches.txt").write_text(text)
    niches = SimpleNamespace(n_obs=2, obs=pd.DataFrame({"student_niche": ["a", None]}))
    return niches, SimpleNamespace(verdict="usable")

slide.predict = predict
work.load_student = lambda folder: None
work.LOOK_AGAIN_S = 0.05
slide.MAX_TRIES = workers.MAX_TRIES = 2  # a process takes long to start

def say(text):
    print(text, flush=True)

def main(folder, n_workers):
    cohort = CohortFolder.open(folder)
    unit, ids = Unit(cohort, Asked(Path("student"))), list(cohort.slides.index)
    if n_workers == "1":
        work_through(unit, ids, say)
    else:
        share(unit, ids, say, n_workers=int(n_workers))

if __name__ == "__main__":
    main(*sys.argv[1:])
'''

Start = Callable[[Path, int], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a process that works through the slides of a cohort, which are texts, with so many workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(folder: Path, n_workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(folder), str(n_workers)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start
