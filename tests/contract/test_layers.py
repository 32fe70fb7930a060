"""Imports point one way: core knows arithmetic only, and only the adapters know verl.

The source is read, not run, so imports inside functions and `TYPE_CHECKING` count as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
HOST = {"verl", "ray", "transfer_queue", "tensordict"}
HOST_LAYERS = {"mifo_ext/adapters", "mifo_ext/platforms"}
CORE_MAY_IMPORT = {"torch", "jaxtyping", *sys.stdlib_module_names}
DYNAMIC_IMPORTS = {"import_module", "__import__"}


class Import(NamedTuple):
    path: str
    line: int
    module: str


def imports_below(root: Path, folder: str) -> Iterator[Import]:
    for file in sorted((root / folder).rglob("*.py")):
        path = file.relative_to(root).as_posix()
        package = Path(path).parent.as_posix().split("/")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in modules_of(node, package):
                yield Import(path, node.lineno, module)  # type: ignore[attr-defined]


def modules_of(node: ast.AST, package: list[str]) -> list[str]:
    """What a statement imports, absolute; `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        return [f"{source}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return [str(node.args[0].value)] if name in DYNAMIC_IMPORTS else []
    return []


def core_breaches(root: Path) -> list[Import]:
    return [
        found
        for found in imports_below(root, "mifo_ext/core")
        if found.module.split(".")[0] not in CORE_MAY_IMPORT
        and not found.module.startswith("mifo_ext.core.")
    ]


def host_breaches(root: Path) -> list[Import]:
    return [
        found
        for folder in ("mifo_ext", "eval")
        for found in imports_below(root, folder)
        if found.module.split(".")[0] in HOST
        and not any(found.path.startswith(f"{layer}/") for layer in HOST_LAYERS)
    ]


def test_core_imports_torch_jaxtyping_and_the_standard_library_only() -> None:
    assert core_breaches(ROOT) == []


def test_only_adapters_and_platforms_import_verl_and_what_it_runs_on() -> None:
    assert host_breaches(ROOT) == []


def test_core_and_the_settings_load_without_verl() -> None:
    modules = [f"mifo_ext.core.{file.stem}" for file in (ROOT / "mifo_ext/core").glob("[!_]*.py")]
    program = (
        f"import sys, {', '.join(sorted(modules))}, mifo_ext.settings\n"
        f"print(sorted({HOST!r} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "import verl",
        "from verl.trainer import main_ppo",
        "def late():\n    import ray.util",
        "from importlib import import_module\nmodule = import_module('tensordict.nn')",
        "if TYPE_CHECKING:\n    from transfer_queue import x",
    ],
)
def test_a_forbidden_import_is_found_wherever_it_hides(tmp_path: Path, line: str) -> None:
    for folder in ("mifo_ext/core", "mifo_ext/data", "mifo_ext/adapters"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text(line)

    assert [found.path for found in core_breaches(tmp_path)] == ["mifo_ext/core/module.py"]
    assert [found.path for found in host_breaches(tmp_path)] == [
        "mifo_ext/core/module.py",
        "mifo_ext/data/module.py",
    ]


@pytest.mark.parametrize(
    "line", ["import numpy", "from mifo_ext import settings", "from ..adapters import losses"]
)
def test_core_may_not_reach_out_of_itself(tmp_path: Path, line: str) -> None:
    (tmp_path / "mifo_ext/core").mkdir(parents=True)
    (tmp_path / "mifo_ext/core/module.py").write_text(
        f"import math\nfrom . import tokens\nfrom mifo_ext.core import weights\n{line}\n"
    )

    assert [found.line for found in core_breaches(tmp_path)] == [4]
