"""Loops are kept on the disk, and made anew when a file has changed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import mifo_ext.loops.compiled
from mifo_ext.loops.compiled import compiled


def test_a_kept_loop_is_made_anew_when_another_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop_of_a_test.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)

    def is_kept(state: str) -> bool:
        monkeypatch.setattr(mifo_ext.loops.compiled, "_state", lambda: state)
        module = importlib.import_module("loop_of_a_test")
        monkeypatch.delitem(sys.modules, "loop_of_a_test")
        loop = compiled("int64(int64)")(module.double)
        assert loop(4) == 8
        return sum(loop.stats.cache_hits.values()) > 0

    states = ["one", "one", "other", "one"]
    assert [is_kept(state) for state in states] == [False, True, False, True]
