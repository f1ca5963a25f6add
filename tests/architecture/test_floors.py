"""Every file imports downwards only, without cycles, and nothing imports the package root."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = "fastpool"
PYTHON = (".py", ".pyi", ".pyx", ".pxd", ".pxi")

Edges = dict[str, set[str]]

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_FROM = re.compile(r"^\s*from\s+([.\w]+)\s+c?import\s+\(?([^\n#()]*)", re.MULTILINE)
_IMPORT = re.compile(r"^\s*c?import\s+([^\n#(]+)", re.MULTILINE)


def c_edges(csrc: Path) -> Edges:
    """What each file below csrc includes of the others."""
    edges: Edges = {}
    for path in sorted(csrc.rglob("*.[ch]")):
        found = set()
        for name in _INCLUDE.findall(path.read_text()):
            for base in (path.parent, csrc):
                if (base / name).is_file():
                    found.add((base / name).resolve().relative_to(csrc).as_posix())
                    break
        edges[path.relative_to(csrc).as_posix()] = found
    return edges


def _cython_imports(text: str) -> Iterator[tuple[str, list[str]]]:
    text = text.replace("\\\n", " ")
    for module, names in _FROM.findall(text):
        yield module, [name.split()[0] for name in names.split(",") if name.strip()]
    for names in _IMPORT.findall(text):
        for name in names.split(","):
            if name.strip():
                yield name.split()[0], []


def _python_imports(text: str) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [name.name for name in node.names]
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, []


def _module(path: Path, package: Path) -> str:
    """fastpool/_core/_codec.pyx and its .pxd and .pyi are one module, fastpool._core._codec."""
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.suffix in PYTHON)


def python_edges(package: Path) -> Edges:
    """What each module of the package imports of the others; relative to it, as a path."""
    owner = {_module(path, package): path for path in reversed(_files(package))}
    edges: Edges = {name: set() for name in owner}
    for path in _files(package):
        here = _module(path, package)
        inside = here if path.stem == "__init__" else here.rpartition(".")[0]
        text = path.read_text()
        read = _cython_imports if path.suffix in (".pyx", ".pxd", ".pxi") else _python_imports
        for module, names in read(text):
            dots = len(module) - len(module.lstrip("."))
            if dots:
                base = inside.split(".")[: len(inside.split(".")) - dots + 1]
                module = ".".join([*base, *filter(None, [module.lstrip(".")])])
            if module.split(".")[0] != package.name:
                continue
            targets = {
                f"{module}.{name}" if f"{module}.{name}" in owner else module for name in names
            } or {module}
            edges[here] |= targets - {here}
    return edges


def floors_of(names: list[str], patterns: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Each name's floor; a complaint for each without one floor, and for patterns of no file."""
    floors = {}
    wrong = [
        f"{pattern}: matches no file"
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    for name in names:
        found = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        if len(found) == 1:
            floors[name] = patterns[found[0]]
        else:
            wrong.append(f"{name}: matches {found or 'no pattern'} in floors.toml")
    return floors, wrong


def cycles(edges: Edges) -> list[str]:
    """One line for each import that closes a circle."""
    done: set[str] = set()
    found = []

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append("cycle: " + " -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in sorted(edges.get(name, ())):
                walk(target, [*trail, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return found


def check_c(csrc: Path, patterns: dict[str, int]) -> list[str]:
    edges = c_edges(csrc)
    floors, wrong = floors_of(list(edges), patterns)
    return wrong + _upward(edges, floors) + cycles(edges)


def check_python(package: Path, patterns: dict[str, int]) -> list[str]:
    edges = python_edges(package)
    paths = {path.relative_to(package).as_posix(): path for path in _files(package)}
    found, wrong = floors_of(list(paths), patterns)
    floors = {_module(paths[name], package): floor for name, floor in found.items()}
    for name, targets in sorted(edges.items()):
        if package.name in targets:
            wrong.append(f"{name}: imports the package root, not the module that owns the name")
        for target in sorted(targets - set(edges)):
            wrong.append(f"{name}: imports {target}, which is no module here")
    return wrong + _upward(edges, floors) + cycles(edges)


def _upward(edges: Edges, floors: dict[str, int]) -> list[str]:
    return [
        f"{name} (floor {floors[name]}) imports {target} (floor {floors[target]})"
        for name, targets in sorted(edges.items())
        for target in sorted(targets)
        if floors.get(name, 99) < floors.get(target, 0)
    ]


def _patterns(table: str) -> dict[str, int]:
    with open(HERE / "floors.toml", "rb") as file:
        patterns: dict[str, int] = tomllib.load(file)[table]
    return patterns


def test_c_includes_downwards_only() -> None:
    assert check_c(ROOT / "csrc", _patterns("c")) == []


def test_python_and_cython_import_downwards_only() -> None:
    assert check_python(ROOT / "src" / PACKAGE, _patterns("python")) == []


# A check that can't fail proves nothing: each rule, broken once.


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_broken_c_is_found(tmp_path: Path) -> None:
    csrc = _write(
        tmp_path,
        {
            "low/a.h": '#include <stdio.h>\n# include "high/b.h"\n',
            "low/c.h": '#include "d.h"\n',
            "low/d.h": '#include "low/c.h"\n',
            "high/b.h": '#include "low/c.h"\n',
            "lost.c": "",
        },
    )
    assert check_c(csrc, {"low/*": 0, "high/*": 1, "gone/*": 2}) == [
        "gone/*: matches no file",
        "lost.c: matches no pattern in floors.toml",
        "low/a.h (floor 0) imports high/b.h (floor 1)",
        "cycle: low/c.h -> low/d.h -> low/c.h",
    ]


def test_broken_python_is_found(tmp_path: Path) -> None:
    package = _write(
        tmp_path / "pkg",
        {
            "__init__.py": "from pkg.high.face import Face\n",
            "low/__init__.py": "",
            "low/up.py": "def f():\n    from ..high import face\n",
            "low/root.py": "from pkg import Face\nimport os.path\n",
            "low/one.pyx": "from pkg.low.two cimport x, y\ncimport cython\n",
            "low/one.pxd": "",
            "low/two.pyx": "from . cimport (one)\nimport pkg.low.gone as gone\n",
            "high/__init__.py": "",
            "high/face.py": "from pkg.low import up, one\n",
            "stray.py": "",
        },
    )
    assert check_python(package, {"low/*": 1, "high/*": 2, "__init__.py": 3}) == [
        "stray.py: matches no pattern in floors.toml",
        "pkg.low.root: imports the package root, not the module that owns the name",
        "pkg.low.two: imports pkg.low.gone, which is no module here",
        "pkg.low.root (floor 1) imports pkg (floor 3)",
        "pkg.low.up (floor 1) imports pkg.high.face (floor 2)",
        "cycle: pkg.low.one -> pkg.low.two -> pkg.low.one",
        "cycle: pkg.high.face -> pkg.low.up -> pkg.high.face",
    ]
