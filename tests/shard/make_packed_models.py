#!/usr/bin/env python3
"""make_packed_models: small checkpoints whose weights are stored quantised, with the float32 logits that transformers
gives for the very values that are stored: tests/data/packed_models.

    venv/bin/python tests/shard/make_packed_models.py        (a venv with torch and transformers, as for make_hf.py)

Each folder is a model, as make_hf.py's: transformers writes it in floats, and then its matrices are replaced by what
the method of quantisation stores (the packing is make_packed.py's, from the formats' descriptions).  The values go back
into a float checkpoint, which transformers runs.  types.json says which types the matrices take in memory."""
import json
import os
import shutil
import sys
import tempfile

import make_hf
import make_packed as mp
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "data", "packed_models")
rng = np.random.default_rng(7)
SHAPE = dict(hidden_size=64, intermediate_size=96, head_dim=16)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)


def bf16(bits):
    return torch.from_numpy(np.ascontiguousarray(bits).view(np.int16)).view(torch.bfloat16)


def tensor(a):
    return torch.from_numpy(np.ascontiguousarray(a))


def nearest_codes(w, s, z, top):
    return np.clip(np.rint(w / s + z), 0, top).astype(np.int64)


# Each: a float matrix [rows, columns] to the tensors that store it (by the end of their names) and its new values.

def gptq4(w, group=32, act=True):
    rows, cols = w.shape
    groups, g = cols // group, np.arange(cols) // group
    g = rng.permutation(g) if act else g
    low = np.stack([w[:, g == k].min(1) for k in range(groups)])
    high = np.stack([w[:, g == k].max(1) for k in range(groups)])
    s = ((high - low) / 15).astype(np.float16)
    s32 = s.astype(np.float32)
    z = np.clip(np.rint(-low / s32), 1, 16)
    q = nearest_codes(w.T, s32[g], z[g], 15)
    value = (s32[g] * (q - z[g]).astype(np.float32)).T
    return {"qweight": tensor(mp.stream(q, 4)), "qzeros": tensor(mp.stream(z.T.astype(np.int64) - 1, 4).T),
            "scales": tensor(s), "g_idx": tensor(g.astype(np.int32))}, value


