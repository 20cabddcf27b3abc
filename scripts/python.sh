#!/bin/sh
# Print the first Python on this machine that can run the given Airflow series. PYTHON=… allows only that Python.
set -eu
case "$1" in
    2.11 | 3.0) newest=12 ;;
    *) newest=13 ;;
esac
for python in ${PYTHON:-python3 python3.12 python3.11 python3.10 python3.13 python}; do
    if "$python" -c "import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null; then
        echo "$python"
        exit 0
    fi
done
echo "Airflow $1 needs Python 3.10 to 3.$newest with venv${PYTHON:+, not $PYTHON}. Name one with PYTHON=…" >&2
exit 1
