"""Runs against each built wheel: the installed package, not the source tree, maps something.

With --pure the package must have no native core and say so; without, it must have one.
"""

import faulthandler
import multiprocessing
import multiprocessing.pool
import os
import sys
import sysconfig
import warnings
from pathlib import Path

import fastpool


def square(x: int) -> int:
    return x * x


def where(_: int) -> tuple[int, str]:
    return os.getpid(), str(fastpool.__file__)


def main() -> None:
    installed = Path(fastpool.__file__).resolve()
    source = Path(__file__).resolve().parent.parent / "src"
    assert source not in installed.parents, f"this is the source tree: {installed}"
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 15):
        assert not sys._is_gil_enabled(), "the import has turned the GIL on"
    warnings.simplefilter("error", fastpool.FallbackWarning)
    if "--pure" in sys.argv:
        try:
            fastpool.Pool(1)
        except fastpool.FallbackWarning as warning:
            print(warning)
        else:
            sys.exit("this wheel has a native core")
        warnings.simplefilter("ignore", fastpool.FallbackWarning)
    for method in sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())):
        with fastpool.Pool(2, context=multiprocessing.get_context(method)) as pool:
            assert isinstance(pool, multiprocessing.pool.Pool)
            assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
            assert pool.apply(square, (12,)) == 144
            assert sorted(pool.imap_unordered(square, range(50))) == [x * x for x in range(50)]
            pid, path = pool.apply(where, (0,))
            assert pid != os.getpid()
            assert path == fastpool.__file__, (path, fastpool.__file__)
            pool.close()
            pool.join()
        print(f"fastpool {fastpool.__version__}, Python {sys.version.split()[0]}, {method}: works")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)
    main()
    faulthandler.cancel_dump_traceback_later()
