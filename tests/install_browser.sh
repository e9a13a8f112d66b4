#!/bin/sh
# Installs Debian's Chromium and its driver, and axe-core (npm) into tests/.axe, where they are missing and can be
# installed; never fails.
here=$(dirname "$0")
axe=axe-core-4.14.1
if ! [ -f "$here/.axe/axe.min.js" ] && command -v npm >/dev/null 2>&1; then
  mkdir -p "$here/.axe"
  (cd "$here/.axe" && npm pack --silent axe-core@4.14.1 >/dev/null 2>&1 && tar xzf "$axe.tgz" && mv package/axe.min.js . && rm -rf package "$axe.tgz") ||
    echo "axe-core could not be installed: the tests of accessibility will be listed as skipped" >&2
fi
if command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1; then
  exit 0
fi
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  apt-get update >/dev/null 2>&1 && apt-get install -y -qq chromium chromium-driver >/dev/null 2>&1 && exit 0
fi
echo "chromium and chromedriver are not installed: the browser tests will be listed as skipped" >&2
exit 0
