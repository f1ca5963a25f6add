#!/usr/bin/env python3
"""Check the protocol models with spin: each as it is, and with each seeded defect.

Usage: run.py [WORD...]      the configurations whose names contain one of these; all by default
       run.py --trail NAME   the shortest counterexample of the one with this name, step by step
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"

#: A statement of a model: its process, its number there, its line.
State = tuple[str, int, int]

#: What a search may take: megabytes, steps in a row, minutes.
MEMORY = 1900
DEPTH = 100_000
DEADLINE = 10


class Config(NamedTuple):
    """One run of the checker.

    `finds`: what pan must complain of; nothing, for the protocol as it is.
    `big`: so many states that an optimized checker is worth the compiler's time.
    """

    model: str
    defines: str
    finds: str = ""
    big: bool = False

    @property
    def live(self) -> bool:
        return "LIVE" in self.defines.split()

    @property
    def name(self) -> str:
        return " ".join([self.model, *self.defines.split()])


STUCK = "invalid end state"
WRONG = "assertion violated"

#: The protocol as it is.  LIVE: that it ends, under weak fairness; without: assertions, and that no
#: process is stuck.
SOUND = [
    Config("claim", "DEATHS=1 TASKS=4", big=True),
    Config("claim", "DEATHS=2 TASKS=3", big=True),
    Config("claim", "DEATHS=1 TASKS=2 WORKERS=3", big=True),
    Config("claim", "DEATHS=1 TASKS=2 LIVE"),
    Config("publish", "DEATHS=2"),
    Config("publish", "DEATHS=2 DEAF"),
    Config("publish", "DEATHS=2 NO_READER"),
    Config("publish", "DEATHS=1 SIZE=4 TASKS=6"),
    Config("publish", "DEATHS=1 SIZE=4 TASKS=6 DEAF"),
    Config("publish", "DEATHS=1 LIVE"),
    Config("park", "DEATHS=1 PER=2", big=True),
    Config("park", "DEATHS=1 PER=1 WORKERS=1 WAITERS=2", big=True),
    Config("park", "DEATHS=1 PER=3 WORKERS=1 RING=1 YIELDS"),
    Config("park", "DEATHS=2 PER=1 WORKERS=1 LATE"),
    Config("park", "DEATHS=0 PER=2 LIMIT=1", big=True),
    Config("park", "DEATHS=1 PER=2 WORKERS=1 LIMIT=1"),
    Config("park", "DEATHS=1 PER=2 ASYNC CALLBACK", big=True),
    Config("park", "DEATHS=1 PER=3 WORKERS=1 ASYNC CALLBACK RING=1 YIELDS"),
    Config("park", "DEATHS=2 PER=2 WORKERS=1 ASYNC RING=1 LATE"),
    Config("park", "DEATHS=0 PER=2 ASYNC CALLBACK TSO"),
    Config("park", "DEATHS=1 PER=2 WORKERS=1 TSO"),
    Config("park", "DEATHS=1 PER=1 WORKERS=1 NEW_SLOT"),
    Config("park", "DEATHS=1 PER=1 WORKERS=1 ASYNC MEMORY"),
    Config("park", "DEATHS=1 PER=2 WORKERS=1 RING=1 LIVE"),
    Config("park", "DEATHS=1 PER=2 WORKERS=1 ASYNC CALLBACK LIVE"),
]

#: Each of these must be found: a model that can't fail proves nothing.
SEEDED = [
    Config("claim", "DEFECT_PLAIN_STORE", WRONG),  # the record isn't "forward only"
    Config("claim", "DEFECT_NO_RECORD", WRONG),  # no C3 at all
    Config("claim", "DEFECT_RECORD_LATE", WRONG),  # C3 after C2
    Config("claim", "DEFECT_NAME_LATE", WRONG),  # C2 takes, a second store names
    Config("claim", "DEFECT_ORDER", WRONG),  # claimed before it is copied
    Config("claim", "DEFECT_PUBLISH_FIRST", WRONG),  # P1 before the slot is written
    Config("claim", "DEFECT_NO_OVERWRITE_RULE", WRONG),  # the ledger doesn't ask before a lap
    Config("claim", "DEFECT_SETTLE_FIRST", WRONG),  # settled before the last results are read
    Config("claim", "DEFECT_RESTART_FIRST", WRONG),  # the slot's next worker before the settling
    Config("publish", "DEFECT_PUBLISH_FIRST", WRONG),  # P1 before the record is written
    Config("publish", "DEFECT_FREE_FIRST", WRONG),  # C2 before the record is copied
    Config("publish", "DEFECT_SETTLE_FIRST", WRONG),
    Config("publish", "DEFECT_RESET_FIRST", WRONG),  # the ring begins anew before it is read
    Config("publish", "DEFECT_NO_RECHECK DEAF", STUCK),  # no look at head after want_room
    Config("publish", "DEFECT_CROWDED DEAF", STUCK),  # the bound of "crowded", one higher
    Config("publish", "DEFECT_CROWDED DEAF SIZE=4 TASKS=6 DEATHS=0", STUCK),
    Config("publish", "DEFECT_NO_BELL NO_READER", STUCK),  # a full ring doesn't ring
    Config("park", "DEFECT_NO_RECHECK DEATHS=0 ASYNC CALLBACK", STUCK),  # ... at tail after the bit
    Config("park", "DEFECT_WAITER_NO_LOOK DEATHS=0 PER=1 WORKERS=1", STUCK),  # ... after asking
    Config("park", "DEFECT_BELL_LATE DEATHS=0 WORKERS=1", STUCK),  # `bell` read after the looks
    # `bell` read when the GIL has been let go of, after `top` and `done_tasks`
    Config("park", "DEFECT_BELL_UNLOCKED DEATHS=1 PER=1 WORKERS=1 NEW_SLOT", STUCK),
    Config("park", "DEFECT_BELL_UNLOCKED DEATHS=1 PER=1 WORKERS=1 ASYNC MEMORY", STUCK),
    Config("park", "DEFECT_WAKE_FIRST DEATHS=0 WORKERS=1", STUCK),  # answered, then taken off
    Config("park", "DEFECT_NO_FORGET WORKERS=1", STUCK),  # a death wakes no thread of the parent
    Config("park", "DEFECT_KEEP_BIT ASYNC CALLBACK PER=1 NEW_SLOT", STUCK),  # nor clears its bit
    Config("park", "DEFECT_NO_REASK DEATHS=0 ASYNC CALLBACK", STUCK),  # RESULTS is asked only once
    Config("park", "DEFECT_NO_GLANCE DEATHS=0 ASYNC CALLBACK", STUCK),  # no look after asking
    Config("park", "DEFECT_LOW_NO_LOOK DEATHS=0 ASYNC RING=1", STUCK),  # nor after asking for LOW
    Config("park", "DEFECT_NO_WAKE_ALL DEATHS=0 PER=1 WORKERS=1", STUCK),  # DRAIN wakes nobody
    Config("park", "DEFECT_NO_FENCE TSO DEATHS=0 ASYNC CALLBACK", STUCK),  # S1: tail isn't seq_cst
    Config("park", "DEFECT_NO_FENCE_RESULT TSO DEATHS=0 PER=1 WORKERS=1", STUCK),  # S2: nor here
]


class Outcome(NamedTuple):
    """What came of a run."""

    config: Config
    states: int = 0
    seconds: float = 0.0  # of CPU time, without the compiler's
    found: str = ""
    trouble: str = ""  # why it counts for nothing
    present: frozenset[State] = frozenset()
    missed: frozenset[State] = frozenset()  # never reached


def folder(config: Config) -> Path:
    return BUILD / re.sub(r"[^\w=.-]+", "-", config.name)


def make_checker(config: Config, shortest: bool) -> tuple[Path, str]:
    """Compile the checker of one configuration; returns its folder and what went wrong."""
    at = folder(config)
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    shutil.copy(HERE / f"{config.model}.pml", at)
    defines = [f"-D{word}" for word in config.defines.split()]
    spin = ["spin", "-a", *defines, f"{config.model}.pml"]
    done = subprocess.run(spin, cwd=at, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if not line.startswith("ltl ")]
    if done.returncode or said:
        return at, "spin: " + " ".join(said)
    level = "-O2" if config.big else "-O0"
    kind = ["-DNFAIR=3"] if config.live else ["-DSAFETY"]
    if shortest:
        kind.append("-DBFS")
    gcc = ["gcc", level, "-w", f"-DMEMLIM={MEMORY}", *kind, "pan.c", "-opan"]
    done = subprocess.run(gcc, cwd=at, capture_output=True, text=True)
    return at, done.stderr.strip()


def statements(pattern: str, text: str) -> frozenset[State]:
    """Those that a report of the checker names: `pattern` has groups for number and line."""
    process = ""
    named = set()
    for line in text.splitlines():
        if head := re.match(r"(?:unreached in )?(?:proctype |claim )?(\w+)$", line):
            process = head[1]
        elif at := re.search(pattern, line):
            named.add((process, int(at[1]), int(at[2])))
    return frozenset(named)


def search(command: list[str], at: Path) -> tuple[int, str, float]:
    """Run a checker: its exit status, what it said, and its CPU time in seconds."""
    report = at / "pan.out"
    with report.open("w") as out:
        process = subprocess.Popen(command, cwd=at, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, report.read_text(), usage.ru_utime + usage.ru_stime


def check(config: Config) -> Outcome:
    # To search breadth first is a detour where it takes a lap of the ring.
    at, trouble = make_checker(config, bool(config.finds) and config.model != "claim")
    if trouble:
        return Outcome(config, trouble=trouble)
    mode = ["-a", "-f"] if config.live else []
    code, said, seconds = search(["./pan", f"-m{DEPTH}", f"-Q{DEADLINE}", "-w20", *mode], at)
    states = re.search(r"(\d[\d.e+]*) states, stored", said)
    errors = re.search(r"errors: (\d+)", said)
    if states is None or errors is None or code:
        return Outcome(config, trouble="the checker failed")
    complaint = re.search(r"pan:1: (.*?)(?: \(at depth \d+\))?$", said, re.MULTILINE)
    found = complaint[1] if complaint else ""
    if re.search("max search depth too small|out of memory|time limit", said):
        trouble = "the search was cut short"
    elif bool(found) != (errors[1] != "0"):
        trouble = "errors that are not understood"
    elif not found and "Search not completed" in said:
        trouble = "the search was not completed"
    outcome = Outcome(config, int(float(states[1])), seconds, found, trouble)
    if found or config.live:
        return outcome
    table = subprocess.run(["./pan", "-d"], cwd=at, capture_output=True, text=True).stdout
    return outcome._replace(
        present=statements(r"state +(\d+) -.*\.pml:(\d+) =>", table),
        missed=statements(r"\.pml:(?=\d+, state (\d+),)(\d+)", said),
    )


def verdict(outcome: Outcome) -> tuple[bool, str]:
    config, found = outcome.config, outcome.found
    if outcome.trouble:
        return False, outcome.trouble
    if not config.finds:
        return not found, found or "holds"
    if not found.startswith(config.finds):
        return False, f"NOT FOUND{f', but {found}' if found else ''}"
    return True, f"found: {config.finds}"


def never_reached(outcomes: list[Outcome]) -> list[str]:
    """Lines of a model that no configuration has got to."""
    unknown: set[tuple[str, str, int]] = set()
    reached: set[tuple[str, str, int]] = set()
    for outcome in outcomes:
        model = outcome.config.model
        unknown |= {(model, process, line) for process, _, line in outcome.present}
        reached |= {(model, process, line) for process, _, line in outcome.present - outcome.missed}
    never = []
    for model, process, line in sorted(unknown - reached):
        text = (HERE / f"{model}.pml").read_text().splitlines()[line - 1].strip()
        if "assert(false)" not in text:
            never.append(f"{model}.pml:{line}, {process}: {text}")
    return never


def trail(config: Config) -> int:
    """Show the shortest counterexample."""
    at, trouble = make_checker(config, True)
    if trouble:
        print(trouble)
        return 1
    subprocess.run(["./pan"], cwd=at, stdout=subprocess.DEVNULL, check=False)
    defines = [f"-D{word}" for word in config.defines.split()]
    command = ["spin", "-t", "-p", "-g", *defines, f"{config.model}.pml"]
    return subprocess.run(command, cwd=at, check=False).returncode


def main(args: list[str]) -> int:
    configs = SOUND + SEEDED
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            print(f"{tool} is missing (Debian: apt-get install {tool})")
            return 1
    if args[:1] == ["--trail"]:
        return trail(next(c for c in configs if c.name == " ".join(args[1:])))
    chosen = [c for c in configs if not args or any(word in c.name for word in args)]
    width = max(len(c.name) for c in chosen)
    start = time.monotonic()
    outcomes = []
    wrong = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(check, chosen):
            outcomes.append(outcome)
            right, said = verdict(outcome)
            wrong += not right
            run = f"{outcome.states:>9,} states {outcome.seconds:5.1f} s"
            print(f"{outcome.config.name:{width}} {run}  {said}", flush=True)
    if not args:
        for line in never_reached(outcomes):
            wrong += 1
            print(f"no configuration gets to {line}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{len(chosen)} configurations, {wrong} wrong; {time.monotonic() - start:.0f} s, "
        f"{used.ru_utime + used.ru_stime:.0f} s of CPU time, up to {used.ru_maxrss >> 10} MB each"
    )
    if wrong:
        print(f"what each checker said: {BUILD}/*/pan.out")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
