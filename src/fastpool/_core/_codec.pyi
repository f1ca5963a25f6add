from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from fastpool._core._segment import Heap

class Codec:
    def __new__(
        cls, heap: Heap, dumps: Callable[[object], bytes], loads: Callable[[Any], Any]
    ) -> Self: ...
