#!/bin/sh
# Find a chromium for the tests in a browser. Install Debian's, if this user may.
set -eu
if [ -n "${POLARIS_CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium with apt-get, once"
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet chromium >/dev/null ||
        { apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet chromium >/dev/null; }
else
    echo "The tests need chromium. Install it (Debian: apt-get install chromium), or name one: POLARIS_CHROMIUM=/path" >&2
    exit 1
fi
