#!/usr/bin/env python3
"""Fail on every #include "folder/..." that tests/house/layers.txt does not allow."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
allowed = {}
for line in (root / "tests/house/layers.txt").read_text().splitlines():
    line = line.split("#")[0].strip()
    if line:
        name, _, targets = line.partition(":")
        allowed[name.strip()] = targets.split()


def layer_of(path):
    """The longest layer name that is a prefix of the path."""
    fits = [name for name in allowed if path == name or path.startswith(name + "/")]
    return max(fits, key=len, default=None)


def permitted(layer, included):
    for target in [layer] + allowed[layer]:
        if included == target or included.startswith(target + "/"):
            return True
    return False


bad = []
seen = 0
for source in sorted(root.glob("**/*.[ch]")):
    path = source.relative_to(root).as_posix()
    layer = layer_of(path)
    if layer is None or path.startswith(("build/", "tests/")):
        continue
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        seen += 1
        included = match.group(1)
        if "/" not in included or not permitted(layer, included):
            bad.append(f'{path}:{number}: {layer} may not include "{included}"')
print("\n".join(bad) if bad else f"{seen} includes, all on allowed edges")
if seen < 50:
    bad.append("too few includes were seen: is this the right folder?")
sys.exit(1 if bad else 0)
