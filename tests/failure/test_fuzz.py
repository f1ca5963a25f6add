"""Some seconds of each fuzz; `make kill` and `make interrupts` go on for minutes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from failure.interrupt_fuzz import LOSES_LOCKS
from helpers.build import FREE_THREADED

pytestmark = pytest.mark.fastpool_only

PROGRAM = """
    import sys
    from failure import {module} as fuzz

    if __name__ == "__main__":
        sys.exit(fuzz.main(sys.argv[1:]))
"""


def fuzz(run_script: Any, module: str, *arguments: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    program = PROGRAM.format(module=module)
    script = run_script(program, arguments=["--seed", str(seed), *arguments])
    code = script.wait(150)
    print(script.stdout)
    assert code == 0, f"seed {seed}\n{script.report()}"
    script.wait_gone(5.0)


@pytest.mark.timeout_s(180)
def test_every_task_is_accounted_for_while_processes_are_killed_at_random(run_script: Any) -> None:
    fuzz(run_script, "kill_fuzz", "--seconds", "20")


@pytest.mark.skipif(
    LOSES_LOCKS and FREE_THREADED,
    reason="a signal may come between the taking of a lock and the block that gives it back",
)
@pytest.mark.timeout_s(180)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_wherever_a_signal_handler_raises_the_pool_goes_on_and_nothing_stays(
    run_script: Any, method: str
) -> None:
    fuzz(run_script, "interrupt_fuzz", "--seconds", "3", "--start-method", method)
