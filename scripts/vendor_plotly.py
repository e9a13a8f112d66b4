"""Vendor plotly.js' cartesian bundle into itlens/report/assets, with its licence beside it.

`python scripts/vendor_plotly.py`: packs the version below with npm, refuses a package whose hash is another, and writes
plotly-cartesian.min.js and plotly-cartesian.LICENSE.txt. The version is that of the plotly.js which the pinned plotly
(constraints.txt) ships, since Python writes figures for that schema; to raise it, take VERSION and INTEGRITY from
`npm view plotly.js-cartesian-dist-min@VERSION version dist.integrity`.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "plotly.js-cartesian-dist-min", "4.1.1"
INTEGRITY = "sha512-o8GrFeusncwBIxbBynRJpY4pkgVB6caM+JLpwrLYbbsO7dZ8FJ+SVN2Fr+L7kiG/Z6w4P5O0Jus/Qr5EefHVeg=="
ASSETS = Path(__file__).parents[1] / "itlens" / "report" / "assets"
FILES = {
    "package/plotly-cartesian.min.js": "plotly-cartesian.min.js",
    "package/LICENSE": "plotly-cartesian.LICENSE.txt",
}


def main() -> None:
    """Pack, check and write."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            sys.exit(f"{archive.name} has the hash sha512-{digest}; expected {INTEGRITY}. Nothing was written.")
        with tarfile.open(archive) as package:
            for name, target in FILES.items():
                member = package.extractfile(name)
                if member is None:
                    sys.exit(f"{archive.name} has no {name}. Nothing more was written.")
                (ASSETS / target).write_bytes(member.read())
    print(f"{PACKAGE} {VERSION} is in {ASSETS}")


if __name__ == "__main__":
    main()
