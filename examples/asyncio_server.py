"""A server whose event loop never waits for its work: a pool describes photographs for it.

    python examples/asyncio_server.py

Clients connect, send the names of photographs that scikit-image brings along, and get how much of
each is edges. Meanwhile a task of the same loop notes how late it comes: that is how long the work
held up the server.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from fastpool import Pool

PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "moon"]
CLIENTS = 8
TICK = 0.002


def edges(path: Path) -> float:
    """The part of a photograph where brightness changes by more than a tenth within two pixels."""
    grey = np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255
    down, right = np.gradient(grey)
    return float((np.hypot(down, right) > 0.05).mean())


class Server:
    """Answers each line, the name of a photograph, with a line."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            path = PHOTOS / f"{line.decode().strip()}.png"
            try:
                answer = f"{await self._pool.apply_async(edges, (path,)):.1%}"
            except OSError as error:
                answer = f"error: {error.strerror}"
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        writer.close()


async def ask(port: int, names: list[str]) -> dict[str, str]:
    """A client: the answers to some names."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = {}
    for name in names:
        writer.write(f"{name}\n".encode())
        answers[name] = (await reader.readline()).decode().strip()
    writer.write_eof()
    await reader.read()  # until the server has hung up
    writer.close()
    return answers


async def measure_pauses(pauses: list[float]) -> None:
    """Note by how much each short sleep is too long."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        pauses.append(time.perf_counter() - before - TICK)


async def main(pool: Pool) -> None:
    server = await asyncio.start_server(Server(pool).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pauses: list[float] = []
    pulse = asyncio.create_task(measure_pauses(pauses))
    began = time.perf_counter()
    found = await asyncio.gather(*[ask(port, NAMES) for _ in range(CLIENTS)])
    seconds = time.perf_counter() - began
    missing = await ask(port, ["no-such-photograph"])
    pulse.cancel()
    server.close()
    assert all(answers == found[0] for answers in found)
    for name, answer in {**found[0], **missing}.items():
        print(f"{name:20} {answer}")
    print(
        f"\n{CLIENTS * len(NAMES)} photographs for {CLIENTS} clients in {seconds:.2f} s; the loop "
        f"was late by {sorted(pauses)[len(pauses) // 2] * 1e3:.1f} ms, at most "
        f"{max(pauses) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    with Pool() as workers:
        asyncio.run(main(workers))
