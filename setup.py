"""The extension modules and nothing else; all metadata is in pyproject.toml.

Switches, read from the environment:

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
change, `make build` takes seconds.
"""

import os
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "fastpool._core"
# What Cython's code needs in every module (functions' type, parsing of arguments), built once.
SHARED = f"{PACKAGE}._cython"
JOBS = os.cpu_count() or 1
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

DEBUG = os.environ.get("FASTPOOL_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTPOOL_SANITIZE", "")
COVERAGE = os.environ.get("FASTPOOL_COVERAGE", "0") not in ("", "0")
CRASH_POINTS = os.environ.get("FASTPOOL_CRASH_POINTS", "0") not in ("", "0")
PORTABLE = os.environ.get("FASTPOOL_PORTABLE", "0") not in ("", "0")
PURE = os.environ.get("FASTPOOL_PURE", "1" if sys.platform == "win32" else "0")

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

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "auto_pickle": False,  # a job or a block means nothing in another process
    "embedsignature": True,
    "linetrace": COVERAGE,
    # LOCK guards what the GIL does elsewhere (src/fastpool/_core/_segment.pyx), but it has not been
    # shown yet that nothing is missing: so a free-threaded build turns its GIL on for fastpool.
    "freethreading_compatible": False,
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
        require_compiler(self.compiler.compiler_so)
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
            "FASTPOOL_PURE=1 installs fastpool without: its pools are the standard library's then. "
            "FASTPOOL_PORTABLE=1 builds one that asks for no more than POSIX has; nobody has run "
            "it there."
        )
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14):
        sys.exit("fastpool: of free-threaded builds, it supports those of CPython 3.14 and newer.")


def require_compiler(command: list[str]) -> None:
    """Say plainly what is missing, before a traceback of the build tools does."""
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


class PureWheel(bdist_wheel):
    """Python alone.

    Published for Windows only: one for any system would be what pip takes where no native wheel
    fits, instead of building the sdist.
    """

    def get_tag(self) -> tuple[str, str, str]:
        systems = "win32.win_amd64.win_arm64" if PURE == "windows" else "any"
        return "py3", "none", systems


if __name__ == "__main__":  # Cython's helper processes may import this file
    if PURE in ("", "0"):
        setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCore})
    else:
        setup(cmdclass={"bdist_wheel": PureWheel})
