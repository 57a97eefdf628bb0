#!/usr/bin/env python3
"""Measure shoal and llama-bench on the same file in the same run, in turns, and print the ratio of their medians.

    tests/bench/beside.py --shoal build/release/cli/shoal --peer PATH/llama-bench -t 1,2 MODEL.gguf...

Absolute figures of a shared machine mean little; ratios of alternating runs do (shoal bench --compare).  The peer is
whatever llama-bench you have; nothing here builds it.  --extra gives it options, such as -fa 1."""
import argparse
import json
import shlex
import subprocess


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shoal", default="build/release/cli/shoal")
    p.add_argument("--peer", required=True)
    p.add_argument("--extra", default="")
    p.add_argument("-t", "--threads", default="1,2")
    p.add_argument("-p", "--prompt", default="512")
    p.add_argument("-n", "--generate", default="64")
    p.add_argument("-d", "--depth", default="0")
    p.add_argument("-r", "--rounds", default="5")
    p.add_argument("models", nargs="+")
    a = p.parse_args()
    peer = (f"{shlex.quote(a.peer)} -m {{model}} -t {{threads}} -p {{prompt}} -n {{generate}} -d {{depth}} -r 1 -o json "
            f"{a.extra}")
    print(f"{'model':40} threads  {'prefill':>24}  {'decode':>24}  of memory's rate")
    for model in a.models:
        out = subprocess.run([a.shoal, "bench", model, "-t", a.threads, "-p", a.prompt, "-n", a.generate, "-d", a.depth,
                              "-r", a.rounds, "--json", "--compare", peer], stdout=subprocess.PIPE, check=True).stdout
        for report in map(json.loads, out.splitlines()):
            cells = [f"{m['median']:8.1f} /{m['peer']['median']:8.1f} = {m['ratio']:4.2f}"
                     for m in (report["prefill"], report["decode"])]
            part = report["decode"]["weight_bytes_per_second"] / report["read_bandwidth"]
            print(f"{model.rsplit('/', 1)[-1]:40} {report['threads']:7}  {cells[0]:>24}  {cells[1]:>24}  {part:.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
