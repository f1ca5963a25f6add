"""Which functions and classes of ``__main__`` workers find by their name."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast


def found_in_main(thing: Any) -> Any:
    """Return what the name of a function or class leads to in this process."""
    found: Any = sys.modules.get("__main__")
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


class MainAtFork:
    """Knows what ``__main__`` had when the workers became copies of it, which is now."""

    def __init__(self) -> None:
        self._known = {
            name: weakref.ref(value)
            for name, value in vars(sys.modules["__main__"]).copy().items()
            if isinstance(value, types.FunctionType | type)
        }

    def __call__(self, thing: Any) -> bool:
        name = thing.__qualname__.partition(".")[0]
        then = self._known.get(name)
        now = getattr(sys.modules["__main__"], name, None)
        return then is not None and then() is now and found_in_main(thing) is thing


class MainInFile:
    """Knows what workers get that import the program's file anew: no notebook has one.

    Not what stands below ``if __name__ == "__main__"``, what was typed into a prompt, or what the
    program made in another way than by a statement of the file.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[range]] | None = None  # of each definition; read when asked

    def __call__(self, thing: Any) -> bool:
        if found_in_main(thing) is not thing:
            return False
        name: str = thing.__qualname__.partition(".")[0]
        if self._lines is None:
            self._lines = _definitions(getattr(sys.modules["__main__"], "__file__", None))
        lines = self._lines.get(name, [])
        code = getattr(thing, "__code__", None)
        if code is None:
            return bool(lines)
        return any(code.co_firstlineno in part for part in lines)


def _definitions(file: str | None) -> dict[str, list[range]]:
    """Names that a file binds when it is imported, with the lines of the statements."""
    import ast

    lines: dict[str, list[range]] = {}
    if file is None:
        return lines
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return lines
    _collect(tree.body, lines)
    return lines


def _collect(body: Iterable[ast.AST], lines: dict[str, list[range]]) -> None:
    import ast

    definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in body:
        if isinstance(node, definition):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            part = range(first, (node.end_lineno or first) + 1)
            lines.setdefault(node.name, []).append(part)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    part = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                    lines.setdefault(target.id, []).append(part)
        elif isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            _collect(node.orelse, lines)
        elif isinstance(node, ast.stmt | ast.excepthandler):
            _collect(ast.iter_child_nodes(node), lines)
