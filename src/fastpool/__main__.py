"""``python -m fastpool``: the front door of what can be run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

HELP = """\
usage: python -m fastpool SCRIPT [ARGUMENT ...]
       python -m fastpool -m MODULE [ARGUMENT ...]
       python -m fastpool bench ...

The first two run an unchanged program whose multiprocessing.Pool is fastpool's. SCRIPT may also be
a directory or zip file with a __main__.py, - for standard input, or -c TEXT.

commands:
  bench   measure what this machine's process pools cost; bench --help tells more
          (a script of that name is ./bench)
"""


def main(arguments: Sequence[str]) -> int:
    """Hand the rest of the command line to the command or program that it begins with."""
    if arguments[:1] == ["bench"]:
        from fastpool.bench.cli import main as bench

        return bench(arguments[1:])
    first, *rest = arguments or ["--help"]
    if first in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if first in ("-m", "-c") and not rest:
        return _refuse(f"{first} of what?")
    if first.startswith("-") and first not in ("-m", "-c", "-"):
        return _refuse(f"no such option: {first}")
    from fastpool import runner
    from fastpool.stand_in import install

    install()
    if first == "-m":
        runner.run_module(rest[0], rest[1:])
    elif first == "-c":
        runner.run_text(rest[0], rest[1:])
    elif first == "-":
        runner.run_input(rest)
    else:
        runner.run_file(first, rest)
    return 0


def _refuse(reason: str) -> int:
    print(f"fastpool: {reason}\n\n{HELP}", end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
