"""Optional packages that may not be there, or not work with this Python yet."""

from __future__ import annotations

import pytest


def need_serializer(name: str) -> None:
    """Skip where the package of ``Pool(serializer=name)`` is missing, or behind this Python."""
    package = pytest.importorskip("dill" if name == "dill" else "cloudpickle")
    try:
        package.dumps(lambda: None)
    except AttributeError as error:  # each Python has its own code objects, which it has to know
        pytest.skip(f"{package.__name__} {package.__version__} can't pickle functions: {error}")
