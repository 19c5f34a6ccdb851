"""Run logs: one console line, one JSONL record, progress bars."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .documents import read_text
from .files import save_text
from .said import check_file, check_path

T = TypeVar("T")
console = Console(stderr=True, soft_wrap=True)


def complain(text: str) -> None:
    """Print what went wrong, red; it is lost where the terminal is a file on a full disk, and nothing else is."""
    with suppress(OSError):
        console.print(text, style="red", markup=False)


def progress_bar() -> Progress:
    """Return a progress bar with count, elapsed and remaining time, drawn on stderr."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)


def track(items: Iterable[T], description: str, *, total: int) -> Iterator[T]:
    """Iterate with a progress bar on stderr."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)


class JsonlLog:
    """Append records to a JSONL file; on resuming, records past the resumed step are dropped."""

    def __init__(self, path: Path, *, resume_step: int = 0) -> None:
        kept = [line for line in self.read(path) if line.get("step", 0) <= resume_step] if resume_step else []
        save_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.path, self.file = path, path.open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record.

        Raises:
            OSError: if it cannot be written; then the file is as before.
        """
        line = (json.dumps({k: _round(v) for k, v in record.items()}) + "\n").encode()
        size = os.fstat(self.file.fileno()).st_size
        try:
            while line:
                line = line[self.file.write(line) :]
        except OSError as error:
            os.ftruncate(self.file.fileno(), size)
            raise OSError(f"{self.path}: could not be written ({error}); is the disk full?") from error

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """Read all records but the last where it was cut short.

        Raises:
            ValueError: naming the line that is none.
        """
        *lines, _ = read_text(check_file(path)).split("\n") if check_path(path).exists() else [""]
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)  # with NaN, which figures may be
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict) or not isinstance(record.get("step", 0), int | float):
                raise ValueError(f"{path}: line {number} is no record; the file was damaged or edited")
            records.append(record)
        return records


def _round(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def git_revision() -> str:
    """Return the short git revision of the source tree, with ``+`` when it has changes, or ``unknown``."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def hardware() -> str:
    """Name the machine as reports do: GPU or CPU model, cores used."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = "CPU"
    if sys.platform == "linux":
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Return the elapsed seconds."""
        return time.perf_counter() - self.start
