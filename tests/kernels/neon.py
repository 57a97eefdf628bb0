#!/usr/bin/env python3
"""The kernels of AArch64, built by a cross compiler and run under qemu: that they compile without a warning and pass the
tests of the instruction sets, of the operations and of attention.

Ends with 77 (not run) where something is missing.  On Debian: dpkg --add-architecture arm64, then gcc-aarch64-linux-gnu,
qemu-user and libcmocka-dev:arm64.  SHOAL_ARM64_ROOT names another root that holds the last."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

CC, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ROOT = os.environ.get("SHOAL_ARM64_ROOT", "/")
LIBRARIES = os.path.join(ROOT, "usr/lib/aarch64-linux-gnu")
FLAGS = ["-O2", "-D_GNU_SOURCE", "-I.", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes",
         "-Wmissing-prototypes", "-Wvla", "-fno-strict-aliasing", "-ffp-contract=off"]
NEON = ["-O3", "-march=armv8.2-a+dotprod+fp16"]
BASE = ["error", "memory", "clock", "random", "view"]
TESTS = {"test_isa": [], "test_ops": ["rig"], "test_attention": ["rig"], "test_index": ["rig"]}


def missing():
    for tool in (CC, QEMU):
        if shutil.which(tool) is None:
            return tool
    return None if os.path.exists(os.path.join(LIBRARIES, "libcmocka.so")) else "libcmocka-dev:arm64"


def compile_one(source, folder):
    out = os.path.join(folder, source.replace("/", "_") + ".o")
    include = ["-isystem", os.path.join(ROOT, "usr/include")] if ROOT != "/" else ["-idirafter", "/usr/include"]
    more = NEON if source.endswith("isa_neon.c") else []
    subprocess.run([CC, *FLAGS, *more, *include, "-c", source, "-o", out], check=True)
    return out


def run(name, objects):
    program = f"{objects[0]}.run"
    subprocess.run([CC, *objects, "-o", program, "-L", LIBRARIES, "-lcmocka", "-lm", "-lpthread"], check=True)
    print(f"== {name}", flush=True)
    return subprocess.run([QEMU, "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={LIBRARIES}", program],
                          check=False).returncode


def main():
    what = missing()
    if what:
        print(f"neon: {what} is missing, nothing was run")
        return 77
    sources = [f"base/{name}.c" for name in BASE] + sorted(glob.glob("kernels/*.c") + glob.glob("kernels/quant/*.c"))
    sources += [s for s in sorted(glob.glob("kernels/cpu/*.c")) if "avx" not in s]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        shared = list(pool.map(lambda s: compile_one(s, folder), sources))
        failed = []
        for name, parts in TESTS.items():
            own = [compile_one(f"tests/kernels/{part}.c", folder) for part in [name, *parts]]
            if run(name, own + shared) != 0:
                failed.append(name)
    if failed:
        print("failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
