"""__all__, docstrings and stubs say the same as the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from pathlib import Path

import pytest

import fastpool

CORE = Path(__file__).resolve().parents[2] / "src" / "fastpool" / "_core"
PUBLIC = sorted(name for name in fastpool.__all__ if not name.startswith("__"))
STUBS = sorted(path.stem for path in CORE.glob("*.pyx"))


def test_all_is_sorted_and_says_each_name_once() -> None:
    assert list(fastpool.__all__) == sorted(set(fastpool.__all__))


def test_all_is_all_there_is() -> None:
    seen = {
        name
        for name, value in vars(fastpool).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert seen - {"annotations", "TYPE_CHECKING"} <= set(fastpool.__all__)
    assert set(fastpool.__all__) - set(dir(fastpool)) == set()


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_has_a_docstring(name: str) -> None:
    value = getattr(fastpool, name)
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        return
    assert (inspect.getdoc(value) or "").strip(), f"fastpool.{name} has no docstring"
    if not inspect.isclass(value):
        return
    bare = [
        member
        for member, code in vars(value).items()
        if not member.startswith("_")
        and (inspect.isroutine(code) or isinstance(code, property | staticmethod | classmethod))
        and not (inspect.getdoc(getattr(value, member)) or "").strip()
    ]
    assert bare == [], f"fastpool.{name} has members without a docstring"


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_class_says_where_it_can_be_imported_from(name: str) -> None:
    value = getattr(fastpool, name)
    if inspect.isclass(value):
        assert getattr(importlib.import_module(value.__module__), value.__qualname__) is value


@pytest.mark.parametrize("name", STUBS)
def test_each_stub_declares_what_its_module_has(name: str) -> None:
    stub = CORE / f"{name}.pyi"
    assert stub.exists(), f"{name}.pyx has no stub"
    module = importlib.import_module(f"fastpool._core.{name}")
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            assert hasattr(module, node.name), f"{name}.pyi declares {node.name}()"
        elif isinstance(node, ast.ClassDef) and not _only_typing(node):
            assert hasattr(module, node.name), f"{name}.pyi declares class {node.name}"
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    assert hasattr(getattr(module, node.name), member.name), (
                        f"{name}.pyi declares {node.name}.{member.name}()"
                    )


def _only_typing(node: ast.ClassDef) -> bool:
    """Protocols and the like exist in the stub alone."""
    return any("Protocol" in ast.unparse(b) or "TypedDict" in ast.unparse(b) for b in node.bases)
