"""One profile for all property tests, and the order in which files of tests are handed out."""

from __future__ import annotations

import hypothesis
import pytest

# Deadlines measure the machine's other work, not the code's: first calls compile shape checks.
hypothesis.settings.register_profile("mifo", deadline=None)
hypothesis.settings.load_profile("mifo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training runs first: they are the longest, and one process has to do each file of them."""
    items.sort(key=lambda item: "behaviour" not in item.path.parts)
