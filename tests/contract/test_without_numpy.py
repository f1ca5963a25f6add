"""No NumPy, or NumPy late: a pool neither imports it nor misses it, but where arrays are wanted."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout_s(60)

WORK = """
    import sys
    {before}
    import multiprocessing
    import {module} as module
    from helpers import tasks

    def loaded(name, *_ignored):
        return sys.modules.get(name) is not None

    def work():
        {with_pool} as pool:
            assert pool.map(tasks.square, range(1000)) == [i * i for i in range(1000)]
            assert pool.apply(tasks.identity, ([True, 1, 1.5, "a", b"b", None],))[2] == 1.5
            for size in (10, 100_000, 5_000_000):
                assert pool.apply(tasks.identity, (b"x" * size,)) == b"x" * size
                assert pool.apply(tasks.identity, (bytearray(size),)) == bytearray(size)
                assert pool.map(tasks.make_bytes, [size] * 3) == [b"x" * size] * 3
            assert list(pool.imap(tasks.square, iter(range(50)), 3)) == [i * i for i in range(50)]
            assert pool.starmap(tasks.add, [("a", "b")] * 9) == ["ab"] * 9
            assert pool.map(tasks.identity, [list(map(str, range(99)))] * 9)[8][98] == "98"
            assert not any(pool.map(loaded, ["numpy"] * 8, 1)), "a worker imported NumPy"
            {more}

    if __name__ == "__main__":
        {body}
"""


def program(
    module: str, method: str, *, before: str = "", more: str = "", body: str = "work()"
) -> str:
    with_pool = f'with module.Pool(2, context=multiprocessing.get_context("{method}"))'
    if module == "multiprocessing":
        with_pool = f'with multiprocessing.get_context("{method}").Pool(2)'
    more = more or "pass"
    return WORK.format(before=before, module=module, with_pool=with_pool, more=more, body=body)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_neither_the_parent_nor_a_worker_imports_it(
    run_script: Any, impl: Any, method: str
) -> None:
    script = run_script(
        program(
            impl.name,
            method,
            body='work(); assert not loaded("numpy"); print("worked")',
        )
    )
    assert script.finish(25) == "worked\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_everything_else_works_where_it_is_missing(run_script: Any, impl: Any, method: str) -> None:
    script = run_script(
        program(
            impl.name,
            method,
            before='sys.modules["numpy"] = None',
            more="pool.stats().bytes_in_use" if impl.is_fastpool else "",
            body='work(); print("worked")',
        )
    )
    assert script.finish(25) == "worked\n"


FIRST = {
    "an argument": "assert pool.apply(len, (np.ones({count}),)) == {count}",
    "beside other things": "assert pool.apply(tasks.is_same, (np.ones({count}), [1])) is False",
    "to a ufunc": "assert (pool.apply(np.negative, (np.ones({count}),)) == -1).all()",
    "read-only": "a = np.ones({count}); a.flags.writeable = False; assert pool.apply(len, (a,))",
    "in Fortran order": "assert pool.apply(len, (np.ones(({count}, 2)).T,)) == 2",
    "in a list": "assert len(pool.apply(tasks.identity, ([np.ones({count})],))[0]) == {count}",
    "an item": "assert pool.map(len, [np.ones({count})] * 4) == [{count}] * 4",
    "rows": "assert pool.map(len, np.ones((3, {count}))) == [{count}] * 3",
    "a scalar": "assert type(pool.apply(tasks.identity, (np.float32({count}),))) is np.float32",
    "scalars": "assert type(pool.map(tasks.square, np.arange({count}))[2]) is np.int64",
    "a result": "assert type(pool.apply(make_array, ({count},))) is np.ndarray",
    "results": "assert len(pool.map(make_array, [{count}] * 4, 2)[3]) == {count}",
    "a method": "assert pool.apply(np.ones({count}).sum) == {count}",
    "an iterator's item": "assert list(pool.imap(len, iter([np.ones({count})]))) == [{count}]",
}

SMALL = ["an argument", "in a list", "rows", "scalars", "a result"]
"""Those that are also tried with small arrays, which travel in another way."""

LATE = """
    import sys
    import multiprocessing
    import {module} as module
    from helpers import tasks

    def make_array(count):
        import numpy
        return numpy.zeros(count)

    def late(first):
        with module.Pool(1) as pool:
            assert pool.map(abs, [1, -2]) == [1, 2]
            assert "numpy" not in sys.modules
            import numpy as np
            exec(first)

    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}")
"""


@pytest.mark.parametrize("count", [10, 50_000])
def test_it_may_be_imported_after_the_pool_was_made(run_script: Any, impl: Any, count: int) -> None:
    """Whatever then goes through the pool first: in a process for each that has seen no NumPy."""
    if count == 10 and not impl.is_fastpool:
        pytest.skip("once is enough")
    firsts = {name: first.format(count=count) for name, first in FIRST.items()}
    if count == 10:
        firsts = {name: firsts[name] for name in SMALL}
    script = run_script(
        LATE.format(module=impl.name, method="fork")
        + f"""
        import os, traceback

        def in_a_child(first):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    late(first)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            return child

        FIRST = {firsts!r}
        children = {{in_a_child(first): name for name, first in FIRST.items()}}
        while children:
            child, status = os.wait()
            name = children.pop(child)
            if status:
                print(name, "failed", flush=True)
        print("done")
        """
    )
    assert script.finish(50) == "done\n"


@pytest.mark.parametrize("first", ["an argument", "scalars", "a result", "a method"])
@pytest.mark.fastpool_only
def test_it_may_be_imported_after_a_pool_was_made_by_spawn(
    run_script: Any, impl: Any, first: str
) -> None:
    script = run_script(
        LATE.format(module=impl.name, method="spawn")
        + f"""
        late({FIRST[first].format(count=50_000)!r})
        print("right")
        """
    )
    assert script.finish(25) == "right\n"


CALLS = {
    "empty": "pool.empty(3)",
    "zeros": "pool.zeros((2, 2))",
    "copy_to_shared": "pool.copy_to_shared([1, 2])",
    "map_blocks": "pool.map_blocks(len, [1, 2])",
}


@pytest.mark.fastpool_only
@pytest.mark.parametrize("call", CALLS)
def test_what_needs_it_says_so(run_script: Any, impl: Any, call: str) -> None:
    more = f"""
            try:
                {CALLS[call]}
            except ImportError as error:
                print("ImportError:", error)
            assert pool.apply(tasks.square, (3,)) == 9"""
    before = 'sys.modules["numpy"] = None'
    output = run_script(program("fastpool", "fork", before=before, more=more.strip())).finish(25)
    assert output.startswith("ImportError: ")
    assert "numpy" in output.lower()
    assert call in output or "array" in output.lower(), "it says what wants it"
