"""Some seconds of the interrupt fuzz; `make interrupts` runs it for longer."""

from __future__ import annotations

import random
import sys
import sysconfig
from typing import Any

import pytest

SECONDS = 3

PROGRAM = """
    import sys
    from failure import interrupt_fuzz

    if __name__ == "__main__":
        sys.exit(interrupt_fuzz.main(sys.argv[1:]))
"""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 14) and bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="a signal may come between the taking of a lock and the block that gives it back",
)
@pytest.mark.fastpool_only
@pytest.mark.timeout_s(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_wherever_a_signal_handler_raises_the_pool_goes_on_and_nothing_stays(
    run_script: Any, method: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    arguments = ["--seconds", str(SECONDS), "--seed", str(seed), "--start-method", method]
    script = run_script(PROGRAM, arguments=arguments)
    code = script.wait(100)
    print(script.stdout)
    assert code == 0, f"seed {seed}\n{script.report()}"
    script.wait_gone(5.0)
