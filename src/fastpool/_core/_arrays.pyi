from typing import TypeGuard

import numpy

def is_plain_array(value: object) -> TypeGuard[numpy.ndarray]: ...
