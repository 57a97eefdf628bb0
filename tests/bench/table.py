#!/usr/bin/env python3
"""The table of docs/performance.md: shoal beside llama.cpp on the same files, threads and machine, in turns.

    tests/bench/table.py --peer FOLDER --models FOLDER [--rows decode,prefill,batch,types,context,load] [-r 3]

FOLDER of --peer holds llama-bench, llama-batched-bench and llama-completion, built by you with the flags that are best
for the machine.  Models are random weights in the shapes of small and large mixtures and of a dense model; those that
--models lacks are written there by shoal synth.  Each line says what was reached, the ratio of the medians, the least
ratio that is asked for, and the part of a ceiling that was measured in the same run.  Ends with 1 when a ratio is below
what is asked for."""
import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time

SMALL = "qwen3moe --layers 16 --hidden 1024 --heads 16 --kv-heads 4 --head-dim 128 --experts 32 --experts-used 4 " \
        "--expert-ffn 768"
LARGE = "qwen3moe --layers 12 --hidden 2048 --heads 32 --kv-heads 4 --head-dim 128 --experts 128 --experts-used 8 " \
        "--expert-ffn 768"
DENSE = "llama --layers 16 --hidden 2048 --heads 32 --kv-heads 8 --head-dim 64 --ffn 8192 --vocab 32000"
SHAPES = {"moe-1b": SMALL, "moe-8b": LARGE, "dense-1b": DENSE}
CONTEXT = 40960

# What a model's decode must reach with 1 and 2 threads.
DECODE = [("moe-8b", "Q4_K_M", 1.3, 1.15), ("moe-1b", "Q4_K_M", 1.3, 1.15), ("moe-1b", "Q4_0", 1.3, 1.15),
          ("moe-1b", "Q8_0", 1.2, 1.05), ("dense-1b", "Q4_K_M", 1.2, 1.0), ("dense-1b", "Q4_0", 1.2, 1.0),
          ("dense-1b", "Q8_0", 1.2, 1.0)]
TYPES = ["BF16", "F16", "MXFP4", "Q5_K_M", "Q6_K", "IQ4_XS"]
PREFILL = {"moe-1b": 2.0, "moe-8b": 2.0, "dense-1b": 1.6}

failed = []


def model(a, shape, kind):
    path = os.path.join(a.models, f"{shape}-{kind}.gguf")
    if not os.path.exists(path):
        command = [a.shoal, "synth", *SHAPES[shape].split(), "--type", kind, "--context", str(CONTEXT), "--tokenizer",
                   a.tokenizer]
        command.insert(3, path)
        subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def line(what, threads, ours, theirs, least, part=None, seconds=False):
    ratio = theirs / ours if seconds else ours / theirs
    if ratio < least:
        failed.append(f"{what}, {threads} threads")
    share = "" if part is None else f"{100 * part:.0f} %"
    figures = f"{ours:.2f} s / {theirs:.2f} s" if seconds else f"{ours:.1f} / {theirs:.1f}"
    print(f"| {what} | {threads} | {figures} | {ratio:.2f} | {least} | {share} |", flush=True)


def bench(a, path, options, peer):
    out = subprocess.run([a.shoal, "bench", path, *options.split(), "-r", str(a.rounds), "--json", "--compare", peer],
                         stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(text) for text in out.splitlines()]


def tool(a, name):
    return shlex.quote(os.path.join(a.peer, name))


def plain(a):
    return f"{tool(a, 'llama-bench')} -m {{model}} -t {{threads}} -p {{prompt}} -n {{generate}} -d {{depth}} -r 1 " \
           f"-o json {a.extra} 2>/dev/null"


def memory_part(report, m):
    return m["weight_bytes_per_second"] / report["read_bandwidth"]


def decode(a):
    for shape, kind, one, two in DECODE:
        for report in bench(a, model(a, shape, kind), "-t 1,2 -p 0 -n 64", plain(a)):
            m = report["decode"]
            line(f"decode {shape} {kind}", report["threads"], m["median"], m["peer"]["median"],
                 one if report["threads"] == 1 else two, memory_part(report, m))


def types(a):
    for kind in TYPES:
        for report in bench(a, model(a, "moe-1b", kind), "-t 1,2 -p 0 -n 64", plain(a)):
            m = report["decode"]
            line(f"decode moe-1b {kind}", report["threads"], m["median"], m["peer"]["median"], 1.05,
                 memory_part(report, m))


