#!/usr/bin/env python3
"""make_peft: random LoRA adapters of the checkpoints in tests/data/hf as PEFT writes them, with transformers' float32
logits of the model with each: tests/data/peft.

    python3 -m venv venv && venv/bin/pip install torch transformers peft
    venv/bin/python tests/shard/make_peft.py tests/data/hf tests/data/peft [NAME ...]

Each folder is an adapter, and holds beside it expected.json (which model, the prompt) and logits.f32 (a row a token).
Made with peft 0.21."""
import json
import os
import shutil
import struct
import sys
import warnings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FFN = ["gate_proj", "up_proj", "down_proj"]

# name: the model, its modules, what else the config says
ADAPTERS = {
    "llama": ("llama", ATTENTION + FFN, dict(r=4, lora_alpha=6)),
    "llama-patterns": ("llama", ATTENTION, dict(
        r=4, lora_alpha=8, use_rslora=True, rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 3},
        alpha_pattern={"k_proj": 20, "layers.0.self_attn.o_proj": 2})),
    "mistral": ("mistral", ["q_proj", "v_proj"], dict(r=8, lora_alpha=16, dtype="bfloat16")),
    "qwen3": ("qwen3", ATTENTION + FFN, dict(r=3, lora_alpha=3, dtype="float16")),
    "phi3": ("phi3", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], dict(r=4, lora_alpha=8)),
    "gemma3": ("gemma3", ATTENTION + FFN, dict(r=2, lora_alpha=4)),
    "granite": ("granite", ATTENTION + FFN, dict(r=2, lora_alpha=4)),
    "deepseek_v3": ("deepseek_v3", ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"],
                    dict(r=4, lora_alpha=8)),
    "qwen3_next": ("qwen3_next", ATTENTION + ["in_proj_qkvz", "in_proj_ba", "out_proj"], dict(r=4, lora_alpha=8)),
    "qwen3_5_moe": ("qwen3_5_moe", ATTENTION + ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"],
                    dict(r=4, lora_alpha=8)),
    "glm4_moe": ("glm4_moe", ATTENTION, dict(r=4, lora_alpha=8)),
}


def write(models, folder, name):
    base, modules, says = ADAPTERS[name]
    says = dict(says)
    dtype = getattr(torch, says.pop("dtype", "float32"))
    torch.manual_seed(sum(name.encode()))
    model = AutoModelForCausalLM.from_pretrained(os.path.join(models, base), dtype=torch.float32,
                                                 attn_implementation="eager")
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=modules, **says)).eval()
    changed = 0
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_((torch.randn_like(p) * 0.3).to(dtype).to(p.dtype))
                changed += "lora_A" in key
        with open(os.path.join(models, base, "expected.json")) as f:
            prompt = json.load(f)["prompt"]
        rows = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0].float()
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    for extra in ("README.md",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump({"peft": peft.__version__, "model": base, "prompt": prompt}, f)
        f.write("\n")
    with open(os.path.join(folder, "logits.f32"), "wb") as f:
        flat = rows.flatten().tolist()
        f.write(struct.pack("<%df" % len(flat), *flat))
    print("%-16s %d modules" % (name, changed))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for name in sys.argv[3:] or ADAPTERS:
        write(sys.argv[1], os.path.join(sys.argv[2], name), name)


if __name__ == "__main__":
    main()
