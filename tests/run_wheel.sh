#!/bin/sh
# Build the wheel, install it into an empty environment that sees the dependencies of PYTHON (and not the working
# tree), and run two findings of the demo there. Usage: run_wheel.sh PYTHON
set -eu
python=$(realpath -s "$1")
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$room/dist" .
"$python" -m venv --without-pip "$room/env"
"$python" - "$room/env" <<'END'
import site, sys
from pathlib import Path

(packages,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
(packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
END
"$python" -m pip --python "$room/env/bin/python" install --quiet --no-deps --ignore-installed "$room"/dist/itlens-*.whl
cd "$room"
env/bin/python - <<'END'
import sys
from pathlib import Path

import itlens

assert Path(itlens.__file__).is_relative_to(sys.prefix), f"itlens comes from {itlens.__file__}"
assert (Path(itlens.__file__).parent / "py.typed").exists(), "the wheel has no py.typed"
END
OMP_NUM_THREADS=1 env/bin/itlens demo --limit 6 --probes attribution,weight_delta --out run --quiet
test -s run/report.html
test -s run/findings.json
echo "the wheel runs: $(ls dist)"
