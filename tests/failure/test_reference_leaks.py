"""Nothing is left of a call; `make refleaks` looks closer, and at more."""

from __future__ import annotations

import sys
from typing import Any

import pytest

PROGRAM = """
    import sys
    from soak import ref_leaks

    if __name__ == "__main__":
        sys.exit(ref_leaks.main(sys.argv[1:]))
"""

FEATURES = ["apply", "map", "imap", "errors", "unpicklable", "callbacks", "pools", "executors"]


@pytest.mark.fastpool_only
@pytest.mark.timeout_s(60)
@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="it counts no blocks")
def test_repeated_calls_leave_nothing_in_the_parent_nor_in_a_worker(
    impl: Any, run_script: Any
) -> None:
    script = run_script(PROGRAM, arguments=["--repetitions", "10", "--only", *FEATURES])
    code = script.wait(50)
    assert code == 0, script.report()
