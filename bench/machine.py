"""What Linux says of processes: which core they may use, the CPU time and the memory of a process and its children."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def pin(pid: int, core: int) -> None:
    """Keep a process, all its threads and children on one core, where the machine has more than one."""
    if (os.cpu_count() or 1) < 2:
        return
    for process in tree(pid):
        for thread in _numbers(Path(f"/proc/{process}/task")):
            try:
                os.sched_setaffinity(thread, {core})
            except ProcessLookupError:
                continue


def pinned(core: int) -> list[str]:
    """The words before a command that let it begin on one core."""
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []


def tree(pid: int) -> list[int]:
    """A process, its children, their children."""
    children: dict[int, list[int]] = {}
    for process in _numbers(Path("/proc")):
        fields = _stat(process)
        if fields:
            children.setdefault(int(fields[1]), []).append(process)
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree so far."""
    ticks = 0
    for process in tree(pid):
        fields = _stat(process)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def rss_mb(pid: int) -> list[float]:
    """Resident memory of each process of a tree, largest first. Megabytes of 2**20."""
    sizes = []
    for process in tree(pid):
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
        sizes.append(pages * _PAGE_KB / 1024)
    return sorted(sizes, reverse=True)


def _numbers(folder: Path) -> Iterator[int]:
    try:
        yield from (int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
    except OSError:
        return


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces; none for a process that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return []


def model_name() -> str:
    """What the CPU calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"
