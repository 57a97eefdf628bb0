#!/usr/bin/env python3
"""Measure shoal and llama-bench on the same file in the same run, in turns, and print the ratio of their medians.

    tests/bench/beside.py --shoal build/release/cli/shoal --peer PATH/llama-bench -t 1,2 MODEL.gguf...

Absolute figures of a shared machine mean little; ratios of alternating runs do.  The peer is whatever llama-bench
you have; nothing here builds it."""
import argparse
import json
import statistics
import subprocess


def shoal(binary, model, threads, prompt, generate):
    out = subprocess.run([binary, "bench", model, "-t", str(threads), "-p", str(prompt), "-n", str(generate), "-r", "1",
                          "--json"], capture_output=True, check=True).stdout
    j = json.loads(out.splitlines()[-1])
    return j["prefill"]["median"], j["decode"]["median"]


def peer(binary, model, threads, prompt, generate):
    out = subprocess.run([binary, "-m", model, "-t", str(threads), "-p", str(prompt), "-n", str(generate), "-r", "1",
                          "-o", "json"], capture_output=True, check=True).stdout
    rates = {("decode" if r["n_gen"] else "prefill"): r["avg_ts"] for r in json.loads(out)}
    return rates["prefill"], rates["decode"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shoal", default="build/release/cli/shoal")
    p.add_argument("--peer", required=True)
    p.add_argument("-t", "--threads", default="1,2")
    p.add_argument("-p", "--prompt", type=int, default=512)
    p.add_argument("-n", "--generate", type=int, default=64)
    p.add_argument("-r", "--rounds", type=int, default=5)
    p.add_argument("models", nargs="+")
    a = p.parse_args()
    print(f"{'model':40} threads  {'prefill':>24}  {'decode':>24}")
    for model in a.models:
        for threads in map(int, a.threads.split(",")):
            ours, theirs = [], []
            for _ in range(a.rounds):
                ours.append(shoal(a.shoal, model, threads, a.prompt, a.generate))
                theirs.append(peer(a.peer, model, threads, a.prompt, a.generate))
            cells = []
            for i in range(2):
                mine, other = (statistics.median(x[i] for x in side) for side in (ours, theirs))
                cells.append(f"{mine:8.1f} /{other:8.1f} = {mine / other:4.2f}")
            print(f"{model.rsplit('/', 1)[-1]:40} {threads:7}  {cells[0]:>24}  {cells[1]:>24}", flush=True)


if __name__ == "__main__":
    main()
