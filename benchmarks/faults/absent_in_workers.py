"""Can be imported by the program, but not by its workers: a missing library, another path."""

import os

if os.environ.get("FAULTS_PROGRAM") != str(os.getpid()):
    raise ImportError("this module is not there in a worker")


def square(x: int) -> int:
    return x * x
