"""What happens to pools when something goes wrong: each event on each pool, and the verdict.

    python benchmarks/fault_matrix.py                                # some minutes
    python benchmarks/fault_matrix.py --cases busy-killed ctrl-c     # only these; --list has all
    python benchmarks/fault_matrix.py --pools fastpool loky          # only these
    python benchmarks/fault_matrix.py --write docs/failure-modes.md  # renew the table there
    python benchmarks/fault_matrix.py --json > today.json

Each case runs in a program of its own, in a session of its own; who gives no answer within the
deadline hangs, and is killed with all that belongs to it. Pools that are not installed are left
out: ``pip install -e '.[bench]'`` installs them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from faults import document, referee
from faults.cases import CASES
from faults.columns import CONTENDERS
from faults.verdicts import Outcome


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", default=list(CASES))
    parser.add_argument(
        "--pools", nargs="+", choices=CONTENDERS, metavar="POOL", default=list(CONTENDERS)
    )
    parser.add_argument("--deadline", type=float, default=referee.DEADLINE, metavar="SECONDS")
    parser.add_argument("--list", action="store_true", help="the names of all cases and pools")
    parser.add_argument("--json", action="store_true", help="the verdicts, for a comparison")
    parser.add_argument(
        "--verbose", action="store_true", help="the steps of each program, and what it printed"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="renew the cells of what was run in this file"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.list:
        print("\n".join([f"{case.name:24} {case.text}" for case in CASES.values()]))
        print("\n" + "\n".join(CONTENDERS))
        return
    outcomes: dict[tuple[str, str], Outcome] = {}
    out = sys.stderr if arguments.json else sys.stdout
    for name in arguments.cases:
        print(f"{name}: {CASES[name].text}", file=out)
        for pool in arguments.pools:
            outcome = referee.judge(CASES[name], CONTENDERS[pool], arguments.deadline)
            outcomes[name, pool] = outcome
            print(f"    {pool:22} {outcome}", file=out, flush=True)
            if arguments.verbose:
                print(outcome.protocol, file=out)
    if arguments.json:
        table: dict[str, dict[str, object]] = {case: {} for case, _ in outcomes}
        for (case, pool), outcome in outcomes.items():
            table[case][pool] = outcome.as_json()
        print(json.dumps({"setting": document.setting(), "verdicts": table}, indent=1))
    if arguments.write:
        document.renew(arguments.write, outcomes, arguments.deadline)


if __name__ == "__main__":
    main()
