"""``python -m fastpool bench``: its output, and what becomes of pools that fail or are absent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers import procs

from fastpool.bench import (
    bandwidth,
    cli,
    latency,
    lifetime,
    limits,
    processes,
    runner,
    stopping,
    timing,
    trial,
)
from fastpool.bench.contender import Contender, NotOffered
from fastpool.bench.contenders import CONTENDERS, Billiard, FastPool, Serial
from fastpool.bench.sections import SECTIONS
from fastpool.bench.subject import Record, Subject

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout_s(40)


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastpool", *arguments],
        capture_output=True,
        text=True,
        timeout=35,
        **options,
    )


def options(**more: Any) -> runner.Options:
    wanted: dict[str, Any] = {
        "sections": ("idle",),
        "pools": ("fastpool", "serial"),
        "processes": 2,
        "start_method": None,
        "rounds": 2,
        "seed": 1,
        "quick": True,
    }
    return runner.Options(**wanted | more)


def test_without_a_command_there_is_help() -> None:
    shown = command()
    assert shown.returncode == 0 and "bench" in shown.stdout
    unknown = command("benchmark")
    assert unknown.returncode == 2 and "bench" in unknown.stderr


def test_the_package_does_not_import_its_benchmarks() -> None:
    program = "import sys, fastpool; sys.exit(any('fastpool.bench' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], timeout=20).returncode == 0


def test_the_benchmarks_import_the_standard_library_alone() -> None:
    program = (
        "import sys; old = set(sys.modules); import fastpool.bench.cli;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - old};"
        "print(*new - sys.stdlib_module_names - {'fastpool'})"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=20)
    assert [name for name in found.split() if not name.startswith(("_", "cython_runtime"))] == []


def test_where_there_is_no_proc_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: path != "/proc/self")
    with pytest.raises(SystemExit):
        cli.main(["--quick"])
    assert "there is no /proc here" in capsys.readouterr().err


def test_the_list_names_each_section_and_each_pool() -> None:
    listed = command("bench", "--list").stdout.split()
    assert set(SECTIONS) | {"fastpool", "multiprocessing.Pool", "loky"} <= set(listed)


def test_a_quick_run_gives_a_table_and_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    run = command(
        *("bench", "--quick", "--only", "latency", "--pools", "fast", "multi", "--rounds", "2"),
        *("--json", str(path)),
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # no progress where nobody looks
    assert "latency: round trip of one call" in run.stdout
    report = json.loads(path.read_text())
    assert report["schema"] == "fastpool-bench/1"
    assert {"CPU", "cores", "kernel", "Python", "date"} <= set(report["machine"])
    assert report["versions"].keys() == {"fastpool", "multiprocessing.Pool"}
    section = report["sections"]["latency"]
    assert section["unit"] == "s" and section["failures"] == {}
    cases = {(row["case"], row["pool"]) for row in section["rows"]}
    assert len(cases) == 6
    for row in section["rows"]:
        assert 0 < row["quantiles"][0] <= row["p50"] <= row["quantiles"][-1]
        assert len(row["quantiles"]) <= 200 and len(row["rounds"]) == 2
        assert row["count"] >= 2 and row["spread"] >= 0


def test_the_report_may_be_all_of_the_output() -> None:
    run = command("bench", "--quick", "--only", "idle", "--pools", "serial", "--json", "-")
    assert json.loads(run.stdout)["sections"].keys() == {"idle"}


@pytest.fixture
def report_path(tmp_path: Path) -> str:
    """A report with little in it."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(runner.measure(options(sections=()))))
    return str(path)


