"""axe-core's findings on a page in a browser, for the tests of pages."""

from typing import Any

import pytest


def serious_findings(page: Any) -> list[tuple[str, list[str]]]:
    """What makes a page hard to use for some: (rule, the first elements that break it)."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    return [
        (each["id"], [node["html"] for node in each["nodes"]][:3])
        for each in axe.Axe().run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
