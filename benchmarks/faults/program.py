"""One case on one pool, as a program of its own.

    python -m faults.program CASE CONTENDER REPORT

The referee starts it, and reads the report. The current directory is the case's own.
"""

from __future__ import annotations

import os
import resource
import sys

if os.environ.get("FAULTS_BREAK_MAIN") and __name__ == "__mp_main__":
    raise ImportError("the main module can't be imported in a worker")

from fastpool.bench.contender import NotOffered
from faults import cases
from faults.columns import CONTENDERS
from faults.trial import Trial
from faults.verdicts import Verdict


def main() -> None:
    case_name, contender_name, path = sys.argv[1:]
    os.environ["FAULTS_PROGRAM"] = str(os.getpid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    trial = Trial(CONTENDERS[contender_name], path)
    try:
        cases.CASES[case_name].scenario(trial)
    except NotOffered:
        _leave_it(trial, Verdict.NOT_OFFERED)
    trial.write(done=True)


def _leave_it(trial: Trial, verdict: Verdict) -> None:
    """Nothing to be seen here: what the pool does at its end is another case."""
    trial.find(verdict)
    trial.write(done=True)
    os._exit(0)


if __name__ == "__main__":
    main()
