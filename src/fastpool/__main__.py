"""``python -m fastpool``: the front door of what can be run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

HELP = """\
usage: python -m fastpool COMMAND ...

commands:
  bench   measure what this machine's process pools cost; bench --help tells more
"""


def main(arguments: Sequence[str]) -> int:
    """Hand the rest of the command line to the command that it begins with."""
    if arguments[:1] == ["bench"]:
        from fastpool.bench.cli import main as bench

        return bench(arguments[1:])
    known = not arguments or arguments[0] in ("-h", "--help")
    print(HELP, end="", file=sys.stdout if known else sys.stderr)
    return 0 if known else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
