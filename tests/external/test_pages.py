"""Pages as a real browser shows them, without scripts: headless Chromium, in light and in dark."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import png
from gracewrap.drill import page
from gracewrap.drill.fates import Request
from gracewrap.drill.model import Asked, Run, Verdict
from processes import require

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.slow
# No user interface, no sandbox (the tests may be root), and nothing from outside.
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--host-resolver-rules=MAP * ~NOTFOUND")  # fmt: skip
PAPER = {"light": "#ffffff", "dark": "#0d1117"}


def rendered(text: str, scheme: str, width: int, directory: Path) -> Path:
    """Return a page as PNG."""
    file, shot = directory / "page.html", directory / f"{scheme}-{width}.png"
    require(BROWSER, "chromium")
    file.write_text(text)
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    assert BROWSER is not None
    subprocess.run(
        [BROWSER, *FLAGS, *dark, f"--user-data-dir={directory / 'profile'}",
         f"--window-size={width},900", f"--screenshot={shot}", f"file://{file}"],
        capture_output=True,
        check=True,
        timeout=100,
    )  # fmt: skip
    return shot


def the_page() -> str:
    fates = ("ok", "reset", "refused", "cut", "elsewhere")
    requests = tuple(
        Request("http://127.0.0.1:3000/", 0.05 * n - 1, 0.05 * n - 0.4, fates[n // 10], n % 2 == 0)
        for n in range(50)
    )
    run = Run("bare", 1.0, requests, 2.0, 0, diverted=1.0)
    asked = Asked(("server",), urls=("http://127.0.0.1:3000/",))
    return page.html(asked, [run], Verdict("failed", ("30 requests lost",)))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1040), ("dark", 500)])
def test_the_picture_of_a_drill_is_seen(scheme, width, tmp_path):
    seen = png.colours(rendered(the_page(), scheme, width, tmp_path))
    at = ["light", "dark"].index(scheme)
    assert seen.most_common(1)[0][0] == PAPER[scheme]
    least = 300 if width > 1000 else 30  # pixels; a small picture has few that are not blended
    for fate in ("ok", "reset", "refused", "cut", "elsewhere"):
        assert seen[page.COLOURS[fate][at]] > least, fate
    assert seen[page.PHASES["stop"][at]] > least
