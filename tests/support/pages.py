"""Reading the documentation's pages: links, tables, code blocks, commands."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
NOT_THERE = "\N{EN DASH}"
"""What a page writes for a key that a configuration does not have."""


def links(page: Path) -> list[tuple[str, str, str]]:
    """Links into the repository: text, path, anchor."""
    found = LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S))
    inside = [(text, target) for text, target in found if "://" not in target]
    return [(text, *target.partition("#")[::2]) for text, target in inside]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@cache
def defined_in(path: Path) -> set[str]:
    """Names of functions, classes, their members and module values of a Python file."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for item, owner in [(node, ""), *((member, f"{node.name}.") for member in members)]:  # type: ignore[attr-defined]
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                names.add(owner + item.name)
            elif isinstance(item, ast.AnnAssign | ast.Assign):
                targets = [item.target] if isinstance(item, ast.AnnAssign) else item.targets
                names |= {owner + target.id for target in targets if isinstance(target, ast.Name)}
    return names


def rows(text: str, *, header: str) -> list[list[str]]:
    """Cells of every table below a header line that starts so, without their backticks."""
    cells = []
    for table in re.findall(rf"^{re.escape(header)}.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, flags=re.M):
        cells += [line.strip("| \n").split(" | ") for line in table.splitlines()]
    return [[cell.strip().strip("`") for cell in row] for row in cells]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.S | re.M)


def commands(page: Path, program: str) -> list[list[str]]:
    """Words behind a program's name, of every command in a page."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    lines += re.findall(rf"`({re.escape(program)} [^`]+)`", text)
    stripped = [line.strip() for line in lines]
    return [
        shlex.split(line.removeprefix(program), comments=True)
        for line in stripped
        if line.startswith(f"{program} ")
    ]


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """A configuration by dotted keys."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flat(child, f"{path}.{name}" if path else str(name)).items()
    }


def shown(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]).strip('"') if key in values else NOT_THERE
