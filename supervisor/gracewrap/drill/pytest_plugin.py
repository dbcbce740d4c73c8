"""The pytest plugin: the fixture gracewrap_drill holds a drill, and fails the test with it.

pytest loads this module in each run where gracewrap is installed, so it imports nothing; what a
drill needs is loaded by the test that asks for one.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@pytest.fixture(scope="session")
def gracewrap_drill() -> Callable[..., dict[str, Any]]:
    """Return what holds a drill: it takes the words after `gracewrap drill`, and returns what
    --json prints.

    The test fails if the drill does not pass; with check=False only if it cannot be held.
    """
    from gracewrap.drill import in_pytest

    return in_pytest.drill
