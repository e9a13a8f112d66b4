"""Makes docs/images/tokens.png: one prompt under base and tuned, as the token view draws it. Needs chromium.

python docs/images/tokens.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import itlens

TASK = "Echo this sentence back."


def main() -> None:
    """Write the picture next to this file."""
    pair = itlens.load_pair(itlens.demo.base_path(), itlens.demo.tuned_path())
    sentence = "Martha and Emma win the wasps every week."
    prompt = itlens.Prompt(f"{TASK}\nText: {sentence}\nAnswer:", instruction=TASK, context=sentence, id="repeat")
    tuned = itlens.attribute(pair.tuned, prompt, max_new_tokens=12)
    base = itlens.attribute(pair.base, prompt, max_new_tokens=12)
    view = itlens.views.token_pair(base, tuned, prompt)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "tokens.html"
        page.write_text(view.html, encoding="utf-8")
        image = Path(__file__).with_suffix(".png")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        subprocess.run(
            [browser, *options, "--window-size=1000,330", "--virtual-time-budget=8000", f"--screenshot={image}",
             f"file://{page}"],
            check=True, capture_output=True,
        )  # fmt: skip
    print(image, image.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