def test_an_output_that_cannot_be_written_costs_no_other(
    report_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    pytest.importorskip("matplotlib")
    status = cli.main(["--from", report_path, "--json", "/dev/full", "--plot", str(page)])
    shown = capsys.readouterr()
    assert status == 1 and shown.err.startswith("/dev/full can't be written: ")
    assert "CPU:" in shown.out and page.exists()


def test_a_reader_who_goes_costs_no_file(report_path: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ("bench", "--from", report_path, "--json", str(copy))
    run = subprocess.run(
        [sys.executable, "-m", "fastpool", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=20,
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, b"")
    assert json.loads(copy.read_text()) == json.loads(Path(report_path).read_text())


def test_a_reader_who_goes_costs_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [sys.executable, "-m", "fastpool", "bench", "--list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=20,
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, b"")


def test_without_matplotlib_pictures_are_refused_before_anything_is_measured() -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; from fastpool.bench.cli import main;"
        "main(['--plot', 'never.html'])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)
    assert run.returncode == 2 and b"pip install 'fastpool[bench]'" in run.stderr
    assert not Path("never.html").exists()


def test_a_name_that_no_pool_has_is_refused() -> None:
    refused = command("bench", "--pools", "fastpol")
    assert refused.returncode == 2 and "'fastpol' is none of fastpool" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "no/such/folder/a.json"], "no/such/folder/a.json can't be written"),
        (["--json", "."], ". can't be written"),
        (["--png", "a-file"], "a-file can't be written"),
        (["--from", "missing.json"], "missing.json can't be read: [Errno 2]"),
        (["--from", "a-file"], "a-file can't be read: "),
        (["--from", "a-report"], "a-report is a report with parts missing or wrong: KeyError"),
        (
            ["--from", "a-file", "--only", "idle", "--start-method", "spawn"],
            "--from measures nothing: --only, --start-method can't be heeded",
        ),
        (["--rounds", "0"], "'0' is no positive whole number"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("no report")
    Path("a-report").write_text('{"schema": "fastpool-bench/1"}')
    with pytest.raises(SystemExit) as refused:
        cli.main(arguments)
    assert refused.value.code == 2 and words in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"a-file", "a-report"}


@pytest.mark.parametrize("pool", ["fastpool", "ProcessPoolExecutor"])
def test_all_sections_can_be_measured_by_one_program(pool: str) -> None:
    answers = trial.run(trial.Setting(tuple(SECTIONS), pool, 2, None, True), 35)
    assert {name: answer.failure for name, answer in answers.items()} == dict.fromkeys(SECTIONS, "")
    for name, answer in answers.items():
        assert answer.records and all(record.values for record in answer.records)
        assert (answer.records[0].x is not None) is bool(SECTIONS[name].x)


def test_each_section_can_be_measured_without_a_pool_or_says_why_not() -> None:
    answers = trial.run(trial.Setting(tuple(SECTIONS), "serial", 2, None, True), 35)
    failures = {name: answer.failure for name, answer in answers.items() if answer.failure}
    assert failures == {
        "startup": "has nothing to start",
        "death": "has no processes",
        "memory": "has no processes",
    }


def test_starting_is_measured_step_by_step() -> None:
    setting = trial.Setting(("startup",), "fastpool", 2, "spawn", True)
    assert [record.case for record in trial.run(setting, 35)["startup"].records] == [
        f"spawn: {step}" for step in ("create", "first call", "leave", "all three")
    ]


def test_a_pool_that_never_tells_of_a_death_is_not_waited_for() -> None:
    setting = trial.Setting(("death",), "multiprocessing.Pool", 2, None, True)
    answer = trial.run(setting, 35)["death"]
    # Not that it hangs: nobody knows after so short a time. On a crowded machine it is longer.
    assert answer in [trial.Answer([], f"no error {s} s after the death") for s in (0.3, 5)]


@pytest.mark.parametrize(
    ("others", "waits", "words"),
    [
        (0.0, [0.3], "^no error 0.3 s after"),
        (90.0, [0.3, 4.7], "^no error 5 s after"),
        (0.0, [15.0], "^hangs: no error 15 s after"),
        (90.0, [15.0], "^hangs: no error 15 s after"),
    ],
)
def test_a_crowded_machine_gives_a_pool_more_time_to_tell_of_a_death(
    others: float, waits: list[float], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(timing, "clock", lambda: sum(waited))
    monkeypatch.setattr(timing.Neighbours, "percent", lambda _, seconds: others)
    child = subprocess.Popen(["sleep", "60"])

    class Hanging(Serial):
        def submit(self, func: Any, path: str, seconds: float) -> Any:
            Path(path).write_text(str(child.pid))
            return self.get

        @classmethod
        def deaths(cls) -> tuple[type[BaseException], ...]:
            return ()

        def get(self, seconds: float) -> None:
            waited.append(seconds)
            raise TimeoutError

    with pytest.raises(NotOffered, match=words):
        lifetime.one_death(Hanging(1), waits[0])
    assert waited == pytest.approx(waits)
    assert child.wait(timeout=20) == -signal.SIGKILL


def test_the_way_in_which_billiard_tells_of_a_death_is_understood() -> None:
    pytest.importorskip("billiard")
    pool = Billiard(2)
    try:
        pool.pool.lost_worker_timeout = 0.1  # ten seconds by default
        assert 0.1 < lifetime.one_death(pool, 15.0) < 10
    finally:
        pool.leave()


def test_what_a_trial_leaves_in_the_folder_for_temporary_files_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # sockets allow no longer paths
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", folder)
        setting = trial.Setting(("startup",), "ProcessPoolExecutor", 2, "forkserver", True)
        assert trial.run(setting, 35)["startup"].failure == ""
        assert os.listdir(folder) == []


def test_a_rival_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Contender):
        name = "absent"
        distribution = "no-such-distribution"

    monkeypatch.setitem(CONTENDERS, "absent", Absent)
    report = runner.measure(options(pools=("absent",)))
    assert report["absent"] == {"absent": "not installed"}
    assert report["sections"]["idle"]["rows"] == []


def test_without_numpy_the_report_says_that_there_are_no_arrays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "run", lambda setting, deadline: {"bandwidth": trial.Answer([])})
    wanted = options(sections=("bandwidth",), pools=("fastpool",))
    monkeypatch.setattr(bandwidth, "has_numpy", lambda: False)
    assert runner.measure(wanted)["absent"] == {"arrays": "NumPy is not installed"}
    monkeypatch.setattr(bandwidth, "has_numpy", lambda: True)
    assert runner.measure(wanted)["absent"] == {}


