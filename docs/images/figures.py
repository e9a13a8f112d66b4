"""Makes pictures of single figures of a report, next to this file: python docs/images/figures.py [REPORT]

Default: the report of `make demo`. Needs chromium and selenium (the extra "dev").
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = {  # name: anchor in the page, dark theme or not, pixels down from there
    "weights": ("weight_delta--head-by-head", True, 645),
    "attention": ("activation--where-heads-look", False, 760),
}
MOST = 200_000  # bytes of a picture
MARGIN = 16  # pixels


def main() -> None:
    """Write the pictures, each from a heading of the page down."""
    sys.path.insert(0, str(ROOT))
    from tests.browser import open_browser

    report = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/report.html")
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as page:
        for name, (anchor, dark, high) in FIGURES.items():
            page.open(report, anchor, width=1200, dark=dark)
            page.wait("window.itlens !== undefined")
            page.driver.execute_async_script("setTimeout(arguments[0], 4000)")  # figures are drawn by and by
            left, top, width = page.run(
                "((heading, chapter) => [chapter.left + scrollX, heading.top + scrollY, chapter.width])"
                f"(document.getElementById('{anchor}').getBoundingClientRect(),"
                f" document.getElementById('{anchor}').parentElement.getBoundingClientRect())"
            )
            clip = {"x": left - MARGIN, "y": top - MARGIN, "width": width + 2 * MARGIN, "height": high, "scale": 1}
            shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
            image = Path(__file__).with_name(f"{name}.png")
            image.write_bytes(base64.b64decode(shot["data"]))
            print(image, image.stat().st_size, "bytes")
            assert image.stat().st_size < MOST, "the picture is too large"


if __name__ == "__main__":
    main()
