#!/usr/bin/env python3
"""Drive `shoal serve` with the unmodified openai package of npm, by openai_node.mjs.

usage: openai_node.py --shoal BINARY --model FILE --folder DIR
The package is installed into DIR, unless the environment names another folder that has it in its node_modules
(SHOAL_OPENAI_NODE). Without node, npm or npm's index the test is skipped (77)."""
import argparse
import os
import pathlib
import shutil
import subprocess

from openai_client import Server, skip

INDEX_SECONDS, INSTALL_SECONDS = 10, 120
BRIEFLY = ["--fetch-retries", "0", "--fetch-timeout", "8000", "--no-audit", "--no-fund", "--no-update-notifier"]


def npm(folder, *arguments, seconds):
    """Whether npm does it in time."""
    try:
        done = subprocess.run(["npm", *arguments, *BRIEFLY], cwd=folder, capture_output=True, timeout=seconds)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False


def installed(folder):
    """A folder with the package; skips where there is none to be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            skip(f"there is no {program}")
    given = os.environ.get("SHOAL_OPENAI_NODE")
    if given:
        return given
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "node_modules" / "openai" / "package.json").exists():
        return str(folder)
    if not npm(folder, "view", "openai", "version", seconds=INDEX_SECONDS):
        skip("npm's index is out of reach")
    if not npm(folder, "install", "--no-save", "openai", seconds=INSTALL_SECONDS):
        skip("npm could not install openai")
    return str(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--folder"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    folder = installed(options.folder)
    server = Server(options.shoal, options.model)
    try:
        script = pathlib.Path(__file__).parent / "openai_node.mjs"
        subprocess.run(["node", str(script), folder, server.url], check=True, timeout=120)
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"


if __name__ == "__main__":
    main()
