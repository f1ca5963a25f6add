"""Which functions of the standard library are the longest?  An executor of concurrent.futures asks.

    python examples/longest_functions.py [FOLDER...]

Only the import says fastpool; the rest is written as for the standard library's executor. A file
whose worker dies, killed by the system for its memory, say, is reported, and the others go on.
"""

from __future__ import annotations

import ast
import sys
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from heapq import nlargest
from pathlib import Path

from fastpool import ProcessPoolExecutor

LIBRARY = Path(ast.__file__).parent
FOLDERS = [LIBRARY / name for name in ("asyncio", "concurrent", "email", "json", "multiprocessing")]
SHOWN = 5


def functions_of(path: Path) -> list[tuple[int, str]]:
    """Length and name of each function in a file."""
    tree = ast.parse(path.read_bytes())
    return [
        (node.end_lineno - node.lineno + 1, f"{path.name}: {node.name}()")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    ]


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]] or FOLDERS
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    found: list[tuple[int, str]] = []
    with ProcessPoolExecutor() as executor:
        futures = {executor.submit(functions_of, path): path for path in paths}
        for future in as_completed(futures):
            try:
                found += future.result()
            except (SyntaxError, BrokenProcessPool) as error:
                print(f"{futures[future]}: {error}", file=sys.stderr)
    print(f"{len(found)} functions in {len(paths)} files; the longest:")
    for length, name in nlargest(SHOWN, found):
        print(f"{length:5} lines  {name}")


if __name__ == "__main__":
    main()
