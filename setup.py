"""The extension modules and nothing else; all metadata is in pyproject.toml.

Switches, read from the environment; an empty one, 0, no, false and off are the same as none:

    FASTPOOL_DEBUG=1        assertions, debug symbols, Cython's bounds checks
    FASTPOOL_SANITIZE=LIST  build with -fsanitize=LIST, e.g. address,undefined
    FASTPOOL_COVERAGE=1     line tracing in Cython, gcov counters in C
    FASTPOOL_CRASH_POINTS=1 points where FASTPOOL_CRASH can have a process killed: csrc/README.md
    FASTPOOL_PORTABLE=1     of the system only what POSIX has, as on systems that have no more
    FASTPOOL_PURE=1         Python alone: the standard library's pools stand in; so on Windows
    FASTPOOL_PURE=windows   the same, as the wheel for Windows, wherever it is built

The C core keeps its state in what it is handed (the exceptions are in csrc/README.md), so its
objects, compiled once, are linked into every extension that calls them. Each object is compiled
again only when its own inputs are newer, each extension linked only when an object is: after a
change of a .pyx or .c, `make build` takes seconds. A header is an input of all objects, this file
too, and a .pxd one of most: after a change of these, it takes half a minute on two CPUs.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "fastpool._core"
# What Cython's code needs in every module (functions' type, parsing of arguments), built once.
SHARED = f"{PACKAGE}._cython"
JOBS = os.cpu_count() or 1
# pip looks after these, as pyproject.toml has them, unless it is told --no-build-isolation.
TOOLS = {"setuptools": "77", "Cython": "3.3"}
# The loops, which pay for -O3.
HOT = {"_chunk", "_codec", "_jobs", "_many", "_receive", "_send", "_stream", "_submit", "_workloop"}
# What is not a loop, or is calls of the interpreter for the most part: made small.
COLD = {
    "_arrays",
    "_blocks",
    "_clocked",
    "_functions",
    "_futures",
    "_recover",
    "_segment",
    "_system",
}
# What of csrc/os keeps the contract where: docs/porting.md.
SYSTEMS = {
    "linux": ["elf", "linux", "nap", "openmp", "park_futex", "unix", "watch"],
    "darwin": ["darwin", "nap", "openmp", "park_portable", "posix", "unix", "watch"],
    "portable": ["elf", "generic", "nap", "openmp", "park_portable", "posix", "unix", "watch"],
}

# As of FASTPOOL_DISABLE: src/fastpool/_fallback.py, which can't be imported before there is a core.
NO = ("", "0", "no", "false", "off")


def switch(name: str, default: str = "") -> str:
    """What a switch is set to; nothing, where that is a way to say no."""
    value = os.environ.get(name, default).strip()
    return "" if value.lower() in NO else value


DEBUG = bool(switch("FASTPOOL_DEBUG"))
SANITIZE = switch("FASTPOOL_SANITIZE")
COVERAGE = bool(switch("FASTPOOL_COVERAGE"))
CRASH_POINTS = bool(switch("FASTPOOL_CRASH_POINTS"))
PORTABLE = bool(switch("FASTPOOL_PORTABLE"))
PURE = switch("FASTPOOL_PURE", "1" if sys.platform == "win32" else "")

# Each way of building has folders of its own, so that switching back and forth is never stale.
MODE = "-".join(
    ["debug"] * DEBUG
    + [SANITIZE.replace(",", "-")] * bool(SANITIZE)
    + ["coverage"] * COVERAGE
    + ["crash"] * CRASH_POINTS
    + ["portable"] * PORTABLE
)
CYTHON_DIR = f"build/cython-{MODE}" if MODE else "build/cython"

COMMON = ["-std=gnu11", "-fvisibility=hidden", "-pthread"]
LINK = ["-pthread", "-ldl"]
STRIP = "-Wl,-x" if sys.platform == "darwin" else "-s"
if DEBUG or SANITIZE or COVERAGE:
    COMMON += ["-O1", "-g3", "-fno-omit-frame-pointer", "-UNDEBUG", "-DFP_DEBUG=1"]
else:
    # What Cython writes into every module and nobody calls there is left out.
    COMMON += ["-O2", "-g0", "-ffunction-sections", "-fdata-sections"]
    LINK += ["-Wl,-dead_strip" if sys.platform == "darwin" else "-Wl,--gc-sections"]
if SANITIZE:
    COMMON += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=undefined"]
    LINK += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    COMMON += ["--coverage"]
    LINK += ["--coverage"]
if CRASH_POINTS:
    COMMON += ["-DFP_CRASH_POINTS=1"]

# Our own C is held to its warnings in a checkout; a user's newer compiler, building from an sdist,
# may know more of them than we did.
CSRC_FLAGS = [*COMMON, "-Wall", "-Wextra"] + ["-Werror"] * (ROOT / ".git").exists()
CYTHON_FLAGS = [*COMMON, "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unreachable-code"]

# The newest Python that has shown that nothing here needs its GIL: wheels/README.md tells how. What
# Cython writes is the same for all; on a newer one this has the import turn the GIL on. Who raises
# it lets wheels/smoke_test.py and tests/architecture/test_import.py look at that Python, too.
SHOWN_WITHOUT_GIL = (3, 14)
if sys.version_info[:2] > SHOWN_WITHOUT_GIL:
    CYTHON_FLAGS += ["-DCYTHON_FREETHREADING_COMPATIBLE=0"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "auto_pickle": False,  # a job or a block means nothing in another process
    "embedsignature": True,
    "linetrace": COVERAGE,
    # LOCK guards what the GIL does elsewhere: src/fastpool/_core/_segment.pyx.
    "freethreading_compatible": True,
}


def _paths(pattern: str) -> list[str]:
    """Files below the root that match, relative to it and in a fixed order."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def csrc_sources() -> list[str]:
    """The C files of this system."""
    system = SYSTEMS.get("portable" if PORTABLE else sys.platform, [])
    others = set(_paths("csrc/os/*.c")) - {f"csrc/os/{name}.c" for name in system}
    if not CRASH_POINTS:
        others.add("csrc/base/fp_crash.c")
    return [path for path in _paths("csrc/**/*.c") if path not in others]


