"""A map that is interrupted while results stream in: at once, and the rest is not run."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.fastpool_only


def test_ctrl_c_is_seen_while_results_stream_in_and_the_rest_is_dropped(run_script: Any) -> None:
    script = run_script(
        """
        import os
        import signal
        import threading
        import time

        from fastpool import Pool

        def identity(x):
            return x

        if __name__ == "__main__":
            with Pool(2) as pool:
                items = list(range(20_000_000))
                pool.map(identity, items[:100])
                start = time.monotonic()
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                try:
                    pool.map(identity, items, chunksize=1)
                except KeyboardInterrupt:
                    print("interrupted", time.monotonic() - start < 1.5)
                start = time.monotonic()
                print(pool.map(identity, [1, 2]), time.monotonic() - start < 1.5)
        """
    )
    assert script.finish() == "interrupted True\n[1, 2] True\n"