def test_a_rival_that_fails_is_named_and_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def run(setting: trial.Setting, deadline: float) -> dict[str, trial.Answer]:
        tried.append(setting.pool)
        if setting.pool == "serial":
            return {"skew": trial.Answer([], "KeyError: 'it'")}
        return {"skew": trial.Answer([Record("a case", [1.0])])}

    monkeypatch.setattr(runner, "run", run)
    report = runner.measure(options(sections=("skew",)))
    assert report["sections"]["skew"]["failures"] == {"serial": "KeyError: 'it'"}
    assert [row["pool"] for row in report["sections"]["skew"]["rows"]] == ["fastpool"]
    assert sorted(tried) == ["fastpool", "fastpool", "serial"]


def test_behind_a_section_that_fails_another_program_measures_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[str, ...]] = []

    def run(setting: trial.Setting, deadline: float) -> dict[str, trial.Answer]:
        tried.append(setting.sections)
        name = setting.sections[0]
        return {
            name: trial.Answer([Record("a case", [1.0])], "no answer" if name == "skew" else "")
        }

    monkeypatch.setattr(runner, "run", run)
    wanted = options(sections=("skew", "idle"), pools=("fastpool",))
    sections = runner.measure(wanted)["sections"]
    assert tried == [("skew", "idle"), ("idle",), ("idle",)]
    assert sections["skew"]["failures"] == {"fastpool": "no answer"}
    assert [len(sections[name]["rows"][0]["rounds"]) for name in ("skew", "idle")] == [1, 2]


def test_sections_that_ask_for_as_many_workers_share_a_pool() -> None:
    class Counted(Serial):
        opened: ClassVar[list[int]] = []
        left: ClassVar[list[int]] = []

        def open(self) -> None:
            self.opened.append(self.workers)

        def leave(self) -> None:
            self.left.append(self.workers)

    subject = Subject(Counted, 2, None, True)
    assert subject.warm() is subject.warm(2)
    subject.warm(1)  # never beside another
    assert (Counted.opened, Counted.left) == ([2, 1], [2])
    assert subject.leave() and not subject.leave()
    assert Counted.left == [2, 1]


def test_a_trial_without_an_answer_is_killed_with_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaders: list[int] = []

    def kill_session(leader: int) -> None:
        leaders.append(leader)
        procs.wait_until(lambda: len(processes.members(leader)) > 1, 15.0)
        processes.kill_session(leader)

    monkeypatch.setattr(trial, "kill_session", kill_session)
    setting = trial.Setting(("latency",), "multiprocessing.Pool", 2, None, False)
    assert trial.run(setting, 1.0)["latency"].failure == "no answer in 1 s"
    assert processes.members(leaders[0]) == set()


