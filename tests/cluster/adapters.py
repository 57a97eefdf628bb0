"""Random GGUF LoRA adapters for the demo model (qwen3moe: 6 layers of width 256, 4 heads of 64, 2 of them KV; 8
experts of width 256), written byte by byte."""
import random
import struct

WIDTH, HEADS, KV, EXPERTS, FFN, LAYERS, F32, STRING, FLOAT = 256, 256, 128, 8, 256, 6, 0, 8, 6


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write(path, tensors, alpha=16.0, family="qwen3moe"):
    """tensors: (name, ne, floats)"""
    keys = [("general.type", "adapter"), ("general.architecture", family), ("adapter.type", "lora")]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + 1)
    for key, value in keys:
        head += text(key) + struct.pack("<I", STRING) + text(value)
    head += text("adapter.lora.alpha") + struct.pack("<If", FLOAT, alpha)
    data = b""
    for name, ne, values in tensors:
        head += text(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, F32, len(data))
        data += struct.pack(f"<{len(values)}f", *values)
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def make(path, seed, rank=4, size=0.12):
    """An adapter of attention in every layer and of the experts in two."""
    draw = random.Random(seed)
    tensors = []

    def pair(name, cols, rows, slices=1):
        for end, ne in (("lora_a", [cols, rank]), ("lora_b", [rank, rows])):
            ne = ne + [slices] if slices > 1 else ne
            n = ne[0] * ne[1] * slices
            tensors.append((f"{name}.weight.{end}", ne, [draw.uniform(-size, size) for _ in range(n)]))

    for i in range(LAYERS):
        pair(f"blk.{i}.attn_q", WIDTH, HEADS)
        pair(f"blk.{i}.attn_v", WIDTH, KV)
        pair(f"blk.{i}.attn_output", HEADS, WIDTH)
    for i in (1, LAYERS - 1):
        pair(f"blk.{i}.ffn_down_exps", FFN, WIDTH, EXPERTS)
    return write(path, tensors)
