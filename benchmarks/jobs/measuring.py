"""What the jobs use of the other benchmarks: only this file says where it is."""

from timing import (
    Summary,
    describe_machine,
    format_table,
    format_time,
    interleave,
    show_progress,
    summarise,
)

__all__ = [
    "Summary",
    "describe_machine",
    "format_table",
    "format_time",
    "interleave",
    "show_progress",
    "summarise",
]
