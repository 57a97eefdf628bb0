#!/usr/bin/env python3
"""make_packed: small tensors as checkpoints store them quantised, and the floats that they stand for.

Writes tests/data/packed/<case>.safetensors: the tensors of one module under the names that a checkpoint gives them,
a tensor "want" with the floats (F32, [slices x] rows x columns, or its columns in the order of the file), and in
__metadata__ the config.json, the name that the float tensor would have, its columns and the type that rows take in
memory.  tests/shard/test_packed.c reads them.  Written from the descriptions of the formats, with numpy alone; the
generator is seeded, so that running it again gives the same files:

    python3 tests/shard/make_packed.py
"""
import json
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "data", "packed")
rng = np.random.default_rng(4)


class Raw:
    """A tensor whose bytes numpy has no type for."""

    def __init__(self, dtype, array):
        self.dtype, self.array = dtype, array


def dtype_of(t):
    if isinstance(t, Raw):
        return t.dtype
    names = {"float32": "F32", "float16": "F16", "int32": "I32", "int64": "I64", "int8": "I8", "uint8": "U8"}
    return names[t.dtype.name]


def write(case, tensors, meta):
    head, data = {"__metadata__": meta}, b""
    for name, t in tensors.items():
        array = np.ascontiguousarray(t.array if isinstance(t, Raw) else t)
        raw, shape = array.tobytes(), list(t.array.shape if isinstance(t, Raw) else t.shape)
        head[name] = {"dtype": dtype_of(t), "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(FOLDER, case + ".safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def case(name, config, tensors, want, kind, module="model.layers.0.mlp.up_proj.weight"):
    meta = {"config": json.dumps({"model_type": "llama", "quantization_config": config}), "name": module,
            "cols": str(want.shape[-1]), "type": kind}
    write(name, {**tensors, "want": want.astype(np.float32)}, meta)


P = "model.layers.0.mlp.up_proj."


# ---- floats ----

def bf16_bits(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def scales_of(shape, dtype):
    """Random scales as stored, and as float32."""
    x = (rng.uniform(0.002, 0.05, shape) * rng.choice([1, 1, 1, -1], shape)).astype(np.float32)
    if dtype == "F8_E8M0":
        bits = rng.integers(115, 130, shape).astype(np.uint8)
        return Raw("F8_E8M0", bits), np.exp2(bits.astype(np.float32) - 127)
    if dtype == "F16":
        return x.astype(np.float16), x.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        bits = bf16_bits(x)
        return Raw("BF16", bits), (bits.astype(np.uint32) << 16).view(np.float32)
    return x, x


def e4m3(codes):
    codes = codes.astype(np.int64)
    sign, exponent, fraction = codes >> 7, codes >> 3 & 15, codes & 7
    value = np.where(exponent == 0, fraction * 2.0 ** -9, (8 + fraction) * 2.0 ** (exponent - 10.0))
    return np.where(sign == 1, -value, value).astype(np.float32)


def fp8_codes(shape):
    codes = rng.integers(0, 256, shape).astype(np.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0x3A
    return codes


# ---- packing ----

def stream(values, bits):
    """Values along axis 0 one after the other in 32-bit words, as a run of bits."""
    n = values.shape[0]
    words = np.zeros((-(-n * bits // 32),) + values.shape[1:], np.uint64)
    for i in range(n):
        at, shift = i * bits // 32, i * bits % 32
        v = values[i].astype(np.uint64) << np.uint64(shift)
        words[at] |= v & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[at + 1] |= v >> np.uint64(32)
    return words.astype(np.uint32).view(np.int32)


def words(values, bits, axis):
    """32 / bits values to a word along an axis, the rest of it empty."""
    values = np.moveaxis(values, axis, 0)
    each = 32 // bits
    out = np.zeros((-(-values.shape[0] // each),) + values.shape[1:], np.uint32)
    for i in range(values.shape[0]):
        out[i // each] |= values[i].astype(np.uint32) << np.uint32(bits * (i % each))
    return np.ascontiguousarray(np.moveaxis(out, 0, axis)).view(np.int32)


# ---- GPTQ ----

def gptq(name, kind, bits, rows, cols, group, act=False, v2=False, dtype="F16", says=None, index=True):
    size = cols if group < 0 else group
    groups = -(-cols // size)
    q = rng.integers(0, 2 ** bits, (cols, rows))
    z = rng.integers(0, 2 ** bits, (groups, rows))
    g = np.arange(cols) // size
    if act:
        g = rng.permutation(g)
    scales, s = scales_of((groups, rows), dtype)
    want = (s[g] * (q - (z[g] + (0 if v2 else 1))).astype(np.float32)).T
    tensors = {P + "qweight": stream(q, bits), P + "qzeros": stream(z.T, bits).T.copy(), P + "scales": scales}
    if index:
        tensors[P + "g_idx"] = g.astype(np.int32)
    config = {"quant_method": "gptq", "bits": says or bits, "group_size": group, "desc_act": act, "sym": False,
              "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    case(name, config, tensors, want, kind)


# ---- AWQ ----

def awq_words(values):
    """Eight neighbours along the last axis to a word: slot k holds 0, 2, 4, 6, 1, 3, 5, 7."""
    out = np.zeros(values.shape[:-1] + (values.shape[-1] // 8,), np.uint32)
    for slot, col in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        out |= values[..., col::8].astype(np.uint32) << np.uint32(4 * slot)
    return out.view(np.int32)


def awq(name, kind, rows, cols, group, dtype="F16"):
    groups, g = -(-cols // group), np.arange(cols) // group
    q, z = rng.integers(0, 16, (cols, rows)), rng.integers(0, 16, (groups, rows))
    scales, s = scales_of((groups, rows), dtype)
    want = (s[g] * (q - z[g]).astype(np.float32)).T
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
              "modules_to_not_convert": None}
    case(name, config, {P + "qweight": awq_words(q), P + "qzeros": awq_words(z), P + "scales": scales}, want, kind)


# ---- FP8 ----

def fp8(name, kind, rows, cols, block=None, shape=None, dtype="F32", tensors_of=None, zeros=None):
    codes = fp8_codes((rows, cols))
    if block:
        shape = (-(-rows // block[0]), -(-cols // block[1]))
    scales, s = scales_of(shape, dtype)
    if block:
        s = np.repeat(np.repeat(s, block[0], 0)[:rows], block[1], 1)[:, :cols]
    elif s.size == 1:
        s = s.reshape(1, 1)
    else:
        s = s.reshape(rows, 1)
    want = e4m3(codes) * s
    if tensors_of:
        weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "block" if block else "channel",
                   "block_structure": block, "group_size": None}
        config = {"quant_method": "compressed-tensors", "format": tensors_of, "ignore": ["lm_head"],
                  "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights,
                                                "input_activations": {"num_bits": 8, "dynamic": True}}}}
    else:
        kind_of = "float8_e4m3fn" if dtype == "F8_E8M0" else "e4m3"
        config = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": kind_of, "weight_block_size": block}
    suffix = "weight_scale_inv" if block and not tensors_of else "weight_scale"
    tensors = {P + "weight": Raw("F8_E4M3", codes), P + suffix: scales}
    if zeros:
        tensors[P + "weight_zero_point"] = Raw("F8_E4M3", np.zeros(zeros, np.uint8))
    case(name, config, tensors, want, kind)


# ---- compressed-tensors ----

def ints(name, kind, bits, rows, cols, group=None, dtype="BF16", zeros=False, order=None, plain=False, more=(),
         loose=False):
    size = group or cols
    groups, g = -(-cols // size), np.arange(cols) // size
    if order == "group":
        g = rng.permutation(g)
    half = 2 ** (bits - 1)
    u = rng.integers(0, 2 ** bits, (rows, cols))
    z = rng.integers(0, 2 ** bits, (rows, groups)) if zeros else np.full((rows, groups), half)
    scales, s = scales_of((rows, groups), dtype)
    want = s[:, g] * (u - z[:, g]).astype(np.float32)
    if plain:
        tensors = {P + "weight": (u - half).astype(np.int8), P + "weight_scale": scales}
        if zeros:
            tensors[P + "weight_zero_point"] = (z - half).astype(np.int8)
    else:
        # since 2026 codes go on from a word to the next; before, a word's last bits were empty
        pack = words if loose else lambda v, b, axis: np.moveaxis(stream(np.moveaxis(v, axis, 0), b), 0, axis)
        tensors = {P + "weight_packed": pack(u, bits, 1), P + "weight_scale": scales,
                   P + "weight_shape": np.array([rows, cols], np.int64)}
        if zeros:
            tensors[P + "weight_zero_point"] = pack(z, bits, 0)
        if order:
            tensors[P + "weight_g_idx"] = (g if order == "group" else np.full(cols, -1)).astype(np.int32)
    weights = {"num_bits": bits, "type": "int", "symmetric": not zeros, "strategy": "group" if group else "channel",
               "group_size": group, "actorder": order}
    one = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    config = {"quant_method": "compressed-tensors", "format": "int-quantized" if plain else "pack-quantized",
              "ignore": ["lm_head", "re:.*gate$"], "config_groups": {**dict(more), "group_0": one}}
    case(name, config, tensors, want, kind)


# ---- MXFP4 ----

E2M1 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def mxfp4(name, slices, rows, cols):
    codes = rng.integers(0, 16, (slices, rows, cols))
    e = rng.integers(110, 132, (slices, rows, cols // 32)).astype(np.uint8)
    want = E2M1[codes] * np.repeat(np.exp2(e.astype(np.float32) - 127), 32, -1)
    packed = (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)
    module = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {module + "_blocks": packed.reshape(slices, rows, cols // 32, 16), module + "_scales": e}
    case(name, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, tensors, want, "MXFP4", module)
    if slices == 1:
        config = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
                  "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                      "num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}}}
        case(name + "_tensors", config, {P + "weight_packed": packed[0], P + "weight_scale": e[0]}, want[0], "MXFP4")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    gptq("gptq2", "INT2_32", 2, 16, 96, 32)
    gptq("gptq2_long", "INT2_128", 2, 16, 256, 128)
    gptq("gptq3", "INT3_64", 3, 32, 192, 64)
    gptq("gptq4_short", "INT4_32", 4, 8, 352, 128)
    gptq("gptq4_column", "INT4_64", 4, 8, 192, -1)
    gptq("gptq4_v2", "INT4_128", 4, 8, 256, 128, v2=True)
    gptq("gptq4_brain", "INT4_64", 4, 8, 128, 64, dtype="BF16")
    gptq("gptq4_float", "INT4F_32", 4, 8, 128, 64, dtype="F32")
    gptq("gptq4_bare", "INT4_32", 4, 8, 64, 32, index=False)
    gptq("gptq8", "INT8_32", 8, 8, 96, 32)
    gptq("gptq8_other", "INT8_128", 8, 8, 128, 128, says=4)
    gptq("gptq4_act", "INT4_128", 4, 8, 256, 128, act=True)
    gptq("gptq4_act_short", "INT4_32", 4, 8, 352, 128, act=True)
    gptq("gptq3_act", "INT3_32", 3, 32, 96, 32, act=True)
    gptq("gptq2_act", "INT2_64", 2, 16, 192, 64, act=True)
    gptq("gptq8_act", "INT8_32", 8, 8, 96, 32, act=True)
    gptq("gptq4_odd", "F32", 4, 8, 40, 16, act=True)
    awq("awq4", "INT4_64", 16, 192, 64)
    awq("awq4_short", "INT4_32", 8, 352, 128)
    awq("awq4_brain", "INT4_32", 8, 96, 32, dtype="BF16")
    fp8("fp8_block", "FP8_32", 10, 352, block=[4, 128])
    fp8("fp8_block_long", "FP8_128", 18, 256, block=[16, 128])
    fp8("fp8_whole", "FP8_128", 4, 128, shape=())
    fp8("fp8_row", "FP8_32", 5, 96, shape=(5, 1), dtype="BF16")
    fp8("fp8_odd", "F32", 5, 40, shape=(5,))
    fp8("tensors_fp8", "FP8_128", 5, 128, shape=(5, 1), dtype="BF16", tensors_of="float-quantized")
    fp8("tensors_fp8_block", "FP8_32", 5, 96, block=[2, 32], dtype="F32", tensors_of="naive-quantized")
    fp8("fp8_block_exponents", "FP8_32", 6, 96, block=[2, 32], dtype="F8_E8M0")
    fp8("tensors_fp8_zeros", "FP8_32", 3, 64, shape=(3, 1), tensors_of="float-quantized", zeros=(3, 1))
    ints("tensors_int4", "INT4B_32", 4, 9, 96, 32)
    ints("tensors_int4_half", "Q4_0", 4, 9, 256, 128, dtype="F16")
    ints("tensors_int4_float", "INT4F_32", 4, 9, 128, 32, dtype="F32")
    ints("tensors_int4_zeros", "INT4_128", 4, 12, 256, 128, zeros=True)
    ints("tensors_int4_order", "INT4_64", 4, 9, 192, 64, zeros=True, order="group")
    ints("tensors_int4_static", "INT4B_32", 4, 9, 64, 32, order="static")
    ints("tensors_int8", "Q8_0", 8, 5, 96, dtype="F16")
    ints("tensors_int3", "INT3_32", 3, 12, 96, 32, zeros=True)
    ints("tensors_int3_loose", "INT3_32", 3, 12, 96, 32, zeros=True, loose=True)
    ints("tensors_int6_loose", "INT8_32", 6, 7, 96, 32, loose=True)
    ints("tensors_int5", "INT8_64", 5, 7, 64, zeros=True)
    ints("tensors_bytes", "INT8_128", 8, 5, 128, zeros=True, plain=True)
    ints("tensors_bytes_half", "Q8_0", 8, 5, 96, dtype="F16", plain=True)
    other = {"targets": ["re:.*down.*"], "weights": {"num_bits": 8, "type": "int", "group_size": None}}
    ints("tensors_mixed", "INT4_64", 4, 5, 128, 64, more={"group_1": other}.items())
    mxfp4("mxfp4", 3, 6, 96)
    mxfp4("mxfp4_one", 1, 5, 64)


if __name__ == "__main__":
    main()