def test_a_trial_that_dies_says_its_last_words() -> None:
    answers = trial.run(trial.Setting(("no such section",), "fastpool", 2, None, True), 35)
    assert "KeyError: 'no such section'" in answers["no such section"].failure


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")],
)
def test_who_is_stopped_leaves_nobody_and_nothing_and_says_so(
    number: signal.Signals, name: str, tmp_path: Path
) -> None:
    arguments = ("bench", "--pools", "multiprocessing.Pool", "--only", "latency")
    run = subprocess.Popen(
        [sys.executable, "-m", "fastpool", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 20
    while len(family := processes.family(run.pid)) < 4:  # it, the trial, two workers
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.01)
    names = {pid: _started(pid) for pid in family}
    run.send_signal(number)
    out, said = run.communicate(timeout=20)
    assert (run.returncode, out) == (128 + number, "")
    assert said.strip() == f"stopped by {name}; nothing is written"
    while any(_started(pid) == start for pid, start in names.items()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_what_is_started_while_a_signal_waits_can_be_ended() -> None:
    reached = []
    with pytest.raises(stopping.Stopped, match="SIGTERM"), stopping.stops_at_signals():
        try:
            with stopping.held_back():
                signal.raise_signal(signal.SIGTERM)
                reached.append("the end of the block")
        finally:
            signal.raise_signal(signal.SIGHUP)  # is not heeded: somebody is ending them
            reached.append("the clean-up")
    assert reached == ["the end of the block", "the clean-up"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _started(pid: int) -> str:
    """When a process started; nothing if it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[21]
    except OSError:
        return ""


def test_a_wrong_value_is_found_out() -> None:
    class Liar(Serial):
        def calling(self, func: Any, *args: Any) -> Any:
            return lambda: 3

    with pytest.raises(timing.WrongValueError, match="got 3, not 2"):
        list(latency.measure(Subject(Liar, 1, None, True)))


def test_tasks_that_run_in_the_caller_are_found_out() -> None:
    class Pretender(Serial):
        has_processes = True

    with pytest.raises(timing.WrongValueError, match="did not run where"):
        Subject(Pretender, 2, None, True).warm()


def test_the_bar_moves_as_often_as_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(setting: trial.Setting, deadline: float) -> dict[str, trial.Answer]:
        return dict.fromkeys(setting.sections, trial.Answer([Record("a case", [1.0])]))

    monkeypatch.setattr(runner, "run", run)
    for quick, serial in ((False, "bandwidth serial"), (True, "serial")):
        wanted = options(sections=("latency", "bandwidth"), pools=("fastpool", "loky"), quick=quick)
        seen: list[str] = []
        runner.measure(wanted, seen.append)
        assert len(seen) == runner.steps(wanted)
        assert serial in seen  # whoever takes part, memcpy is measured


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="no C compiler")
def test_the_limits_in_c_stand_beside_the_figures() -> None:
    program = limits.build(ROOT / "benchmarks" / "c")
    measured = limits.measure(program, 5)
    assert {"pingpong", "forkjoin1", "forkjoin2", "memcpy"} <= {limit.name for limit in measured}
    report = runner.measure(options(sections=(), limits=str(program)))
    assert report["no_limits"] == "" and report["limits"][0]["unit"] == "s"


def test_without_the_program_of_the_limits_the_report_says_so(tmp_path: Path) -> None:
    assert "--limits" in runner.measure(options(sections=()))["no_limits"]
    missing = runner.measure(options(sections=(), limits=str(tmp_path / "limits")))
    assert "No such file" in missing["no_limits"] and missing["limits"] == []
    other = runner.measure(options(sections=(), limits=shutil.which("echo")))
    assert other["no_limits"].endswith("echo is not benchmarks/c/limits")


def test_every_contender_says_what_it_is() -> None:
    assert FastPool.version() is not None
    assert all(name == contender.name for name, contender in CONTENDERS.items())
    assert [name for name, contender in CONTENDERS.items() if contender.has_servers] == [
        "ray",
        "dask",
    ]