def awq4(w, group=32):
    rows, cols = w.shape
    g = np.arange(cols) // group
    parts = w.reshape(rows, cols // group, group)
    s = ((parts.max(2) - parts.min(2)) / 15).T.astype(np.float16)
    s32 = s.astype(np.float32)
    z = np.clip(np.rint(-parts.min(2).T / s32), 0, 15)
    q = nearest_codes(w.T, s32[g], z[g], 15)
    value = (s32[g] * (q - z[g]).astype(np.float32)).T
    return {"qweight": tensor(mp.awq_words(q)), "qzeros": tensor(mp.awq_words(z.astype(np.int64))),
            "scales": tensor(s)}, value


def int4(w, group=32):
    rows, cols = w.shape
    g = np.arange(cols) // group
    bits = mp.bf16_bits(np.abs(w.reshape(rows, cols // group, group)).max(2) / 7)
    s = (bits.astype(np.uint32) << 16).view(np.float32)
    q = nearest_codes(w, s[:, g], 8, 15)
    return {"weight_packed": tensor(mp.words(q, 4, 1)), "weight_scale": bf16(bits),
            "weight_shape": torch.tensor([rows, cols])}, s[:, g] * (q - 8).astype(np.float32)


def to_fp8(x):
    t = torch.from_numpy(np.ascontiguousarray(x)).to(torch.float8_e4m3fn)
    return t, t.to(torch.float32).numpy()


def fp8_block(w, block=(128, 128)):
    rows, cols = w.shape
    n = (-(-rows // block[0]), -(-cols // block[1]))
    s = np.zeros(n, np.float32)
    for i in range(n[0]):
        for k in range(n[1]):
            s[i, k] = np.abs(w[i * block[0]:(i + 1) * block[0], k * block[1]:(k + 1) * block[1]]).max() / 448
    wide = np.repeat(np.repeat(s, block[0], 0)[:rows], block[1], 1)[:, :cols]
    t, values = to_fp8(w / wide)
    return {"weight": t, "weight_scale_inv": tensor(s)}, values * wide


def fp8_row(w):
    bits = mp.bf16_bits(np.abs(w).max(1, keepdims=True) / 440)
    s = (bits.astype(np.uint32) << 16).view(np.float32)
    t, values = to_fp8(w / s)
    return {"weight": t, "weight_scale": bf16(bits)}, values * s


def mxfp4(w):
    """[experts, rows, columns]."""
    parts = w.reshape(w.shape[0], w.shape[1], -1, 32)
    e = np.floor(np.log2(np.abs(parts).max(3))).astype(np.int64) - 2 + 127
    scale = np.exp2((e - 127).astype(np.float32))[..., None]
    codes = np.abs((parts / scale)[..., None] - mp.E2M1).argmin(-1)
    value = (mp.E2M1[codes] * scale).reshape(w.shape).astype(np.float32)
    return tensor((codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)), tensor(e.astype(np.uint8)), value


def tensors_config(kind, weights):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": kind, "ignore": ["lm_head", "re:.*gate$"],
            "config_groups": {"group_0": group}}


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}

# name: family, its numbers, how a matrix is stored, quantization_config, the types
MODELS = {
    "gptq-llama": ("llama", dict(SHAPE), gptq4, GPTQ, {"attn_q": "INT4_32", "ffn_down": "INT4_32"}),
    "gptq-qwen3_moe": ("qwen3_moe", dict(SHAPE, **EXPERTS), gptq4, GPTQ,
                       {"ffn_gate_exps": "INT4_32", "ffn_down_exps": "INT4_32", "attn_v": "INT4_32"}),
    "awq-qwen2": ("qwen2", dict(hidden_size=64, intermediate_size=96), awq4,
                  {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"},
                  {"attn_k": "INT4_32", "ffn_up": "INT4_32"}),
    "int4-mixtral": ("mixtral", dict(SHAPE, num_local_experts=4, num_experts_per_tok=2), int4,
                     tensors_config("pack-quantized", {"num_bits": 4, "type": "int", "symmetric": True,
                                                       "strategy": "group", "group_size": 32}),
                     {"ffn_up_exps": "INT4B_32", "attn_output": "INT4B_32"}),
    "fp8-qwen3": ("qwen3", dict(hidden_size=128, intermediate_size=160, head_dim=32), fp8_block,
                  dict(FP8, weight_block_size=[128, 128]), {"attn_q": "FP8_128", "ffn_down": "FP8_32"}),
    "fp8-deepseek_v3": ("deepseek_v3", dict(
        make_hf.ROUTED, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, q_lora_rank=32, kv_lora_rank=32,
        qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, num_key_value_heads=4, n_group=2, topk_group=1),
        lambda w: fp8_block(w, (16, 32)), dict(FP8, weight_block_size=[16, 32]),
        {"attn_q_b": "FP8_32", "attn_k_b": "F32", "attn_v_b": "FP8_32", "ffn_gate_exps": "FP8_32"}),
    "fp8-llama": ("llama", dict(SHAPE), fp8_row,
                  tensors_config("float-quantized", {"num_bits": 8, "type": "float", "symmetric": True,
                                                     "strategy": "channel"}),
                  {"attn_v": "FP8_32", "ffn_gate": "FP8_32"}),
    "mxfp4-gpt_oss": ("gpt_oss", dict(hidden_size=64, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2,
                                      head_dim=16, sliding_window=4), None,
                      {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
                      {"ffn_gate_exps": "MXFP4", "ffn_down_exps": "MXFP4", "attn_q": "BF16"}),
}


def is_packed(name, t):
    left = ("embed_tokens", "lm_head", "norm", "mlp.gate.weight", "block_sparse_moe.gate.weight", "router")
    return t.dim() == 2 and name.endswith(".weight") and not any(x in name for x in left)


def pack(weights, how):
    """What is stored, and the same in floats."""
    stored, values = {}, {}
    for name, t in weights.items():
        stored[name] = t
        values[name] = t.float()
        if how is None and name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            blocks, scales, value = mxfp4(t.float().transpose(1, 2).numpy())
            del stored[name]
            stored[name + "_blocks"], stored[name + "_scales"] = blocks, scales
            values[name] = tensor(value).transpose(1, 2).contiguous()
        elif how is not None and is_packed(name, t):
            parts, value = how(t.float().numpy())
            del stored[name]
            stored.update({name[:-len("weight")] + end: part.contiguous() for end, part in parts.items()})
            values[name] = tensor(value.astype(np.float32))
    return stored, values


def expect(folder, model):
    torch.manual_seed(1)
    prompt = torch.randint(3, 96, (1, make_hf.PROMPT))
    with torch.no_grad():
        logits = model(prompt).logits[0].float()
        tokens = prompt
        for _ in range(make_hf.NEXT):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], 1)
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump({"prompt": prompt[0].tolist(), "next": tokens[0, make_hf.PROMPT:].tolist()}, f)
    logits.numpy().tofile(os.path.join(folder, "logits.f32"))


def make(name):
    kind, says, how, quantization, types = MODELS[name]
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with tempfile.TemporaryDirectory() as plain:
        make_hf.make_model(kind, says, torch.bfloat16).to(torch.bfloat16).save_pretrained(plain)
        file = os.path.join(plain, "model.safetensors")
        stored, values = pack(load_file(file), how)
        save_file(values, file, {"format": "pt"})
        with open(os.path.join(plain, "config.json")) as f:
            config = json.load(f)
        config["dtype"] = "float32"
        with open(os.path.join(plain, "config.json"), "w") as f:
            json.dump(config, f)
        model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager").eval()
        expect(folder, model)
    config["dtype"], config["quantization_config"] = "bfloat16", quantization
    save_file(stored, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    for file, what in (("config.json", config), ("types.json", types)):
        with open(os.path.join(folder, file), "w") as f:
            json.dump(what, f, indent=1)


def main():
    for name in sys.argv[1:] or MODELS:
        make(name)


if __name__ == "__main__":
    main()
