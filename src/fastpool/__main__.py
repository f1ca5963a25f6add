"""``python -m fastpool``: the front door of what can be run."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastpool import _fallback
from fastpool._unchanged import report, runner

if TYPE_CHECKING or _fallback.REASON is None:
    from fastpool._unchanged import stand_in
else:
    from fastpool._standard import stand_in

HELP = """\
usage: python -m fastpool [OPTION ...] SCRIPT [ARGUMENT ...]
       python -m fastpool [OPTION ...] -m MODULE [ARGUMENT ...]
       python -m fastpool bench ...

The first two run an unchanged program whose multiprocessing.Pool is fastpool's. SCRIPT may also be
a directory or zip file with a __main__.py, - for standard input, or -c TEXT.

options:
  --executor  concurrent.futures.ProcessPoolExecutor is fastpool's too
  --report    at the end, say on standard error what each pool has done

commands:
  bench       measure what this machine's process pools cost; bench --help tells more
              (a script of that name is ./bench)
"""

OPTIONS = ("--executor", "--report")


def main(arguments: Sequence[str]) -> int:
    """Hand the rest of the command line to the command or program that it begins with."""
    if arguments[:1] == ["bench"]:
        if _fallback.REASON is not None:
            print(f"fastpool: nothing to measure: {_fallback.REASON}", file=sys.stderr)
            return 1
        from fastpool.bench.cli import main as bench

        return bench(arguments[1:])
    rest = list(itertools.dropwhile(OPTIONS.__contains__, arguments))
    options = arguments[: len(arguments) - len(rest)]
    if rest[:1] in (["-h"], ["--help"]) or not arguments:
        print(HELP, end="")
        return 0
    if not rest or rest in (["-m"], ["-c"]):
        return _refuse(f"{arguments[-1]} of what?")
    if rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        return _refuse(f"no such option: {rest[0]}")
    stand_in.install(executor="--executor" in options)
    if "--report" in options and _fallback.REASON is None:
        report.report_at_exit()
    if rest[0] == "-m":
        runner.run_module(rest[1], rest[2:])
    elif rest[0] == "-c":
        runner.run_text(rest[1], rest[2:])
    elif rest[0] == "-":
        runner.run_input(rest[1:])
    else:
        runner.run_file(rest[0], rest[1:])
    return 0


def _refuse(reason: str) -> int:
    print(f"fastpool: {reason}\n\n{HELP}", end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status:  # python -i would show even a zero
        raise SystemExit(status)
