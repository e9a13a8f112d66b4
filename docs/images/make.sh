#!/bin/sh
# Makes the pictures of a report in this folder: sh docs/images/make.sh [REPORT] (default: that of `make demo`).
# Needs chromium. First screens in the light and the dark theme and on a phone, and the panel of a head.
set -eu
report=$(realpath "${1:-runs/demo/report.html}")
folder=$(dirname "$0")
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

picture() { # name, width,height, 0 (dark) or 1 (light), fragment
  image=$folder/$1.png
  "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --window-size="$2" --blink-settings=preferredColorScheme="$3" --virtual-time-budget=20000 \
    --screenshot="$image" "file://$report#$4" 2>/dev/null
  size=$(wc -c <"$image")
  echo "$image: $size bytes"
  test "$size" -lt 200000
}

picture report 1200,820 1 ""
picture report-dark 1200,820 0 ""
picture report-narrow 420,820 1 ""
picture head 1200,820 1 /head/3/2
