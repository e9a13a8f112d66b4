#!/bin/sh
# Makes docs/images/report.png from a report: sh docs/images/make.sh [REPORT] (default: that of `make demo`).
# Needs chromium. The page is drawn in the light theme, 1280 pixels wide, and cut after its first screen.
set -eu
report=${1:-runs/demo/report.html}
image=$(dirname "$0")/report.png
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
  --window-size=1280,1375 --virtual-time-budget=20000 --screenshot="$image" \
  "file://$(realpath "$report")" 2>/dev/null
size=$(wc -c <"$image")
echo "$image: $size bytes"
test "$size" -lt 400000
