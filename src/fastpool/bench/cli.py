"""The command line of ``python -m fastpool bench``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastpool.bench import runner, stopping, tables
from fastpool.bench.arguments import is_writable, positive
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.results import SCHEMA
from fastpool.bench.sections import SECTIONS

DESCRIPTION = """\
Measure what process pools cost on this machine: percentiles of their latency, and curves of all
else, in interleaved rounds of one run. Rivals that are installed take part: pip install
'fastpool[bench]'.
"""

STDOUT = "the standard output"

#: The options that have no meaning with ``--from``.
MEASURING = (
    *("--only", "--quick", "--pools", "--servers", "--processes", "--start-method", "--rounds"),
    *("--seed", "--limits"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or read what was measured; print it, and draw it.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status: 0, whatever the figures are; 1 if an output can't be written; 128 and its
        number after a signal that asks for an end, such as Ctrl-C's.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        return _write(STDOUT, lambda: print(_list(), flush=True))
    if options.plot or options.png:
        try:  # before some minutes are spent
            from fastpool.bench import page
        except ImportError as error:
            parser.error(f"no pictures without matplotlib: {error}; pip install 'fastpool[bench]'")
    for path in (options.plot, options.png, None if options.json == "-" else options.json):
        if path and not is_writable(Path(path), is_folder=path == options.png):
            parser.error(f"{path} can't be written")
    if options.from_file:
        ignored = [name for name in MEASURING if _is_given(parser, options, name)]
        if ignored:
            parser.error(f"--from measures nothing: {', '.join(ignored)} can't be heeded")
        report = _read(parser, options.from_file)
    else:
        if not os.path.isdir("/proc/self"):
            parser.error("there is no /proc here, by which processes are measured")
        wanted = _wanted(options)
        try:
            with stopping.stops_at_signals(), _progress(runner.steps(wanted)) as advance:
                report = runner.measure(wanted, advance)
        except stopping.Stopped as stopped:
            print(f"stopped by {stopped}; nothing is written", file=sys.stderr)
            return 128 + stopped.number
    writers: dict[str, Callable[[], object]] = {}
    if options.json and options.json != "-":
        writers[options.json] = lambda: Path(options.json).write_text(json.dumps(report))
    if options.plot:
        writers[options.plot] = lambda: Path(options.plot).write_text(
            page.html(report), encoding="utf-8"
        )
    if options.png:
        writers[options.png] = lambda: page.write_pngs(report, Path(options.png))
    writers[STDOUT] = lambda: print(
        json.dumps(report) if options.json == "-" else tables.text(report), flush=True
    )
    return max([_write(where, writer) for where, writer in writers.items()])


def _write(where: str, writer: Callable[[], object]) -> int:
    """Write one of the outputs; the exit status: a failure must not cost the others."""
    try:
        writer()
    except OSError as error:
        if where == STDOUT:
            # What is left in its buffer can't be written either, when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):  # a reader such as head has had enough
            print(f"{where} can't be written: {error}", file=sys.stderr)
        return 1
    return 0


def _list() -> str:
    """The sections and the pools."""
    lines = [f"{name:12} {section.title}" for name, section in SECTIONS.items()]
    for name, contender in CONTENDERS.items():
        lines.append(f"{name:22} {contender.version() or 'not installed'}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastpool bench", description=DESCRIPTION)
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=SECTIONS,
        metavar="NAME",
        help=f"sections: {', '.join(SECTIONS)}",
    )
    add("--list", action="store_true", help="the sections, and the pools with their versions")
    add("--quick", action="store_true", help="two seconds for each pool, and noisier")
    add("--pools", nargs="+", type=_pool_name, metavar="NAME", help="only these; --list has all")
    add("--servers", action="store_true", help="also pools that start servers: Ray, Dask")
    add("--processes", type=positive, help="workers (default: as many as there are CPUs)")
    add(
        "--start-method",
        choices=["fork", "forkserver", "spawn"],
        help="where a pool has the choice",
    )
    add("--rounds", type=positive, help="interleaved rounds (default 3, with --quick 1)")
    add("--seed", type=int, default=1, help="of the order within the rounds")
    add("--limits", metavar="PROGRAM", help="benchmarks/c/limits of the repository, built")
    add("--from", dest="from_file", metavar="FILE", help="measure nothing: read what --json wrote")
    add("--json", metavar="FILE", help="write the report, too; - is the standard output instead")
    add("--plot", metavar="FILE", help="write a page with pictures; needs matplotlib")
    add("--png", metavar="FOLDER", help="write the pictures; needs matplotlib")
    return parser


def _is_given(parser: argparse.ArgumentParser, options: argparse.Namespace, option: str) -> bool:
    """Whether an option has another value than by default."""
    name = option.strip("-").replace("-", "_")
    return bool(getattr(options, name) != parser.get_default(name))


def _read(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """A report that ``--json`` wrote; the program ends where it is none."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{path} can't be read: {error}")
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        parser.error(f"{path} is no report of the form {SCHEMA}")
    try:
        tables.text(report)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        parser.error(f"{path} is a report with parts missing or wrong: {error!r}")
    return report


def _pool_name(text: str) -> str:
    """A pool by its name or the beginning of it, in any case."""
    exact = [name for name in CONTENDERS if name.lower() == text.lower()]
    found = exact or [name for name in CONTENDERS if name.lower().startswith(text.lower())]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CONTENDERS)}")
    return found[0]


def _wanted(options: argparse.Namespace) -> runner.Options:
    if options.pools:
        pools = tuple(dict.fromkeys(options.pools))
    else:
        pools = tuple(
            name
            for name, contender in CONTENDERS.items()
            if options.servers or not contender.has_servers
        )
    return runner.Options(
        sections=tuple(name for name in SECTIONS if name in (options.only or SECTIONS)),
        pools=pools,
        processes=options.processes or len(os.sched_getaffinity(0)),
        start_method=options.start_method,
        rounds=options.rounds or (1 if options.quick else 3),
        seed=options.seed,
        quick=options.quick,
        limits=options.limits,
    )


@contextlib.contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], Any]]:
    """A bar on stderr, where that is a terminal and tqdm is installed."""
    try:
        if not sys.stderr.isatty():
            raise ImportError
        from tqdm import tqdm
    except ImportError:
        yield lambda _: None
        return
    with tqdm(total=steps, unit="trial", file=sys.stderr, leave=False) as bar:
        ended = 0

        def advance(what: str) -> None:
            nonlocal ended
            bar.set_description(what, refresh=False)
            bar.update(ended)  # the one before this
            bar.refresh()
            ended = 1

        yield advance
