"""A cellular automaton stepped in parallel: a hot loop of many small maps on one pool.

Conway's Life on a board whose edges are dead. A step needs all of the one before, so each is a
map of one block of rows for each worker, which gets its neighbours' rows along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.pools import Variant

TITLE = "Life, step by step"

Board = NDArray[np.uint8]


class Game(NamedTuple):
    """How a game begins, dead rows around it, and how long it lasts."""

    board: Board
    steps: int


def make_input(quick: bool) -> Game:
    """A third of the cells alive."""
    size = 256 if quick else 1024
    board = np.zeros((size + 2, size + 2), np.uint8)
    board[1:-1, 1:-1] = np.random.default_rng(1).random((size, size)) < 0.33
    return Game(board, 40 if quick else 800)


def rule(above: Board, rows: Board, below: Board) -> Board:
    """The next state of `rows`, from three views of one board; runs in a worker."""
    three = above + rows + below
    around = three.copy()
    around[:, 1:] += three[:, :-1]
    around[:, :-1] += three[:, 1:]
    new = ((around == 3) | ((around == 4) & (rows == 1))).astype(np.uint8)
    new[:, 0] = new[:, -1] = 0
    return new


def advance(block: Board) -> Board:
    """One step of a block with a neighbour's row at each end; runs in a worker."""
    return rule(block[:-2], block[1:-1], block[2:])


def play(game: Game, parts: int, step: Callable[[Sequence[Board]], Sequence[Board]]) -> Board:
    """Cut the board, have all parts advanced, put them together; as often as the game lasts."""
    board, height = game.board.copy(), len(game.board) - 2
    edges = [height * part // parts for part in range(parts + 1)]
    pairs = list(pairwise(edges))
    for _ in range(game.steps):
        blocks = [board[start : end + 2] for start, end in pairs]
        board[1:-1] = np.concatenate(list(step(blocks)))
    return board


def run_serial(game: Game, processes: int) -> Board:
    """The whole board in one block."""
    return play(game, 1, lambda blocks: [advance(block) for block in blocks])


def run_multiprocessing(game: Game, processes: int) -> Board:
    """`map` in every step, on one pool."""
    from multiprocessing import Pool

    with Pool(processes) as pool:
        return play(game, processes, lambda blocks: pool.map(advance, blocks))


def run_fastpool(game: Game, processes: int) -> Board:
    """The same but for one import."""
    from fastpool import Pool

    with Pool(processes) as pool:
        return play(game, processes, lambda blocks: pool.map(advance, blocks))


def run_fastpool_blocks(game: Game, processes: int) -> Board:
    """Two shared boards, each the next one's source: no cell is sent."""
    from fastpool import Pool

    with Pool(processes) as pool:
        board, new = pool.copy_to_shared(game.board), pool.copy_to_shared(game.board)
        for _ in range(game.steps):
            pool.map_blocks(rule, board[:-2], board[1:-1], board[2:], out=new[1:-1])
            board, new = new, board
        return board.copy()


def run_futures(game: Game, processes: int) -> Board:
    """`map` of one executor."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(processes) as executor:
        return play(game, processes, lambda blocks: list(executor.map(advance, blocks)))


def run_joblib(game: Game, processes: int) -> Board:
    """`Parallel` as a context manager, which its documentation advises for repeated calls."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=processes) as parallel:
        return play(
            game, processes, lambda blocks: parallel(delayed(advance)(block) for block in blocks)
        )


def run_mpire(game: Game, processes: int) -> Board:
    """`keep_alive`, or mpire starts its workers anew in each step.

    A list of arrays comes back as a list only if that is asked for.
    """
    from mpire import WorkerPool

    with WorkerPool(n_jobs=processes, keep_alive=True) as pool:
        return play(
            game,
            processes,
            lambda blocks: pool.map(advance, blocks, concatenate_numpy_output=False),
        )


def check(result: Board) -> None:
    """Something lives, less than at the start, and nothing on the edge."""
    assert 0 < result.sum() < 0.33 * result.size
    assert not (result[0].any() or result[-1].any() or result[:, 0].any() or result[:, -1].any())


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(np.array_equal(one, other))


VARIANTS: dict[str, Variant] = {
    "serial": run_serial,
    "multiprocessing": run_multiprocessing,
    "fastpool": run_fastpool,
    "fastpool map_blocks": run_fastpool_blocks,
    "concurrent.futures": run_futures,
    "joblib": run_joblib,
    "mpire": run_mpire,
}