def _level(module: str) -> list[str]:
    """How the compiler weighs speed against size, where that is not the same for all."""
    if "-O2" not in COMMON:
        return []
    return ["-O3"] * (module in HOT) + ["-Os"] * (module in COLD)


def extensions() -> list[Extension]:
    """One extension for each src/fastpool/_core/NAME.pyx, and the one that they share."""
    sources = {f"{PACKAGE}.{Path(pyx).stem}": pyx for pyx in _paths("src/fastpool/_core/*.pyx")}
    sources[SHARED] = "src/" + SHARED.replace(".", "/") + ".c"  # Cython writes it, below build/
    return [
        Extension(
            name,
            [source],
            include_dirs=["csrc"],
            define_macros=[("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else [],
            extra_compile_args=[*CYTHON_FLAGS, *_level(Path(source).stem)],
            extra_link_args=LINK,
        )
        for name, source in sources.items()
    ]


class BuildCore(build_ext):
    """Cython into build/, then each C file once, the C core with its own flags."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = JOBS
        self.in_checkout = bool(self.inplace)  # or editable; setuptools resets inplace as it runs
        if self.in_checkout:  # keep objects between builds, apart for each kind of Python
            tag = sysconfig.get_config_var("SOABI")
            self.build_temp = f"build/temp.{tag}"
            self.build_lib = f"build/lib.{tag}"
        if MODE:
            self.build_temp += f"-{MODE}"
            self.build_lib += f"-{MODE}"

    def build_extensions(self) -> None:
        require_system()
        require_tool("Cython")
        require_compiler(self.compiler.compiler_so, self.compiler.linker_so)
        self.run_cython()
        with ThreadPoolExecutor(self.parallel) as executor:
            own = executor.map(self.compile_extension, self.extensions)
            core = list(executor.map(self.compile_csrc, csrc_sources()))
            for ext, compiled in zip(self.extensions, own, strict=True):
                ext.sources = []
                ext.extra_objects = ext.depends = [compiled, *core]
                if not self.in_checkout and not DEBUG:
                    # A wheel needs no names of static functions; a profiler of a checkout does.
                    ext.extra_link_args = [*ext.extra_link_args, STRIP]
        super().build_extensions()

    def run_cython(self) -> None:
        """Have the extensions' sources be C, written anew where this file or theirs are newer."""
        from Cython.Build import cythonize
        from Cython.Compiler import Errors
        from Cython.Compiler.Errors import CompileError

        # It warns of attributes in a critical section, which guards only what is C: as it is meant.
        Errors.LEVEL = 2

        written = [Path(CYTHON_DIR, ext.sources[0]).with_suffix(".c") for ext in self.extensions]
        try:
            generated = cythonize(
                self.extensions,
                nthreads=JOBS,
                build_dir=CYTHON_DIR,
                include_path=["src"],
                compiler_directives=DIRECTIVES,
                shared_utility_qualified_name=SHARED,
                shared_utility_features_disabled=["MemoryView"],
                force=self.force or any(is_older(path, ["setup.py"]) for path in written),
                quiet=True,
            )
        except CompileError as error:  # Cython has said why
            sys.exit(f"fastpool: Cython could not compile {error}")
        for ext, new in zip(self.extensions, generated, strict=True):
            ext.sources = new.sources

    def compile_extension(self, ext: Extension) -> str:
        [source] = ext.sources
        return self.compile(source, ext.extra_compile_args, ext.define_macros)

    def compile_csrc(self, source: str) -> str:
        return self.compile(source, CSRC_FLAGS, [])

    def compile(self, source: str, flags: list[str], macros: list[tuple[str, str]]) -> str:
        """Compile one C file, unless its object is newer than it and than every header."""
        [target] = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or is_older(target, [source, "setup.py", *_paths("csrc/**/*.h")]):
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=["csrc"],
                extra_postargs=flags,
            )
        return str(target)

    def copy_extensions_to_source(self) -> None:
        # The module in the source tree may be newer than this one, but built another way.
        force, self.force = self.force, True
        try:
            super().copy_extensions_to_source()
        finally:
            self.force = force


def is_older(target: str | Path, inputs: list[str]) -> bool:
    """Whether a file is missing, or was written before one of those that it is made from."""
    if not os.path.exists(target):
        return True
    return os.path.getmtime(target) < max(os.path.getmtime(path) for path in inputs)


def require_system() -> None:
    """Say plainly where there is no native core."""
    if not PORTABLE and sys.platform not in SYSTEMS:
        sys.exit(
            f"fastpool: there is no native core for {sys.platform!r}; it is for Linux and macOS. "
            "`FASTPOOL_PURE=1 pip install --no-cache-dir fastpool` installs it without: its pools "
            "are the standard library's then. "
            "FASTPOOL_PORTABLE=1 builds one that asks for no more than POSIX has; nobody has run "
            "it there."
        )
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14):
        sys.exit("fastpool: of free-threaded builds, it supports those of CPython 3.14 and newer.")


