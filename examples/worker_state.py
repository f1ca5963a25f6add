"""Each worker opens a database once, counts what it misses, and closes it at its end.

python examples/worker_state.py
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import fastpool
from fastpool import Pool, WorkerContext

WORDS = {"one": 1, "two": 2, "three": 3, "four": 4}


class OpenIn:
    """Called in each worker with the worker itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, worker: WorkerContext) -> None:
        worker.state.db = sqlite3.connect(self.path)
        worker.state.misses = 0


def look_up(word: str) -> int | None:
    state = fastpool.current_worker().state
    row = state.db.execute("SELECT value FROM words WHERE word = ?", (word,)).fetchone()
    if row is None:
        state.misses += 1
        return None
    value: int = row[0]
    return value


def close(worker: WorkerContext) -> int:
    worker.state.db.close()
    misses: int = worker.state.misses
    return misses


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "words.db")
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE words (word TEXT PRIMARY KEY, value INTEGER)")
        db.executemany("INSERT INTO words VALUES (?, ?)", WORDS.items())
        db.commit()
        db.close()
        pool = Pool(2, worker_init=OpenIn(path), worker_exit=close)
        values = pool.map(look_up, [*WORDS, "five", "six"] * 1000)
        pool.close()
        pool.join()  # worker_exit has been called in each worker
    print(f"{len(values)} looked up, {sum(pool.exit_results())} of them missing")


if __name__ == "__main__":
    main()
