"""Runs a program as ``python`` would, in a process that has begun with something else.

The program becomes ``__main__``: a module of its own, with the attributes, ``sys.argv`` and
``sys.path[0]`` that the interpreter would have given it. So workers under ``spawn`` and
``forkserver`` find its main module by themselves, and its classes unpickle. What it raises goes on
to the interpreter, which then prints, sets the exit status and runs ``atexit`` as always; only the
frames below the program are left out of what is printed.
"""

from __future__ import annotations

import functools
import io
import linecache
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Callable, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import TracebackType
from typing import Any


def run_file(path: str, arguments: Sequence[str]) -> None:
    """Run a script, or a directory or zip file with a ``__main__.py``: ``python PATH ...``.

    Raises
    ------
    SystemExit
        With status 2 and a message on standard error, if the file can't be read.
    BaseException
        What the program raises, ``SystemExit`` included; a SyntaxError if it doesn't compile.
    """
    sys.argv = [path, *arguments]
    absolute = _absolute(path)
    main = _new_main()
    if pkgutil.get_importer(absolute) is not None:
        if _has_own_path():
            del sys.path[0]
        sys.path.insert(0, absolute)  # also where a safe path is asked for: it is the program
        _run(functools.partial(runpy._run_module_as_main, "__main__", False))  # type: ignore[attr-defined]
        return
    _set_path(os.path.dirname(os.path.realpath(absolute)))
    try:
        with io.open_code(absolute) as file:
            code = pkgutil.read_code(file)  # of a compiled program
            file.seek(0)
            source = file.read()
    except OSError as error:
        print(
            f"{sys.executable}: can't open file {absolute!r}: [Errno {error.errno}] "
            f"{error.strerror}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    loader = SourceFileLoader if code is None else SourcelessFileLoader
    main.__loader__ = loader("__main__", absolute)
    _set_file(main, absolute)
    if code is None:
        _run_source(source, absolute, main)
    else:
        _run(functools.partial(exec, code, vars(main)))


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module: ``python -m NAME ...``.

    Raises
    ------
    SystemExit
        With a message, if there is no such module.
    BaseException
        What the program raises, ``SystemExit`` included.
    """
    sys.argv = ["-m", *arguments]
    _new_main()
    _run(functools.partial(runpy._run_module_as_main, name))  # type: ignore[attr-defined]


def run_text(text: str, arguments: Sequence[str]) -> None:
    """Run source text: ``python -c TEXT ...``.

    Raises
    ------
    BaseException
        What the program raises, ``SystemExit`` included; a SyntaxError if it doesn't compile.
    """
    sys.argv = ["-c", *arguments]
    main = _new_main()
    main.__loader__ = BuiltinImporter
    _set_path("")
    if sys.version_info >= (3, 13):  # tracebacks show its lines
        linecache.cache["<string>"] = (len(text), None, text.splitlines(True), "<string>")
    _run_source(text, "<string>", main)


def run_input(arguments: Sequence[str]) -> None:
    """Run what standard input brings: ``python - ...``.

    Raises
    ------
    BaseException
        What the program raises, ``SystemExit`` included; a SyntaxError if it doesn't compile.
    """
    sys.argv = ["-", *arguments]
    main = _new_main()
    main.__loader__ = BuiltinImporter
    _set_file(main, "<stdin>")
    _set_path("")
    _run_source(sys.stdin.buffer.read(), "<stdin>", main)


def _absolute(path: str) -> str:
    """As the interpreter does it: nothing is normalized."""
    if os.path.isabs(path):
        return path
    here = os.getcwd()
    if path == "." and sys.version_info >= (3, 11):  # 3.10 leaves the dot at the end
        return here
    return os.path.join(here, path)


def _new_main() -> types.ModuleType:
    """Put an empty ``__main__`` in the place of ours."""
    main = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    # The second name is what spawned workers call it; multiprocessing gives it when it is imported.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


def _set_file(main: types.ModuleType, file: str) -> None:
    main.__file__ = file
    if sys.version_info < (3, 15):
        main.__cached__ = None  # type: ignore[attr-defined]


def _has_own_path() -> bool:
    """Whether sys.path begins with where the program lies: not under ``-P`` and ``-I``."""
    return not getattr(sys.flags, "safe_path", sys.flags.isolated)


def _set_path(folder: str) -> None:
    """Modules are looked for where the program lies, not where ours was started."""
    if _has_own_path():
        sys.path[0] = folder


def _run_source(source: str | bytes, name: str, main: types.ModuleType) -> None:
    code: Any = _run(functools.partial(compile, source, name, "exec", dont_inherit=True))
    _run(functools.partial(exec, code, vars(main)))


def _run(start: Callable[[], object]) -> object:
    """Call what has no frame of its own; whatever it raises is shown from its frames on."""
    try:
        return start()
    except SystemExit:
        raise
    except BaseException as error:
        _show_from(error, error.__traceback__.tb_next if error.__traceback__ else None)
        raise


def _show_from(error: BaseException, frames: TracebackType | None) -> None:
    """Have the interpreter show an exception that reaches it with these frames."""
    shown_by = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        sys.excepthook = shown_by
        if value is error:
            trace = sys.last_traceback = frames
            value = value.with_traceback(frames)
        shown_by(kind, value, trace)

    sys.excepthook = show
