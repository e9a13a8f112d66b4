"""A headless Chromium for tests that look at pages: opens a file, and says what it drew, asked for, complained about.

Where Chromium or its driver is not installed, the tests that need it are listed as skipped, with that reason.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-ipc-flooding-protection",  # hundreds of fragments are opened in a second
)
_BINARIES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One open page. `run` evaluates JavaScript, `requests` and `complaints` say what the page did so far."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._drawn: tuple[Path, int, bool] | None = None  # what `draw` shows, as long as nothing else is opened
        self._messages: list[dict[str, Any]] = []

    def open(self, path: Path, at: str = "", *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file at this fragment and width, in a light or dark system theme, and start the records anew."""
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self._messages, self._drawn = [], None
        self.resize(width, height)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        self.driver.get("about:blank")  # a fragment alone would load nothing
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(path.resolve().as_uri() + (f"#{at}" if at else ""))

    def draw(self, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Open a file with everything drawn; the page of the test before, where it is the same, is not drawn again.

        For tests that read a page, or open its folds. The one that turns to the other theme (`fits`) is the last.
        """
        if self._drawn != (path, width, dark):
            self.open(path, width=width, dark=dark)
            self.draw_all()
            self._drawn = path, width, dark

    def turn(self) -> None:
        """Press the button that changes between light and dark."""
        self._drawn = None
        self.run("document.querySelector('button.theme').click()")

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window of an open page so wide."""
        self._drawn = None
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def draw_all(self) -> None:
        """Show every chapter of a page, and wait until everything in it is drawn."""
        self.driver.execute_async_script("const done = arguments[0]; itlens.whole(true).then(done, done)")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return ({script})")

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Wait until a JavaScript expression is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self.run(condition), condition)

    def requests(self) -> list[str]:
        """Every address that the page asked for, its own included, data: and blob: left out."""
        for entry in self.driver.get_log("performance"):
            self._messages.append(json.loads(entry["message"])["message"])
        asked = [m["params"]["request"]["url"] for m in self._messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """What the browser's console says: errors, warnings, and violations of the page's policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def faults(self, axe: Path) -> list[str]:
        """What axe-core finds serious or critical on the page as it is: rule, and where."""
        self.driver.execute_script(axe.read_text(encoding="utf-8") + "; window.axe = axe")
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then((all) => done(all"
            ".violations.filter((v) => ['serious', 'critical'].includes(v.impact))"
            ".map((v) => `${v.id}: ${v.nodes.slice(0, 5).map((n) => n.target.join(' ')).join('; ')}`)))"
        )
        return list(found)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the whole page, or of the window."""
        import base64

        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(shot["data"]))


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
_BACKGROUNDS = ("rgb(246, 247, 249)", "rgb(15, 18, 22)")  # light, dark


def fits(page: Page, width: int, *, dark: bool) -> None:
    """Assert that a page that is open at this width and in this theme has nothing wider, and in the other theme.

    The page stays in the other theme: going back would draw all its figures once more, for nobody.
    """
    assert page.run(BACKGROUND) == _BACKGROUNDS[dark]
    assert page.run("document.documentElement.scrollWidth") <= width, "dark" if dark else "light"
    page.turn()
    assert page.run(BACKGROUND) == _BACKGROUNDS[not dark]
    assert page.run("document.documentElement.scrollWidth") <= width, "light" if dark else "dark"


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A browser with a fresh profile folder; skips the test when there is no browser to drive."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: dev)")
    binary = next((found for name in _BINARIES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = selenium.ChromeService(executable_path=driver)
    window = selenium.Chrome(options=options, service=service)
    window.set_script_timeout(120)  # a busy machine takes a minute to draw a whole report
    window.get("about:blank")  # the start page asks for pieces of itself, which would count as the test's
    try:
        yield Page(window)
    finally:
        window.quit()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One Chromium for the whole test run."""
    with open_browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page
