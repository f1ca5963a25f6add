"""Functions and classes of a program's own ``__main__``, by value or by name as it has to be."""

from __future__ import annotations

from typing import Any

import pytest

PROGRAM = """
    import dataclasses, multiprocessing, sys
    from fastpool import Pool

    factor = 1

    def begin(value):
        global factor
        factor = value

    def scale(x):
        return x * factor

    @dataclasses.dataclass
    class Point:
        x: int

    if __name__ == "__main__":
        method, serializer = sys.argv[1:]

        def guarded(point):
            return Point(point.x + 1)

        context = multiprocessing.get_context(method)
        with Pool(2, begin, (5,), context=context, serializer=serializer) as pool:
            def late(point):
                class Derived(type(point)):
                    pass
                return Derived(point.x)

            print(pool.map(scale, range(3)))
            print(pool.map(guarded, [Point(1)]) == [Point(2)])
            print(isinstance(pool.apply(late, (Point(3),)), Point))
            print(pool.map(lambda f: f(2), [scale, lambda x: x + 100]))
            factor = 9
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_auto_sends_by_name_what_workers_find_and_all_else_by_value(
    run_script: Any, method: str
) -> None:
    script = run_script(PROGRAM, arguments=[method, "auto"])
    # The function of the file sees the global that the initializer has set in its worker.
    assert script.finish() == "[0, 5, 10]\nTrue\nTrue\n[10, 102]\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_cloudpickle_sends_everything_of_main_by_value(run_script: Any, method: str) -> None:
    script = run_script(PROGRAM, arguments=[method, "cloudpickle"])
    # A function brings the globals of the parent along.
    assert script.finish() == "[0, 1, 2]\nTrue\nTrue\n[2, 102]\n"


def test_a_function_that_workers_lack_is_an_error_that_says_what_helps(run_script: Any) -> None:
    script = run_script(
        """
        import sys, traceback
        from fastpool import Pool

        def look():
            return sys.modules["__main__"].late

        if __name__ == "__main__":
            with Pool(1) as pool:
                def late(x):
                    return x
                for call in late, look:
                    try:
                        pool.apply(call, (1,) if call is late else ())
                    except AttributeError as error:
                        said = " ".join(getattr(error, "__notes__", error.args))
                        print(call.__name__, said.replace("\\n", " "))
        """
    )
    # A task that looks for the name by itself is told nothing of serializers.
    hint, none = script.finish().splitlines()
    assert 'Pool(serializer="cloudpickle") sends it by value' in hint
    assert none.startswith("look") and "serializer" not in none
