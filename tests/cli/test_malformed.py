#!/usr/bin/env python3
"""Give the shoal command files that are cut, lie or were made to harm: one sentence, an exit code, no memory.

argv[1]: the binary. The parsers' own tests have every case; these show that nothing is lost on the way to the user."""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

SHOAL = sys.argv.pop(1)
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
GROWTH = 64 << 20  # of resident memory, over that of a sound file


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    """A metadata entry; bytes are taken as they are."""
    if isinstance(value, bytes):
        body = value
    elif kind == STRING:
        body = text(value)
    else:
        body = struct.pack({U8: "<B", U32: "<I", F32: "<f", BOOL: "<?", U64: "<Q"}[kind], value)
    return text(name) + struct.pack("<I", kind) + body


def strings(name, values):
    return key(name, ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(text(v) for v in values))


def info(name, ne, kind, offset):
    return text(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne) + \
        struct.pack("<IQ", kind, offset)


class Model:
    """A llama of one layer, 32 wide, with three tokens."""

    def __init__(self):
        self.magic, self.version, self.n_keys, self.n_infos = b"GGUF", 3, None, None
        self.keys = {name: key(name, kind, value) for name, kind, value in (
            ("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1),
            ("llama.context_length", U32, 64), ("llama.embedding_length", U32, 32),
            ("llama.feed_forward_length", U32, 32), ("llama.attention.head_count", U32, 2),
            ("llama.attention.head_count_kv", U32, 2), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
            ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "gpt-2"),
            ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.eos_token_id", U32, 0))}
        self.keys["tokens"] = strings("tokenizer.ggml.tokens", ["a", "b", "ab"])
        self.keys["merges"] = strings("tokenizer.ggml.merges", ["a b"])
        self.infos, self.data = [], b""
        square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        for name, ne in [("token_embd", [32, 3]), ("output_norm", [32]), ("blk.0.attn_norm", [32]),
                         ("blk.0.ffn_norm", [32])] + [(f"blk.0.{s}", [32, 32]) for s in square]:
            self.add(name + ".weight", ne)

    def add(self, name, ne, kind=0, offset=None):
        size = 4
        for n in ne:
            size *= n
        self.infos.append(info(name, ne, kind, len(self.data) if offset is None else offset))
        self.data += bytes(min(size, 1 << 16))

    def bytes(self):
        keys = list(self.keys.values())
        n_keys = len(keys) if self.n_keys is None else self.n_keys
        n_infos = len(self.infos) if self.n_infos is None else self.n_infos
        head = self.magic + struct.pack("<IQQ", self.version, n_infos, n_keys) + b"".join(keys) + b"".join(self.infos)
        return head + bytes(-len(head) % 32) + self.data


def setting(**fields):
    return lambda m: m.__dict__.update(fields)


def keyed(name, entry):
    return lambda m: m.keys.__setitem__(name, entry)


def added(*arguments, **named):
    return lambda m: m.add(*arguments, **named)


def number(name, value):
    return keyed(name, key(name, U32, value))


# number in the catalogue of malformed model files, what is done to a sound model, exit code, words
CASES = [
    (71, setting(magic=b"GGML"), 65, "not a GGUF"), (71, setting(version=0), 69, "version 0"),
    (71, setting(version=2**32 - 1), 69, "version 4294967295"), (71, setting(version=3 << 24), 69, "big-endian"),
    (72, setting(n_infos=2**63), 65, "tensors"), (72, setting(n_keys=2**64 - 1), 65, "metadata keys"),
    (72, setting(n_infos=1 << 20), 65, "tensors"),
    (73, keyed("x", struct.pack("<Q", 2**64 - 1)), 65, "damaged"), (73, keyed("x", key("a\0b", U8, 1)), 65, "damaged"),
    (73, keyed("x", key(b"\xff\xfe", U8, 1)), 65, "damaged"),
    (73, keyed("x", key("llama.block_count", U32, 1)), 65, "occurs twice"),
    (73, keyed("x", key("s", STRING, struct.pack("<Q", 2**64 - 1))), 65, "ends inside"),
    (74, keyed("x", key("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 1000)), 65, "array of type 9"),
    (74, keyed("x", key("x", ARRAY, struct.pack("<IQ", U8, 1 << 40))), 65, "ends inside an array"),
    (74, keyed("x", key("x", ARRAY, struct.pack("<IQ", 77, 1))), 65, "type 77"),
    (74, keyed("x", key("general.alignment", STRING, "32")), 65, "alignment"),
    (75, added("x", []), 65, "0 dimensions"), (75, added("x", [1] * 5), 65, "5 dimensions"),
    (75, added("x", [32, 0]), 65, "dimensions"), (75, added("x", [2**63 + 1, 2]), 65, "dimensions"),
    (75, added("x", [2**32, 2**32]), 65, "dimensions"),
    (76, added("x", [32], kind=4), 69, "type 4"), (76, added("x", [33], kind=8), 65, "dimensions"),
    (77, added("x", [32], offset=17), 65, "aligned"), (77, added("x", [32], offset=2**64 - 64), 65, "past the end"),
    (77, added("x", [32], offset=0), 65, "before the one"), (77, added("x", [1 << 20]), 65, "past the end"),
    (78, keyed("x", key("general.alignment", U32, 0)), 65, "alignment"),
    (78, keyed("x", key("general.alignment", U32, 1 << 30)), 65, "alignment"),
    (78, keyed("x", key("general.alignment", U64, 1 << 63)), 65, "alignment"),
    (79, added("output_norm.weight", [32]), 65, "occurs twice"), (79, added("x" * 10**6, [32]), 65, "damaged"),
    (79, added("../../etc/passwd", [32]), 69, "../../etc/passwd"), (79, added("\x1b[2J", [32]), 65, "damaged"),
    (80, number("llama.attention.head_count", 0), 65, "head_count is 0"),
    (80, number("llama.attention.head_count_kv", 7), 65, "7 KV heads"),
    (80, number("llama.block_count", 2**31), 65, "block_count"), (80, number("llama.block_count", 0), 65, "block_count"),
    (80, number("llama.embedding_length", 33), 65, "33"), (80, number("llama.expert_count", 4), 65, "expert"),
    (80, keyed("x", key("llama.rope.freq_base", F32, float("nan"))), 65, "freq_base"),
    (80, keyed("x", key("llama.rope.freq_base", F32, 0.0)), 65, "freq_base"),
    (80, keyed("tokens", strings("tokenizer.ggml.tokens", ["a"] * 4)), 65, "4 tokens"),
]

# The same for what `shoal show` need not look at: the tokenizer.
TOKENIZER_CASES = [
    (81, number("tokenizer.ggml.bos_token_id", 3), 65, "bos_token_id is 3"),
    (81, number("tokenizer.ggml.eos_token_id", 2**31), 65, "eos_token_id"),
    (81, keyed("tokens", strings("tokenizer.ggml.tokens", ["a", "b", "x" * 5000])), 69, "5000"),
    (81, lambda m: m.keys.pop("merges"), 65, "merges"),
    (82, keyed("tokenizer.ggml.pre", key("tokenizer.ggml.pre", STRING, "evil")), 69, "evil"),
    (83, keyed("x", key("tokenizer.chat_template", STRING, "{{ x }}" * 200000)), 69, "template"),
]


class Malformed(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def run_shoal(self, *arguments):
        """The exit code, standard error, and the most resident bytes."""
        errors = self.path / "errors"
        with open(errors, "wb") as err, subprocess.Popen(
                [SHOAL, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                env=ENVIRONMENT) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        return child.returncode, errors.read_text(), usage.ru_maxrss * 1024

    def refused(self, arguments, code, words, most):
        got, error, resident = self.run_shoal(*arguments)
        self.assertEqual((got, error.count("\n")), (code, 1), f"{arguments} {error}")
        self.assertIn(words, error)
        self.assertTrue(error.isprintable() or error[:-1].isprintable(), error)
        self.assertLess(resident, most + GROWTH, f"{arguments} {error}")

    def commands(self, file):
        return (("show", file), ("run", file, "ab", "--raw"), ("logits", file, "--tokens", "1", "--out", "/dev/null"),
                ("quantize", file, self.path / "out.gguf", "Q8_0"))

    def test_models(self):
        sound = self.path / "sound.gguf"
        sound.write_bytes(Model().bytes())
        most = 0
        for command in self.commands(sound):
            code, error, resident = self.run_shoal(*command)
            self.assertEqual(code, 0, f"{command} {error}")
            most = max(most, resident)
        (self.path / "out.gguf").unlink()
        for case, change, code, words in CASES + TOKENIZER_CASES:
            model, file = Model(), self.path / f"case-{case}.gguf"
            change(model)
            file.write_bytes(model.bytes())
            commands = self.commands(file)
            if (case, change, code, words) in TOKENIZER_CASES:
                commands = (commands[1], ("tokenize", file))
            elif case >= 79:
                commands = commands[:3]  # models that cannot be run can be quantised, if they are files
            for command in commands:
                self.refused(command, code, words, most)

    def test_every_cut_is_refused(self):
        whole = Model().bytes()
        for n in list(range(0, 32)) + list(range(32, len(whole), 1499)):
            file = self.path / "cut.gguf"
            file.write_bytes(whole[:n])
            self.refused(("show", file), 65, "cut.gguf", 32 << 20 if n else 0)

    def test_what_is_no_file(self):
        (self.path / "folder").mkdir()
        os.mkfifo(self.path / "fifo")
        os.symlink("nowhere", self.path / "link")
        with open(self.path / "hole", "wb") as hole:
            hole.truncate(1 << 40)
        for name, code in (("folder", None), ("fifo", 64), ("link", 66), ("hole", 65), ("/dev/zero", 64)):
            got, error, _ = self.run_shoal("show", self.path / name)
            self.assertEqual(error.count("\n"), 1, error)
            self.assertIn(got, (code,) if code else (64, 65, 66, 69), error)

    def test_weights_that_are_no_numbers(self):
        model, file = Model(), self.path / "nan.gguf"
        for fill, code in ((float("nan"), {69, 70, 65}), (1e-42, {0}), (0.0, {0})):
            model.data = struct.pack("<f", fill) * (len(model.data) // 4)
            file.write_bytes(model.bytes())
            self.assertEqual(self.run_shoal("show", file)[0], 0)
            got, error, _ = self.run_shoal("run", file, "ab", "--raw", "-n", "2")
            self.assertIn(got, code, error)
            self.assertLessEqual(error.count("\n"), 2, error)


if __name__ == "__main__":
    unittest.main(verbosity=1)