def prefill(a):
    for shape, kind, _, _ in DECODE:
        for report in bench(a, model(a, shape, kind), "-t 1,2 -p 512 -n 0", plain(a)):
            m = report["prefill"]
            line(f"prefill of 512 {shape} {kind}", report["threads"], m["median"], m["peer"]["median"], PREFILL[shape],
                 m["operations_per_second"] / report["operations"]["int8"])


def batch(a):
    peer = f"{tool(a, 'llama-batched-bench')} -m {{model}} -t {{threads}} -tb {{threads}} -npp {{depth}} " \
           f"-ntg {{generate}} -npl 4,8,16 -c 4096 -b 2048 -ub 512 --output-format jsonl {a.extra} 2>/dev/null"
    for shape, kind in (("moe-1b", "Q4_K_M"), ("moe-1b", "Q8_0"), ("moe-8b", "Q4_K_M")):
        for report in bench(a, model(a, shape, kind), "-t 2 -p 0 -n 32 -d 64 -b 4,8,16", peer):
            for m in report["measures"]:
                line(f"decode {shape} {kind}, {m['batch']} at once", 2, m["median"], m["peer"]["median"], 1.3)


def context(a):
    path = model(a, "moe-1b", "Q4_K_M")
    for depth in a.depths.split(","):
        for report in bench(a, path, f"-t 2 -p 0 -n 32 -d {depth}", plain(a)):
            m = report["decode"]
            line(f"decode moe-1b Q4_K_M after {depth}", 2, m["median"], m["peer"]["median"], 1.3)
    for report in bench(a, path, "-t 2 -p 8192 -n 0", plain(a)):
        m = report["prefill"]
        line("prefill of 8192 moe-1b Q4_K_M", 2, m["median"], m["peer"]["median"], 1.3)


def run(command):
    """Seconds and the largest resident bytes of a command."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"table: {command[0]} failed")
    return time.monotonic() - began, used.ru_maxrss * 1024


def forget(path):
    """The file's pages leave the page cache; the disk's own may keep them."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def load(a):
    path = model(a, "moe-8b", "Q4_K_M")
    ours = [a.shoal, "run", path, "--raw", "-n", "1", "-c", "512", "-t", "2", "hello"]
    theirs = [os.path.join(a.peer, "llama-completion"), "-m", path, "-t", "2", "-p", "hello", "-n", "1", "-no-cnv", "-c",
              "512", "--no-warmup"]
    for cold in (True, False):
        seconds, resident = {0: [], 1: []}, {0: 0, 1: 0}
        for _ in range(a.rounds):
            for who, command in enumerate((ours, theirs)):
                if cold:
                    forget(path)
                took, bytes_ = run(command)
                seconds[who].append(took)
                resident[who] = max(resident[who], bytes_)
        took = [statistics.median(seconds[who]) for who in (0, 1)]
        line(f"first token of moe-8b, {'not cached' if cold else 'cached'}", 2, took[0], took[1], 1.0, seconds=True)
    size = os.path.getsize(path)
    allowed = 1.02 * size + (200 << 20)
    print(f"resident: {resident[0] / 1e6:.0f} MB (llama.cpp {resident[1] / 1e6:.0f}); the file is {size / 1e6:.0f} MB, "
          f"allowed {allowed / 1e6:.0f} MB and the KV", flush=True)
    if resident[0] > allowed:
        failed.append("resident memory")


ROWS = {"decode": decode, "types": types, "prefill": prefill, "batch": batch, "context": context, "load": load}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shoal", default="build/release/cli/shoal")
    p.add_argument("--peer", required=True)
    p.add_argument("--models", required=True)
    p.add_argument("--tokenizer", default="tests/data/shoal-demo-q8_0.gguf")
    p.add_argument("--extra", default="", help="options for the peer, such as -fa 0")
    p.add_argument("--rows", default=",".join(ROWS))
    p.add_argument("--depths", default="8192,32768")
    p.add_argument("-r", "--rounds", type=int, default=3)
    a = p.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("| work | threads | tokens/s, Shoal / llama.cpp | ratio | at least | of the ceiling |\n|---|---|---|---|---|---|")
    for name in a.rows.split(","):
        ROWS[name](a)
    for what in failed:
        print(f"below what is asked for: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
