"""The benchmarks that anyone can run: ``python -m fastpool bench``.

Nothing of it is imported by ``import fastpool``, and nothing but the standard library by it:
rivals, NumPy and matplotlib are imported where they are used.
"""
