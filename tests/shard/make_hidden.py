#!/usr/bin/env python3
"""Record what enters the output head, after the last norm, for small folders of make_hf.py: hidden.f32 beside their
logits.f32, rows of float32 for the tokens of expected.json's prompt. Needs torch and transformers.

usage: make_hidden.py FOLDER..."""
import json
import os
import struct
import sys

import torch
from transformers import AutoModelForCausalLM


def write(folder):
    with open(os.path.join(folder, "expected.json")) as f:
        prompt = json.load(f)["prompt"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    seen = []
    model.get_output_embeddings().register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([prompt]), use_cache=False)
    rows = seen[0][0].float().flatten().tolist()
    with open(os.path.join(folder, "hidden.f32"), "wb") as f:
        f.write(struct.pack("<%df" % len(rows), *rows))
    print("%-20s %d rows of %d" % (os.path.basename(folder), len(prompt), len(rows) // len(prompt)))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        write(name)
