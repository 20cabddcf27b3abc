#!/bin/sh
# Write constraints/airflow-SERIES.txt: the versions of all packages that the tests install, for every supported Python.
#   scripts/constraints.sh UV SERIES
set -eu
uv=$1 series=$2
version=$(sed -n "s/^AIRFLOW_VERSION_$series *:= *//p" Makefile)
until=$(sed -n "s/^RESOLVED_UNTIL_$series *:= *//p" Makefile)
case " $(sed -n 's/^TESTED *:= *//p' Makefile) " in *" $series "*) tested="--group system --group browser --group lineage" ;; *) tested="" ;; esac
case "$series" in "$(sed -n 's/^NEWEST *:= *//p' Makefile)") newest="--group celery --group conformance --group docs --group lint --group release" ;; *) newest="" ;; esac
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
echo "apache-airflow==$version" >"$wanted"
"$uv" pip compile --quiet --universal --python-version 3.10 --fork-strategy fewest --upgrade --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --extra local --group test --group mutants $tested $newest \
    ${until:+--exclude-newer "$until"} \
    --constraints "$wanted" --output-file "$wanted.out" pyproject.toml
# The markers can go: a constraint on a package that a Python does not need has no effect there.
sed 's/ *;.*//' "$wanted.out" | sort -u >"constraints/airflow-$series.txt"
rm -f "$wanted.out"
echo "constraints/airflow-$series.txt: $(wc -l <"constraints/airflow-$series.txt") packages"
