#!/usr/bin/env python3
"""make_hf: small random checkpoints as transformers writes them, with its float32 logits: tests/data/hf.

    python3 -m venv venv && venv/bin/pip install torch transformers
    venv/bin/python tests/shard/make_hf.py tests/data/hf [NAME ...]

Each folder is a model, and holds beside it expected.json (a prompt and the greedy tokens after it) and logits.f32 (the
prompt's, a row a token).  What is stored in 16 bits is rounded first: the logits are those of the rounded weights.
Made with transformers 5.24; other versions may write other names, which is worth a new folder and not a new file."""
import json
import os
import shutil
import struct
import sys
import warnings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3ForConditionalGeneration, Mistral4ForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

PROMPT, NEXT = 12, 6
BASE = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=48, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
LOCAL = dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=24)
ROUTED = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, n_shared_experts=1,
              first_k_dense_replace=1)
MLA = dict(q_lora_rank=16, kv_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12,
           num_key_value_heads=4)
# With fewer heads it happens that several positions score exactly 0 (all heads below 0), and which of them are chosen is
# nobody's rule: logits then differ as they may. Without such ties 2, 3 and 4 heads give transformers' logits too.
INDEX = dict(index_topk=5, index_head_dim=8, index_n_heads=8)
DELTA = dict(num_hidden_layers=4, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
             linear_key_head_dim=8, linear_value_head_dim=12, shared_expert_intermediate_size=24)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)

