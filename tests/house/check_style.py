#!/usr/bin/env python3
"""Fail on what the house style forbids and a script can see: long functions, files and lines,
banned calls, tabs, headers without a guard or a contract."""
import pathlib
import re
import sys

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1000
LINE_MAX = 120
BANNED = ("strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "atoi", "atol", "atof", "alloca", "system",
          "rand", "srand", "tmpnam", "mktemp")

root = pathlib.Path(__file__).resolve().parents[2]
bad = []


def check_lines(path, lines):
    if len(lines) > FILE_LINES_MAX:
        bad.append(f"{path}: {len(lines)} lines; a file has at most {FILE_LINES_MAX}")
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            bad.append(f"{path}:{number}: a tab")
        if len(line) > LINE_MAX:
            bad.append(f"{path}:{number}: {len(line)} columns; at most {LINE_MAX}")
        code = re.sub(r'"(\\.|[^"\\])*"|//.*', "", line)
        for name in BANNED:
            if re.search(rf"(?<![\w.>]){name}\s*\(", code) and not line.lstrip().startswith("*"):
                bad.append(f"{path}:{number}: {name}() is banned")


def check_functions(path, lines):
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{") or (line.endswith("{") and line[:1].isalpha() and "(" in line):
            start = number
        elif line.startswith("}"):
            if start and not line.startswith("};") and number - start - 1 > FUNCTION_LINES_MAX:
                bad.append(f"{path}:{start}: a function of {number - start - 1} lines; at most {FUNCTION_LINES_MAX}")
            start = None


files = [p for p in sorted(root.glob("**/*.[ch]")) if not p.relative_to(root).as_posix().startswith("build/")]
for source in files:
    path = source.relative_to(root).as_posix()
    lines = source.read_text().splitlines()
    check_lines(path, lines)
    check_functions(path, lines)
    if path.endswith(".h") and not any(line.startswith("#ifndef") for line in lines[:60]):
        bad.append(f"{path}: no include guard")
    if not lines or not lines[0].startswith("/*"):
        bad.append(f"{path}: does not open with the comment that says what it is")
print("\n".join(bad) if bad else f"{len(files)} files, in style")
sys.exit(1 if bad else 0)