def require_tool(name: str) -> None:
    """Say plainly that a tool of the build is missing, or too old."""
    try:
        found = importlib.import_module(name).__version__
    except ModuleNotFoundError:
        found = ""
    if _numbers(found) < _numbers(TOOLS[name]):
        sys.exit(
            f"fastpool: the build needs {name} {TOOLS[name]} or newer, and there is "
            f"{found or 'none'}. Without --no-build-isolation, pip brings one along."
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def require_compiler(command: list[str], linker: list[str]) -> None:
    """Say plainly what is missing, before a traceback of the build tools does."""
    if not os.environ.get("CC", "cc").strip():
        sys.exit("fastpool: CC is set, but empty: unset it, or name a C compiler, e.g. CC=gcc.")
    if shutil.which(command[0]) is None:
        sys.exit(
            f"fastpool: no C compiler found (looked for {command[0]!r}). Install one, "
            "e.g. `apt-get install gcc python3-dev`, or name it: CC=gcc pip install ..."
        )
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        sys.exit(
            f"fastpool: Python.h is not in {include}. Install Python's headers, "
            "e.g. `apt-get install python3-dev`."
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trivial.c")
        source.write_text("#include <stdlib.h>\nint trivial;\n")
        compiled = source.with_suffix(".o")
        said = _failure([*command, "-c", str(source), "-o", str(compiled)])
        if said is not None:
            sys.exit(
                f"{said}fastpool: the C compiler ({shlex.join(command)}) can't compile a "
                "program of two lines. If it misses headers of the C library: `apt-get install "
                "libc6-dev`. Another compiler: CC=gcc pip install ..."
            )
        said = _failure([*linker, str(compiled), *LINK, "-o", str(source.with_suffix(".so"))])
        if said is not None:
            sys.exit(
                f"{said}fastpool: the linker ({shlex.join(linker)}) can't make a library of two "
                "lines. LDSHARED and LDFLAGS change what is called."
            )


def _failure(command: list[str]) -> str | None:
    """What a command that fails says; None: it doesn't."""
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        return f"{error}\n"
    return done.stderr if done.returncode else None


def pure_wheel() -> type:
    """The command that packs a wheel of Python alone.

    Published for Windows only: one for any system would be what pip takes where no native wheel
    fits, instead of building the sdist.
    """
    from setuptools.command.bdist_wheel import bdist_wheel

    class PureWheel(bdist_wheel):
        def get_tag(self) -> tuple[str, str, str]:
            systems = "win32.win_amd64.win_arm64" if PURE == "windows" else "any"
            return "py3", "none", systems

    return PureWheel


if __name__ == "__main__":  # Cython's helper processes may import this file
    require_tool("setuptools")
    if PURE:
        setup(cmdclass={"bdist_wheel": pure_wheel()})
    else:
        setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCore})