# name: model_type, what the config says, what is done when saving (in bfloat16 unless it says otherwise)
MODELS = {
    "llama": ("llama", dict(vocab_size=320, rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)), dict(dtype="float32", shards="80KB", tokenizer=True)),
    "llama-bias": ("llama", dict(attention_bias=True, head_dim=12, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="linear", rope_theta=10000.0, factor=2.0)), dict(dtype="float32")),
    "mistral": ("mistral", dict(sliding_window=5, head_dim=16), dict(dtype="float16")),
    "mixtral": ("mixtral", dict(LOCAL), {}),
    "qwen2": ("qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1), {}),
    "qwen2_moe": ("qwen2_moe", dict(EXPERTS, shared_expert_intermediate_size=24), {}),
    "qwen3": ("qwen3", dict(head_dim=16, rope_parameters=dict(YARN)), {}),
    "qwen3_moe": ("qwen3_moe", dict(EXPERTS, head_dim=16, norm_topk_prob=True), dict(shards="40KB")),
    "qwen3_moe-fused": ("qwen3_moe", dict(EXPERTS, head_dim=16), dict(fused=True, dtype="float16")),
    "mixtral-fused": ("mixtral", dict(LOCAL), dict(fused=True)),
    "qwen3_next": ("qwen3_next", dict(EXPERTS, **DELTA), {}),
    "qwen3_5_moe": ("qwen3_5_moe_text", dict(EXPERTS, **DELTA), {}),
    "deepseek_v2": ("deepseek_v2", dict(ROUTED, **MLA, topk_method="group_limited_greedy", n_group=2, topk_group=1),
                    {}),
    "deepseek_v3": ("deepseek_v3", dict(ROUTED, **MLA, n_group=2, topk_group=1, rope_parameters=dict(
        YARN, mscale=1.0, mscale_all_dim=0.8)), dict(dtype="float32")),
    "deepseek_v32": ("deepseek_v32", dict(ROUTED, **MLA, **INDEX, n_group=2, topk_group=1), {}),
    "glm_moe_dsa": ("glm_moe_dsa", dict(ROUTED, **MLA, **INDEX, n_group=1, topk_group=1), {}),
    "gpt_oss": ("gpt_oss", dict(LOCAL, head_dim=16, sliding_window=4, rope_parameters=dict(YARN, truncate=False)), {}),
    "glm4_moe": ("glm4_moe", dict(ROUTED, head_dim=16, attention_bias=True, use_qk_norm=True,
                                  routed_scaling_factor=1.5), {}),
    "glm4_moe-plain": ("glm4_moe", dict(ROUTED, head_dim=16), {}),
    "minimax_m2": ("minimax_m2", dict(LOCAL, head_dim=16, rotary_dim=8), {}),
    "gemma2": ("gemma2", dict(head_dim=16, sliding_window=4, query_pre_attn_scalar=24), {}),
    "gemma3": ("gemma3_text", dict(num_hidden_layers=3, head_dim=16, sliding_window=4, query_pre_attn_scalar=20,
                                   layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                   rope_parameters=dict(
                                       full_attention=dict(rope_type="linear", rope_theta=1e5, factor=8.0),
                                       sliding_attention=dict(rope_type="default", rope_theta=1000.0))), {}),
    "gemma3-seeing": ("gemma3", dict(mm_tokens_per_image=1, vision_config=dict(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8)),
        {}),
    "phi3": ("phi3", dict(rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.5, 2.0, 3.0], long_factor=[2.0, 3.0, 4.0, 5.0]),
        original_max_position_embeddings=128), {}),
    "phimoe": ("phimoe", dict(LOCAL, attention_bias=True, lm_head_bias=True, router_jitter_noise=0.3), {}),
    "olmoe": ("olmoe", dict(num_experts=4, num_experts_per_tok=2, intermediate_size=24), {}),
    "granite": ("granite", dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.7,
                                logits_scaling=2.5), {}),
    "granitemoe": ("granitemoe", dict(LOCAL, embedding_multiplier=3.0, attention_multiplier=0.4,
                                      residual_multiplier=0.7, logits_scaling=2.5), {}),
    "granitemoeshared": ("granitemoeshared", dict(LOCAL, shared_intermediate_size=24, residual_multiplier=0.7), {}),
    "ernie4_5_moe": ("ernie4_5_moe", dict(moe_num_experts=4, moe_k=2, moe_intermediate_size=16), {}),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", dict(num_experts=4, moe_topk=2, head_dim=16, intermediate_size=24), {}),
    "bailing_moe": ("granitemoeshared", dict(LOCAL, shared_intermediate_size=24, attention_multiplier=8 ** -0.5),
                    dict(recast=dict(model_type="bailing_moe", num_shared_experts=1, score_function="softmax"))),
    "bailing_moe_v2": ("glm4_moe", dict(ROUTED, head_dim=16, use_qk_norm=True, n_group=2, topk_group=1), dict(
        recast=dict(model_type="bailing_moe_v2", num_shared_experts=1, score_function="sigmoid"))),
    "dots1": ("dots1", dict(ROUTED, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.0), {}),
    "llama4": ("llama4_text", dict(num_hidden_layers=4, num_local_experts=4, num_experts_per_tok=1, head_dim=16,
                                   intermediate_size=24, intermediate_size_mlp=40, interleave_moe_layer_step=2,
                                   attention_chunk_size=5, floor_scale=3), {}),
    "ministral3": ("ministral3", dict(head_dim=16, rope_parameters=dict(
        YARN, original_max_position_embeddings=8, beta_fast=4.0, beta_slow=0.5, mscale=1.0, mscale_all_dim=1.0,
        llama_4_scaling_beta=0.2)), {}),
    "mistral4": ("mistral4", dict(ROUTED, **MLA, n_group=1, topk_group=1, rope_parameters=dict(
        YARN, original_max_position_embeddings=8, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.2,
        partial_rotary_factor=1 / 3)), {}),
}


def spread(name, p):
    """Every value is drawn, norms and biases too, so that one that is left out or taken twice shows."""
    less_one = getattr(spread, "less_one", False)
    if name.endswith("A_log"):
        return torch.rand_like(p) * 2 - 1
    if "norm" in name and p.dim() == 1 and not name.endswith("bias"):
        own = 0.0 if less_one and "linear_attn.norm" not in name else 1.0
        return own + 0.2 * torch.randn_like(p)
    if "correction_bias" in name:
        return 0.1 * torch.rand_like(p)
    if p.dim() == 1 or name.endswith("bias"):
        return 0.3 * torch.randn_like(p)
    if "embed_tokens" in name:
        return torch.randn_like(p)
    fan_in = p.shape[-2] if p.dim() == 3 and ("gpt_oss" in spread.type or "llama4" in spread.type) else p.shape[-1]
    return torch.randn_like(p) / fan_in ** 0.5


