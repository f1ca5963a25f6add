"""Twenty seconds of the kill fuzz; `make kill` runs it for longer."""

from __future__ import annotations

import random
from typing import Any

import pytest

SECONDS = 20

PROGRAM = """
    import sys
    from failure import kill_fuzz

    if __name__ == "__main__":
        sys.exit(kill_fuzz.main(sys.argv[1:]))
"""


@pytest.mark.fastpool_only
@pytest.mark.timeout_s(180)
def test_every_task_is_accounted_for_while_processes_are_killed_at_random(
    impl: Any, run_script: Any
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    script = run_script(PROGRAM, arguments=["--seconds", str(SECONDS), "--seed", str(seed)])
    code = script.wait(150)
    print(script.stdout)
    assert code == 0, f"seed {seed}\n{script.report()}"
    script.wait_gone(5.0)
