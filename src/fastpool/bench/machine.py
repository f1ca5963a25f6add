"""On what the figures were measured, as far as the system lets itself be read."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Tell on what the figures were measured, as far as the system lets itself be read.

    Returns
    -------
    dict of str to str
        What cannot be read is left out.
    """
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    facts = {
        "CPU": _cpu_model(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "governor": read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "CPU quota": _cpu_quota(),
        "memory limit": _memory_limit(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "load": f"{load} (1, 5 and 15 minutes)",
    }
    return {name: fact for name, fact in facts.items() if fact}


def available_memory() -> int:
    """Bytes that programs may still take, as the kernel estimates it."""
    for line in read_text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    return 2**62


def _cpu_model() -> str:
    for line in read_text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return f"{value.strip()} ({platform.machine()})"
    return platform.machine()


def _cpu_quota() -> str:
    """The tightest limit among this process's control group and all above it."""
    found = []
    for folder in _control_groups():
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            found.append((int(quota) / int(period), folder))
    if not found:
        return ""
    cpus, folder = min(found)
    return f"{cpus:g} CPUs ({folder})"


def _memory_limit() -> str:
    """As `_cpu_quota`."""
    limits = [(read_text(folder / "memory.max"), folder) for folder in _control_groups()]
    found = [(int(limit), folder) for limit, folder in limits if limit.isdigit()]
    if not found:
        return ""
    size, folder = min(found)
    return f"{size / 2**30:.1f} GiB ({folder})"


def _control_groups() -> Iterator[Path]:
    for line in read_text("/proc/self/cgroup").splitlines():
        number, _, path = line.split(":", 2)
        if number == "0":
            group = Path("/sys/fs/cgroup") / path.lstrip("/")
            yield from (group, *group.parents[:-2])


def read_text(path: str | Path) -> str:
    """What a file says; nothing where it can't be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