def make_model(kind, says, dtype):
    torch.manual_seed(sum(kind.encode()) + len(says))
    if kind == "gemma3":
        text = dict(BASE, head_dim=16, sliding_window=4)
        config = AutoConfig.for_model(kind, text_config=dict(text, model_type="gemma3_text"), **says)
        model = Gemma3ForConditionalGeneration(config)
    else:
        config = AutoConfig.for_model(kind, **dict(BASE, **says))
        config._attn_implementation = "eager"
        model = Mistral4ForCausalLM(config) if kind == "mistral4" else AutoModelForCausalLM.from_config(
            config, attn_implementation="eager")
    spread.less_one = any(n in kind for n in ("gemma", "qwen3_next", "qwen3_5"))
    spread.type = kind
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            if p.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
                p.copy_(spread(name, p).to(dtype).to(p.dtype))
    model.tie_weights()
    return model.eval()


def write_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(["the quick brown fox jumps over the lazy dog " * 4, "one two three four five six"], trainer)
    t.add_tokens([f"<{i}>" for i in range(t.get_vocab_size(), 320)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast",
                   "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"},
                  f, indent=1)
    with open(os.path.join(folder, "generation_config.json"), "w") as f:
        json.dump({"bos_token_id": 1, "eos_token_id": [2, 0]}, f, indent=1)


def recast(folder, says):
    """As Ling's own code names things, which computes what two other families do: transformers has no class of it."""
    from safetensors.torch import load_file, save_file
    path = os.path.join(folder, "model.safetensors")
    old, new = load_file(path), {}
    for name, x in old.items():
        name = name.replace("embed_tokens", "word_embeddings").replace("self_attn.o_proj", "attention.dense")
        name = name.replace("self_attn.q_norm", "attention.query_layernorm")
        name = name.replace("self_attn.k_norm", "attention.key_layernorm")
        name = name.replace("e_score_correction_bias", "expert_bias")
        name = name.replace("block_sparse_moe.router.layer", "mlp.gate")
        layer = name.split("self_attn")[0]
        if ".q_proj." in name:
            x = torch.cat([old[layer + f"self_attn.{n}_proj.weight"] for n in "qkv"])
            name = layer + "attention.query_key_value.weight"
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        if "input_linear" in name or "output_linear" in name:
            shared = "shared_mlp" in name
            for e, one in enumerate([x] if shared else x):
                parts = ["gate_proj", "up_proj"] if "input" in name else ["down_proj"]
                where = name.split("shared_mlp" if shared else "block_sparse_moe")[0] + "mlp."
                where += "shared_experts." if shared else f"experts.{e}."
                for part, half in zip(parts, one.chunk(len(parts))):
                    new[where + part + ".weight"] = half.contiguous()
            continue
        new[name] = x.contiguous()
    save_file(new, path, {"format": "pt"})
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["num_experts"] = config.pop("n_routed_experts", None) or config.pop("num_local_experts", None)
    for key in ("n_shared_experts", "attention_multiplier", "embedding_multiplier", "residual_multiplier",
                "logits_scaling", "architectures", "shared_intermediate_size"):
        config.pop(key, None)
    config.update(says)
    with open(path, "w") as f:
        json.dump(config, f, indent=2)


def write(folder, name):
    kind, says, how = MODELS[name]
    dtype = getattr(torch, how.get("dtype", "bfloat16"))
    model = make_model(kind, says, dtype)
    n_vocab = model.get_input_embeddings().weight.shape[0]
    prompt = [1] + torch.randint(3, n_vocab, (PROMPT - 1,)).tolist()
    tokens, rows = list(prompt), None
    with torch.no_grad():
        for _ in range(NEXT):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
            rows = logits if rows is None else rows
            tokens.append(int(logits[-1].argmax()))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    more = {"max_shard_size": how["shards"]} if how.get("shards") else {}
    if how.get("fused"):
        more["save_original_format"] = False
    model.to(dtype).save_pretrained(folder, **more)
    if how.get("recast"):
        recast(folder, how["recast"])
    if how.get("tokenizer"):
        write_tokenizer(folder)
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump({"transformers": transformers.__version__, "prompt": prompt, "next": tokens[PROMPT:]}, f)
        f.write("\n")
    with open(os.path.join(folder, "logits.f32"), "wb") as f:
        flat = rows.flatten().tolist()
        f.write(struct.pack("<%df" % len(flat), *flat))
    size = sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
    print("%-20s %4d KB, %d files" % (name, size // 1024, len(os.listdir(folder))))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[2:] or MODELS:
        write(os.path.join(sys.argv[1], name), name)


if __name__ == "__main__":
    main()
