#!/usr/bin/env python3
"""Instructions of one token, counted by valgrind, against those on record: a measure that no other work disturbs.

    tests/bench/instructions.py --shoal build/release/cli/shoal [--record]

Small random models of a few types decode and read a prompt on one thread; the differences between a short and a long run
leave the start out.  valgrind knows no AVX-512, so these are the AVX2 kernels.  Compilers differ: only a rise of more
than a quarter fails.  Ends with 77 (not run) where valgrind is missing."""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = os.path.join(HERE, "instructions.json")
SHAPE = "--layers 2 --hidden 256 --heads 4 --kv-heads 2 --head-dim 64 --experts 8 --experts-used 2 --expert-ffn 256 " \
        "--vocab 2048 --context 256"
TYPES = ("Q4_K_M", "Q8_0", "BF16")
MORE = 0.25
WORDS = 120


def instructions(shoal, path, prompt, tokens):
    out = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", shoal, "run", path, "--raw",
                          "--temperature", "0", "-t", "1", "-n", str(tokens), prompt], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, check=True, text=True).stderr
    return int(re.search(r"I\s+refs:\s+([\d,]+)", out)[1].replace(",", ""))


def prompt_tokens(shoal, path, prompt):
    out = subprocess.run([shoal, "tokenize", path], input=prompt, stdout=subprocess.PIPE, check=True,
                         text=True).stdout
    return len(out.split())


def measure(shoal, tokenizer, folder):
    counts = {}
    for kind in TYPES:
        path = os.path.join(folder, f"{kind}.gguf")
        subprocess.run([shoal, "synth", "qwen3moe", path, *SHAPE.split(), "--type", kind, "--tokenizer", tokenizer],
                       check=True, stdout=subprocess.DEVNULL)
        long = " ".join(["word"] * WORDS)
        first, more = instructions(shoal, path, "word", 2), instructions(shoal, path, "word", 18)
        filled = instructions(shoal, path, long, 2)
        extra = prompt_tokens(shoal, path, long) - prompt_tokens(shoal, path, "word")
        counts[f"{kind} decode"] = (more - first) // 16
        counts[f"{kind} prefill"] = (filled - first) // extra
    return counts


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shoal", default="build/release/cli/shoal")
    p.add_argument("--tokenizer", default="tests/data/shoal-demo-q8_0.gguf")
    p.add_argument("--record", action="store_true", help="write the counts down")
    a = p.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is missing, nothing was counted")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(a.shoal, a.tokenizer, folder)
    if a.record:
        with open(RECORD, "w", encoding="utf-8") as f:
            json.dump(counts, f, indent=4)
            f.write("\n")
    with open(RECORD, encoding="utf-8") as f:
        known = json.load(f)
    risen = []
    for what, count in counts.items():
        print(f"{what:18} {count:12,} instructions a token, {100 * (count / known[what] - 1):+.1f} % of the record")
        if count > known[what] * (1 + MORE):
            risen.append(what)
    if risen:
        print("risen by more than a quarter: " + ", ".join(risen))
    return 1 if risen else 0


if __name__ == "__main__":
    sys.exit(main())
