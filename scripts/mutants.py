"""make mutants: print how many mutants the tests killed, and which survived. Fails below 90 %.

--show also prints the change of each survivor, which takes a second each.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

#: The smallest share of killed mutants.
MIN_KILLED = 0.9


def main() -> int:
    """Read the results of mutmut and print them. Return 1 if the tests killed too few mutants."""
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    found = subprocess.run([mutmut, "results", "--all", "true"], capture_output=True, text=True, check=True).stdout
    results = [line.strip().rpartition(": ")[::2] for line in found.splitlines() if "__mutmut_" in line]
    results = [one for one in results if one[1] != "not checked"]  # of modules that were not named
    by_file: dict[str, Counter[str]] = {}
    for name, result in results:
        by_file.setdefault(".".join(name.split(".")[1:-1]), Counter())[result] += 1
    for name, counts in sorted(by_file.items()):
        print(f"{name:22} {counts['killed']:4} of {counts.total():4} killed  {counts['killed'] / counts.total():6.1%}")
    for name, result in results:
        if result != "killed":
            print(f"  {result}: {name}")
        if result != "killed" and "--show" in sys.argv[1:]:
            diff = subprocess.run([mutmut, "show", name], capture_output=True, text=True, check=False).stdout
            print(*(f"    {line}" for line in diff.splitlines() if line[:2] in {"- ", "+ "}), sep="\n")
    killed = sum(counts["killed"] for counts in by_file.values())
    share = killed / max(1, len(results))
    print(f"\n{killed} of {len(results)} killed, {share:.1%}. Why the others survive: docs/explanation/mutants.md")
    return int(share < MIN_KILLED)


if __name__ == "__main__":
    sys.exit(main())
