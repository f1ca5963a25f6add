from collections.abc import Callable
from typing import Any, final

from fastpool._core._segment import Heap

@final
class Codec:
    def __init__(
        self, heap: Heap, dumps: Callable[[object], bytes], loads: Callable[[Any], Any]
    ) -> None: ...
