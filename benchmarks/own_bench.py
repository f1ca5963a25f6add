"""Imported first: `fastpool.bench` is this tree's, whichever revision's `fastpool` is measured.

An older revision has another one, or none; what measures has to be the same for both.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "src" / "fastpool" / "bench"

if "fastpool.bench" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "fastpool.bench", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert _spec is not None and _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["fastpool.bench"] = _module
    _spec.loader.exec_module(_module)
