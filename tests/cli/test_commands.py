#!/usr/bin/env python3
"""Drive the shoal command as a user would: answers, refusals, exit codes. argv[1]: the binary."""
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

import split

SHOAL = sys.argv.pop(1)
DEMO = "tests/data/shoal-demo-q8_0.gguf"
FOLDER = pathlib.Path("../shared/demo-model/shoal-demo-hf")
ANSWERS = json.loads(pathlib.Path("tests/data/answers.json").read_text())
STATE = tempfile.TemporaryDirectory()  # nothing of the user's own counts, keys above all
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
ENVIRONMENT["XDG_STATE_HOME"] = STATE.name


def shoal(*arguments, stdin=b"", timeout=120, environment=None):
    """Run to the end; standard output and error as bytes."""
    return subprocess.run([SHOAL, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout,
                          env={**ENVIRONMENT, **(environment or {})}, check=False)


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def refused(self, done, code, *words):
        """One sentence on standard error that holds the words, the exit code, nothing on standard output."""
        text = done.stderr.decode()
        self.assertEqual(done.returncode, code, text)
        self.assertEqual(text.count("\n"), 1, text)
        for word in words:
            self.assertIn(word, text)
        self.assertEqual(done.stdout, b"")

    def test_help_of_every_command(self):
        done = shoal("--help")
        self.assertEqual(done.returncode, 0)
        names = [line.split()[0] for line in done.stdout.decode().splitlines() if line.startswith("  ")]
        self.assertGreater(len(names), 10)
        for name in names:
            one = shoal(name, "--help")
            self.assertEqual(one.returncode, 0, name)
            self.assertIn(f"usage: shoal {name}", one.stdout.decode())
        self.refused(shoal("frobnicate"), 64, "frobnicate")

    def test_run_answers(self):
        done = shoal("run", DEMO, "What is the capital of France?", "--temperature", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Paris", done.stdout.decode())
        again = shoal("run", DEMO, "--temperature", "0", stdin=b"What is the capital of France?\n")
        self.assertEqual(again.stdout, done.stdout)

    def test_run_draws_the_same_for_a_seed(self):
        arguments = ("run", DEMO, "Tell me a short story.", "--temperature", "1.5", "--top-k", "0", "--top-p", "1",
                     "-n", "40", "--seed")
        first, same, other = shoal(*arguments, 7), shoal(*arguments, 7), shoal(*arguments, 8)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stdout, same.stdout)
        self.assertNotEqual(first.stdout, other.stdout)

    def test_run_stops_at_once_on_interrupt(self):
        with subprocess.Popen([SHOAL, "run", DEMO, "Count from one to one hundred.", "--raw", "--temperature", "2",
                               "--top-k", "0", "--top-p", "1", "--min-p", "0"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as child:
            self.assertTrue(child.stdout.read(1))
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=20)
            self.assertIn(child.returncode, (0, 130))

    def test_run_refuses_a_prompt_longer_than_the_context(self):
        self.refused(shoal("run", DEMO, "word " * 200, "--context", "64"), 69, "64", "tokens")

    def test_run_refuses_files_that_are_no_models(self):
        whole = pathlib.Path(DEMO).read_bytes()
        for name, data in {"empty": b"", "text": b"hello\n" * 99, "magic": b"GGUF", "cut": whole[:5000],
                           "short": whole[:-4096]}.items():
            file = self.path / f"{name}.gguf"
            file.write_bytes(data)
            done = shoal("run", file, "hi")
            self.refused(done, 65, name)
        self.refused(shoal("run", self.path / "absent.gguf", "hi"), 66, "absent.gguf")
        self.assertNotEqual(shoal("run", self.path, "hi").returncode, 0)

    def test_show_says_what_the_model_is(self):
        text = shoal("show", DEMO).stdout.decode()
        for word in ("qwen3moe", "11.2 M", "4.08 M", "Q8_0", "8 a layer, 2 used"):
            self.assertIn(word, text)
        j = json.loads(shoal("show", DEMO, "--json").stdout)
        self.assertEqual((j["layers"], j["experts"], j["experts_used"]), (6, 8, 2))
        # the head is the embedding (tied), and has the output norm besides
        self.assertEqual(j["weight_bytes"], sum(j["layer_bytes"]) + j["head_bytes"])
        self.assertEqual(j["head_bytes"], j["embedding_bytes"] + 256 * 4)
        self.assertEqual((j["files"], j["files_here"]), (1, 1))

    def test_a_split_model_is_named_by_any_of_its_files(self):
        parts = split.split(DEMO, self.path / "parts", 3)
        whole, ids = self.path / "whole.bin", "1,5,9,300"
        self.assertEqual(shoal("logits", DEMO, "--tokens", ids, "--out", whole).returncode, 0)
        for part in parts:
            out = self.path / "split.bin"
            done = shoal("logits", part, "--tokens", ids, "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(out.read_bytes(), whole.read_bytes())
        joined = self.path / "joined.gguf"
        done = shoal("quantize", parts[1], joined, "Q4_0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(shoal("show", joined, "--json").stdout)["files"], 1)
        j = json.loads(shoal("show", parts[2], "--json").stdout)
        self.assertEqual((j["files"], j["files_here"], j["layers"]), (3, 3, 6))
        parts[1].unlink()
        self.refused(shoal("logits", parts[0], "--tokens", ids, "--out", whole), 66, parts[1].name)
        self.refused(shoal("run", parts[0], "hi"), 66, parts[1].name)
        self.refused(shoal("serve", parts[0]), 66, parts[1].name)
        self.refused(shoal("quantize", parts[0], joined, "Q4_0"), 66, parts[1].name)
        j = json.loads(shoal("show", parts[2], "--json").stdout)
        self.assertEqual((j["files"], j["files_here"], j["range"]), (3, 2, None))
        self.assertIn("3, of which 2 are here", shoal("show", parts[0]).stdout.decode())
        self.assertEqual(shoal("show", parts[0], "--layers", "0:1").returncode, 0)
        self.refused(shoal("show", parts[0], "--layers", "2:4"), 66, parts[1].name)
        parts[0].unlink()
        self.refused(shoal("show", parts[2]), 66, parts[0].name)

    def test_show_says_what_a_range_of_layers_needs(self):
        def of(layers, *more):
            return json.loads(shoal("show", DEMO, "--layers", layers, "--json", *more).stdout)["range"]
        whole = json.loads(shoal("show", DEMO, "--json").stdout)
        self.assertEqual(whole["range"]["weight_bytes"], whole["weight_bytes"])
        first, rest = of("0:2"), of("2:6", "--kv-tokens", "1000", "--kv-type", "f32")
        self.assertEqual(first["weight_bytes"], whole["embedding_bytes"] + sum(whole["layer_bytes"][:2]))
        self.assertEqual(rest["weight_bytes"], whole["head_bytes"] + sum(whole["layer_bytes"][2:]))
        self.assertEqual(rest["kv_bytes"], 1024 * whole["kv_bytes_per_token_f16"] * 2 * 4 // 6)
        self.assertEqual(rest["resident_bytes"],
                         rest["weight_bytes"] + rest["scratch_bytes"] + rest["process_bytes"])
        self.assertEqual(rest["resident_full_bytes"], rest["resident_bytes"] + rest["kv_bytes"])
        self.assertIn("layers 2:6", shoal("show", DEMO, "--layers", "2:6").stdout.decode())
        for bad in ("6", "2:2", "3:1", "0:7", "a:b", "1:2x", ":3", "1:", "-1:3"):
            self.refused(shoal("show", DEMO, f"--layers={bad}"), 64, bad)

    def test_folders_are_models_too(self):
        folder = pathlib.Path("tests/data/hf/llama")
        j = json.loads(shoal("show", folder, "--json").stdout)
        self.assertEqual((j["name"], j["family"], j["layers"], j["vocabulary"]), ("llama", "llama", 2, 320))
        self.assertEqual(j["file_bytes"], sum(p.stat().st_size for p in (
            folder / "config.json", folder / "model.safetensors.index.json", *folder.glob("*.safetensors"))))
        expected = json.loads((folder / "expected.json").read_text())
        rows = self.path / "rows.f32"
        done = shoal("logits", folder, "--tokens", ",".join(map(str, expected["prompt"])), "--out", rows)
        self.assertEqual(done.returncode, 0, done.stderr)
        got = [x for (x,) in struct.iter_unpack("<f", rows.read_bytes())]
        want = [x for (x,) in struct.iter_unpack("<f", (folder / "logits.f32").read_bytes())]
        self.assertEqual(len(got), len(want))
        self.assertLess(max(abs(a - b) for a, b in zip(got, want)), 1e-3)
        text = "the quick brown fox, héllo".encode()
        ids = shoal("tokenize", folder, stdin=text).stdout
        self.assertEqual(shoal("tokenize", folder, "-d", stdin=ids).stdout, text)
        done = shoal("run", folder, "one two", "--raw", "-n", 3, "--temperature", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        (self.path / "empty").mkdir()
        self.refused(shoal("show", self.path / "empty"), 66, "config.json")

    def test_tokenize_both_ways(self):
        text = "Héllo, wörld! 你好 🐟\n\x00tabs\t".encode()
        ids = shoal("tokenize", DEMO, stdin=text).stdout
        self.assertEqual(shoal("tokenize", DEMO, "--detokenize", stdin=ids).stdout, text)
        raw = bytes(range(256))
        ids = shoal("tokenize", DEMO, stdin=raw).stdout
        self.assertEqual(shoal("tokenize", DEMO, "-d", stdin=ids).stdout, raw)
        case = ANSWERS[0]
        ids = shoal("tokenize", DEMO, "--special", stdin=case["prompt"].encode()).stdout
        self.assertEqual([int(i) for i in ids.split()], case["prompt_tokens"])
        pieces = shoal("tokenize", DEMO, "--pieces", stdin=b"one two").stdout.decode().splitlines()
        self.assertEqual("".join(p.split("\t", 1)[1] for p in pieces), "one two")
        self.refused(shoal("tokenize", DEMO, "-d", stdin=b"1 2 99999999"), 64, "99999999")

    def test_synth_makes_what_show_and_logits_read(self):
        out = self.path / "tiny.gguf"
        arguments = ("synth", "qwen3moe", out, "--layers", 2, "--hidden", 256, "--heads", 4, "--kv-heads", 2,
                     "--experts", 4, "--experts-used", 2, "--expert-ffn", 256, "--vocab", 512, "--type", "q4_k")
        self.assertEqual(shoal(*arguments).returncode, 0)
        first = out.read_bytes()
        self.assertEqual(shoal(*arguments).returncode, 0)
        self.assertEqual(out.read_bytes(), first)
        self.assertEqual(json.loads(shoal("show", out, "--json").stdout)["experts"], 4)
        rows = self.path / "rows.f32"
        done = shoal("logits", out, "--tokens", "1,2,3", "--out", rows)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(rows.read_bytes()), 3 * 512 * 4)
        self.assertTrue(all(abs(x) < 1e6 for (x,) in struct.iter_unpack("<f", rows.read_bytes())))
        self.refused(shoal("logits", out, "--tokens", "1,600", "--out", rows), 64, "600", "512")
        self.refused(shoal("synth", "gpt9", out), 64, "gpt9", "qwen3moe", "glm-4.5")

    def test_synth_knows_published_shapes(self):
        shapes = {  # family, experts and experts used, vocabulary, context
            "mixtral-8x7b": ("llama", 8, 2, 32000, 32768), "qwen3-30b-a3b": ("qwen3moe", 128, 8, 151936, 40960),
            "qwen3-235b-a22b": ("qwen3moe", 128, 8, 151936, 40960),
            "deepseek-v3": ("deepseek2", 256, 8, 129280, 163840),
            "deepseek-v3.2": ("deepseek32", 256, 8, 129280, 163840), "glm-5": ("glm-dsa", 256, 8, 154880, 202752),
            "kimi-linear-48b-a3b": ("kimi-linear", 256, 8, 163840, 1048576),
            "kimi-k2": ("deepseek2", 384, 8, 163840, 131072),
            "gpt-oss-120b": ("gpt-oss", 128, 4, 201088, 131072),
            "llama4-maverick": ("llama4", 128, 1, 202048, 1048576), "glm-4.5": ("glm4moe", 160, 8, 151552, 131072)}
        help_text = shoal("synth", "--help").stdout.decode()
        out = self.path / "shape.gguf"
        for name, (family, experts, used, vocabulary, context) in shapes.items():
            self.assertIn(name, help_text)
            done = shoal("synth", name, out, "--layers", 2, "--hidden", 64, "--expert-ffn", 32, "--ffn", 32,
                         "--type", "q8_0")
            self.assertEqual(done.returncode, 0, done.stderr)
            j = json.loads(shoal("show", out, "--json").stdout)
            self.assertEqual((j["family"], j["experts"], j["experts_used"], j["vocabulary"], j["context"]),
                             (family, experts, used, vocabulary, context), name)
            self.assertEqual((j["layers"], j["hidden"]), (2, 64), name)
        done = shoal("synth", "deepseek-v3", out, "--layers", 2, "--hidden", 64, "--expert-ffn", 32, "--ffn", 32,
                     "--lead-dense", 1, "--type", "IQ4_XS")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("IQ4_XS", json.loads(shoal("show", out, "--json").stdout)["types"])

    def test_synth_borrows_a_tokenizer(self):
        out, folder = self.path / "out.gguf", "tests/data/tokenizers/byte-level"
        shape = ("--layers", 1, "--hidden", 64, "--heads", 2, "--kv-heads", 2)
        for lender in (DEMO, folder):
            done = shoal("synth", "qwen3", out, *shape, "--tokenizer", lender)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            text = "the tokens of 12 don't".encode()
            self.assertEqual(shoal("tokenize", out, stdin=text).stdout, shoal("tokenize", lender, stdin=text).stdout)
        self.refused(shoal("synth", "qwen3", out, *shape, "--tokenizer", self.path), 66, "tokenizer.json")
        self.refused(shoal("synth", "qwen3", out, *shape, "--tokenizer", "tests/data/tokenizers/digits"), 69, "digits")
        self.assertEqual([p.name for p in self.path.iterdir()], ["out.gguf"])

    def tiny(self, name="tiny.gguf"):
        """A random model in F32, with rows that are no multiple of 256 among others."""
        out = self.path / name
        done = shoal("synth", "qwen3moe", out, "--layers", 2, "--hidden", 256, "--heads", 3, "--kv-heads", 1,
                     "--head-dim", 32, "--experts", 4, "--experts-used", 2, "--expert-ffn", 256, "--vocab", 512,
                     "--type", "f32")
        self.assertEqual(done.returncode, 0, done.stderr)
        return out

    def logits(self, model):
        rows = self.path / "rows.f32"
        done = shoal("logits", model, "--tokens", "1,2,3,4", "--out", rows)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [x for (x,) in struct.iter_unpack("<f", rows.read_bytes())]

    def test_quantize_writes_every_type(self):
        source = self.tiny()
        want = self.logits(source)
        power = sum(x * x for x in want)
        bounds = {"F16": 1e-4, "BF16": 1e-3, "q8_0": 2e-3, "Q6_K": 0.01, "Q5_K_M": 0.03, "Q4_K_M": 0.1, "Q4_0": 0.15,
                  "MXFP4": 0.2}
        for name, bound in bounds.items():
            out = self.path / f"{name}.gguf"
            self.assertEqual(shoal("quantize", source, out, name, "-t", 2).returncode, 0)
            got = self.logits(out)
            self.assertLess(sum((a - b) ** 2 for a, b in zip(got, want)) / power, bound, name)
            again = self.path / "again.gguf"
            self.assertEqual(shoal("quantize", source, again, name, "-t", 1).returncode, 0)
            self.assertEqual(again.read_bytes(), out.read_bytes(), name)
        types = json.loads(shoal("show", self.path / "Q4_K_M.gguf", "--json").stdout)["types"]
        self.assertEqual(set(types), {"F32", "Q4_K", "Q6_K", "Q5_0"})  # Q5_0: attn_output's rows of 96 values
        same = self.path / "same.gguf"
        self.refused(shoal("quantize", self.path / "MXFP4.gguf", same, "Q8_0"), 64, "nothing would change")
        twice = shoal("quantize", self.path / "q8_0.gguf", same, "Q4_0")
        self.assertEqual((twice.returncode, twice.stderr.count(b"\n")), (0, 1))
        self.assertIn(b"quantised already", twice.stderr)

    @unittest.skipUnless(FOLDER.exists(), f"no {FOLDER}")
    def test_quantize_makes_a_file_of_a_folder(self):
        out = self.path / "demo.gguf"
        done = shoal("quantize", FOLDER, out, "Q8_0")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        question = ("What is the capital of France?", "--temperature", "0")
        self.assertEqual(shoal("run", out, *question).stdout, shoal("run", DEMO, *question).stdout)
        text = "Héllo, wörld! 你好 🐟\n <|im_start|> 12345".encode()
        self.assertEqual(shoal("tokenize", out, "--special", stdin=text).stdout,
                         shoal("tokenize", FOLDER, "--special", stdin=text).stdout)
        ours, theirs = (json.loads(shoal("show", f, "--json").stdout) for f in (out, DEMO))
        for key in ("family", "layers", "experts", "types", "vocabulary", "context"):
            self.assertEqual(ours[key], theirs[key], key)

    def test_quantize_spends_more_where_it_matters(self):
        source, out = self.path / "eight.gguf", self.path / "out.gguf"
        done = shoal("synth", "llama", source, "--layers", 8, "--hidden", 256, "--heads", 4, "--kv-heads", 2,
                     "--experts", 8, "--experts-used", 2, "--expert-ffn", 256, "--vocab", 512, "--type", "f16")
        self.assertEqual(done.returncode, 0, done.stderr)
        matrix = 256 * 256
        expect = {
            # eight experts: keys and values as Q8_0, attn_output as Q5_K; layers 0, 3, 6 and 7 have better ffn_down
            "Q4_K_M": {"Q4_K": (8 * (1 + 8 + 8) + 4 * 8 + 2) * matrix // 256 * 144, "Q5_K": 8 * matrix // 256 * 176,
                       "Q6_K": (4 * 8 + 2) * matrix // 256 * 210, "Q8_0": 8 * matrix // 32 * 34},
            # keys and values, and the output matrix
            "Q4_0": {"Q4_0": (8 * (2 + 3 * 8) + 2) * matrix // 32 * 18, "Q8_0": 8 * 1 * matrix // 32 * 34,
                     "Q6_K": 2 * matrix // 256 * 210},
            # the experts alone
            "MXFP4": {"MXFP4": 8 * 3 * 8 * matrix // 32 * 17, "Q8_0": (8 * 3 + 4) * matrix // 32 * 34},
        }
        for name, types in expect.items():
            self.assertEqual(shoal("quantize", source, out, name).returncode, 0)
            got = json.loads(shoal("show", out, "--json").stdout)["types"]
            del got["F32"]
            self.assertEqual(got, types, name)

    def test_quantize_refuses_and_leaves_nothing(self):
        source, out = self.tiny(), self.path / "out.gguf"
        self.refused(shoal("quantize", source, out, "Q9"), 64, "Q9", "Q4_K_M")
        self.refused(shoal("quantize", source, source, "Q8_0"), 64, "another")
        self.refused(shoal("quantize", self.path / "absent.gguf", out, "Q8_0"), 66, "absent.gguf")
        pipe, folder = self.path / "pipe", self.path / "folder"
        os.mkfifo(pipe)
        folder.mkdir()
        for place in (pipe, folder):
            self.refused(shoal("quantize", source, place, "Q8_0"), 64, "not a regular file")
            self.refused(shoal("synth", "llama", place, "--layers", 1, "--hidden", 64, "--vocab", 64), 64,
                         "not a regular file")
        pipe.unlink()
        folder.rmdir()
        whole = bytearray(source.read_bytes())
        for bad, words in ((b"\xff\xff\xff\xff", "not numbers"), (struct.pack("<f", 1e30), "too large")):
            middle = len(whole) // 2 & ~3
            whole[middle:middle + 4096] = bad * 1024
            source.write_bytes(whole)
            self.refused(shoal("quantize", source, out, "Q8_0"), 64, "tensor", words)
        self.assertEqual(sorted(p.name for p in self.path.iterdir()), ["tiny.gguf"])

    def test_quantize_goes_on_where_it_was_interrupted(self):
        source, out, whole = (self.path / name for name in ("big.gguf", "out.gguf", "whole.gguf"))
        done = shoal("synth", "llama", source, "--layers", 6, "--hidden", 1024, "--heads", 8, "--vocab", 4096,
                     "--type", "f32")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(shoal("quantize", source, whole, "Q6_K", "-t", "2").returncode, 0)
        journal = self.path / "out.gguf.shoal-journal"
        with subprocess.Popen([SHOAL, "quantize", source, out, "Q6_K", "-t", "1"], stderr=subprocess.PIPE,
                              env=ENVIRONMENT) as child:
            while not (journal.exists() and journal.read_text().count("done") > 1) and child.poll() is None:
                pass
            child.send_signal(signal.SIGINT)
            error = child.communicate(timeout=60)[1].decode()
        self.assertEqual((child.returncode, error.count("\n")), (130, 1), error)
        self.assertIn("the same command goes on", error)
        self.assertFalse(out.exists())
        done = shoal("quantize", source, out, "Q6_K")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"going on with", done.stderr)
        self.assertEqual(out.read_bytes(), whole.read_bytes())
        self.assertEqual(sorted(p.name for p in self.path.iterdir()), ["big.gguf", "out.gguf", "whole.gguf"])

    def test_a_file_that_shrinks_is_an_input_error(self):
        source, out = self.path / "big.gguf", self.path / "out.gguf"
        done = shoal("synth", "llama", source, "--layers", 6, "--hidden", 1024, "--heads", 8, "--vocab", 4096,
                     "--type", "f32")
        self.assertEqual(done.returncode, 0, done.stderr)
        journal = self.path / "out.gguf.shoal-journal"
        with subprocess.Popen([SHOAL, "quantize", source, out, "Q4_K_M", "-t", "1"], stderr=subprocess.PIPE,
                              env=ENVIRONMENT) as child:
            while not journal.exists() and child.poll() is None:
                pass
            child.send_signal(signal.SIGSTOP)
            os.truncate(source, 1 << 16)
            child.send_signal(signal.SIGCONT)
            error = child.communicate(timeout=60)[1].decode()
        self.assertEqual((child.returncode, error.count("\n")), (74, 1), error)
        self.assertIn("cut short", error)
        self.assertFalse(out.exists())

    def test_bench_reports_positive_rates(self):
        done = shoal("bench", DEMO, "-t", "1,2", "-p", 32, "-n", 8, "-r", 2, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(reports), 2)
        for report in reports:
            for kind in ("prefill", "decode"):
                self.assertGreater(report[kind]["median"], 0)
                self.assertLessEqual(report[kind]["min"], report[kind]["median"])
                self.assertLessEqual(report[kind]["median"], report[kind]["max"])

    def bench(self, *arguments):
        """The one JSON line of a bench of the demo model on one thread."""
        done = shoal("bench", DEMO, "-t", 1, "--json", *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.count(b"\n"), 1)
        return json.loads(done.stdout)

    def test_bench_measures_every_batch_after_a_context(self):
        report = self.bench("-p", 24, "-n", 4, "-b", "1,3,17", "-d", 40, "-r", 2)
        cases = [(m["kind"], m["tokens"], m["batch"], m["depth"], m["rounds"]) for m in report["measures"]]
        self.assertEqual(cases, [("prefill", 24, 1, 40, 2)] + [("decode", 4, n, 40, 2) for n in (1, 3, 17)])
        self.assertEqual((report["unit"], report["threads"]), ("tokens/s", 1))
        self.assertGreater(report["operations"]["f32"], 0)
        for m in report["measures"]:
            self.assertGreater(m["operations_per_second"], 0)
            self.assertAlmostEqual(m["operations_per_second"] / m["median"] / report["operations_per_token"], 1)
            self.assertEqual("weight_bytes_per_second" in m, m["kind"] == "decode" and m["batch"] == 1)
            self.assertEqual(set(m["us_per_token"]),
                             {"embed", "norm", "matmul", "rope", "attention", "ffn", "moe", "head"})
            for operation in ("matmul", "attention", "moe", "head"):
                self.assertGreater(m["us_per_token"][operation], 0)
        self.assertEqual(report["prefill"], report["measures"][0])
        self.assertEqual(report["decode"], report["measures"][1])

    def test_bench_goes_on_after_a_context_that_cannot_be_gone_back_to(self):
        out = self.path / "state.gguf"
        done = shoal("synth", "qwen3next", out, "--layers", 4, "--hidden", 256, "--vocab", 512, "--type", "f32")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = shoal("bench", out, "-t", 1, "--json", "-p", 8, "-n", 3, "-b", "2,1", "-d", 70, "-r", 2)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(len(json.loads(done.stdout)["measures"]), 3)

    def test_bench_compares_with_a_peer(self):
        tests = [{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "n_threads": 1, "avg_ts": 200.0},
                 {"n_prompt": 0, "n_gen": 2, "n_depth": 0, "n_threads": 2, "avg_ts": 7.0},
                 {"n_prompt": 0, "n_gen": 2, "n_depth": 9, "n_threads": 1, "avg_ts": 7.0},
                 {"n_prompt": 8, "n_gen": 2, "n_depth": 0, "n_threads": 1, "avg_ts": 7.0},
                 {"n_prompt": 0, "n_gen": 2, "n_depth": 0, "n_threads": 1, "avg_ts": 50.0}]
        table = ("| model | size | threads | test | t/s |\n| --- | ---: | ---: | ---: | ---: |\n"
                 "| x | 1 | 2 | pp8 | 7.0 |\n| x | 1 | 1 | pp8 @ d9 | 7.0 |\n| x | 1 | 1 | pp8+tg2 | 7.0 |\n"
                 "| x | 1 | 1 | pp8 | 200.00 ± 1.50 |\n| x | 1 | 1 | tg2 | 50.00 ± 0.00 |\n| torn | 1")
        own = {"threads": 1, "measures": [
            {"kind": "prefill", "tokens": 8, "batch": 1, "depth": 0, "median": 200.0},
            {"kind": "decode", "tokens": 2, "batch": 1, "depth": 0, "median": 50.0}]}
        forms = {"json": json.dumps(tests, indent=2), "lines": "\n".join(map(json.dumps, tests)), "own": json.dumps(own),
                 "table": "[ not JSON\n{\n|\n" + table}
        for name, text in forms.items():
            printed = self.path / name
            printed.write_text(text)
            report = self.bench("-p", 8, "-n", 2, "-r", 3, "--compare", f"cat {printed}; echo $$ >> {printed}.ran")
            self.assertEqual(len((self.path / f"{name}.ran").read_text().split()), 3)
            for kind, rate in (("prefill", 200), ("decode", 50)):
                m = report[kind]
                self.assertEqual(m["peer"], {"median": rate, "min": rate, "max": rate, "rounds": 3}, name)
                self.assertAlmostEqual(m["ratio"], m["median"] / rate)

    def test_bench_compares_batches_and_fills_the_command_in(self):
        line = '{"n_threads": 1, "pp": 16, "tg": 2, "pl": %d, "speed_pp": 9, "speed_tg": %d}'
        (self.path / "out").write_text("noise\n" + "\n".join(line % (n, 10 * n) for n in (1, 2, 4)))
        said = self.path / "said"
        report = self.bench("-p", 0, "-n", 2, "-b", "4,2", "-d", 16, "-r", 1, "--compare",
                            f"echo {{model}} {{threads}} {{prompt}} {{generate}} {{depth}} {{other}} >{said}; "
                            f"cat {self.path / 'out'}")
        self.assertEqual([m["peer"]["median"] for m in report["measures"]], [40, 20])
        self.assertEqual(said.read_text(), f"{DEMO} 1 0 2 16 {{other}}\n")
        done = shoal("bench", DEMO, "-t", 1, "-p", 0, "-n", 2, "-b", "1,2", "-d", 16, "-r", 1, "--compare",
                     f"cat {self.path / 'out'}")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("tokens a second", "the other", "ratio", "where the time of a token goes", "moe"):
            self.assertIn(word, done.stdout.decode())

    def test_bench_refuses_a_peer_that_says_nothing(self):
        short = ("bench", DEMO, "-t", 1, "-p", 8, "-n", 2, "-r", 1, "--compare")
        self.refused(shoal(*short, "exit 3"), 64, "--compare", "exit code 3")
        self.refused(shoal(*short, "echo hello"), 64, "--compare", "no figures")
        deep = "head -c 300000 /dev/zero | tr '\\0' '['; echo; echo '{'"
        self.refused(shoal(*short, deep), 64, "--compare", "no figures")
        self.refused(shoal(*short, "head -c 5000000 /dev/zero"), 69, "--compare", "bytes")
        other = '{"n_prompt": 9, "n_gen": 0, "n_threads": 1, "avg_ts": 5}'
        self.refused(shoal(*short, f"echo '{other}'"), 64, "--compare", "none of the 1 figures")
        broken = '{"n_prompt": -8, "n_gen": 0, "avg_ts": 5}{"n_prompt": 8, "n_gen": 0, "avg_ts": "5"}'
        self.refused(shoal(*short, f"echo '{broken}'"), 64, "--compare", "no figures")

    def test_bench_is_stopped_while_a_peer_runs(self):
        mark = self.path / "running"
        with subprocess.Popen([SHOAL, "bench", DEMO, "-t", "1", "-p", "8", "-n", "2", "--compare",
                               f"touch {mark}; exec sleep 100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=ENVIRONMENT, start_new_session=True) as child:
            while not mark.exists() and child.poll() is None:
                pass
            os.killpg(child.pid, signal.SIGINT)
            out, error = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out, error), (130, b"", b"shoal: stopped\n"))

    def test_bench_refuses_what_does_not_go_together(self):
        for arguments, word in (((), "--cluster"), ((DEMO, "--machine"), "--machine"),
                                (("--machine", "--compare", "true"), "--machine"),
                                ((DEMO, "--nodes", 2, "-b", 2), "--batch"), ((DEMO, "--nodes", 2, "-d", 2), "--depth"),
                                ((DEMO, "-b", "1,0"), "1,0"), ((DEMO, "-b", 257), "257"), ((DEMO, "-d", "x"), "x")):
            self.refused(shoal("bench", *arguments), 64, word)
        self.refused(shoal("bench", DEMO, "-b", 256, "-d", 1 << 20, "-t", 1), 71, "KV")
        self.refused(shoal("bench", DEMO, "-b", ",".join(["1"] * 64)), 69, "--batch")

    def test_bench_measures_the_machine(self):
        lines = [json.loads(x) for x in shoal("bench", "--machine", "-t", "1,2", "--json").stdout.splitlines()]
        self.assertEqual([x["threads"] for x in lines], [1, 2])
        for x in lines:
            self.assertGreater(x["read_bandwidth"], 0)
            self.assertEqual(set(x["operations"]), {"int8", "bf16", "f32"})
            self.assertGreater(x["operations"]["f32"], 0)
        scalar = shoal("bench", "--machine", "-t", 1, "--isa", "scalar")
        self.assertEqual(scalar.returncode, 0, scalar.stderr)
        heading, row = scalar.stdout.decode().splitlines()
        self.assertIn("GB/s", heading)
        self.assertEqual((row.split()[0], row.split()[2:4]), ("1", ["-", "-"]))
        self.refused(shoal("bench", "--machine", "--isa", "abacus"), 69, "abacus")

    def test_a_port_in_use_is_said(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = shoal("serve", DEMO, "--port", port)
            self.assertEqual(done.returncode, 70)
            self.assertIn(str(port), done.stderr.decode())
            self.assertIn("in use", done.stderr.decode())

    def test_no_memory_for_a_model_is_said(self):
        done = shoal("up", DEMO, "--nodes", 2, "--memory", "1M", "--ask", "hi", timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("memory", done.stderr.decode())

    def test_up_answers_with_three_nodes(self):
        done = shoal("up", DEMO, "--nodes", 3, "--threads", 1, "--ask", "What is the capital of France?")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Paris", done.stdout.decode())
        self.assertIn("node-3", done.stderr.decode())

    def test_up_leaves_nothing_behind(self):
        with subprocess.Popen([SHOAL, "up", DEMO, "--nodes", "2", "--port", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**ENVIRONMENT, "TMPDIR": str(self.path)}) as child:
            for line in child.stderr:
                if b"the cluster is up" in line:
                    break
            nodes = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, check=False).stdout.split()
            self.assertEqual(len(nodes), 2)
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=20)
            self.assertEqual(child.returncode, 0)
            for node in nodes:
                self.assertFalse(pathlib.Path(f"/proc/{int(node)}").exists())
        self.assertEqual(list(self.path.iterdir()), [])

    def test_logits_of_a_cluster_are_the_bits_of_one_process(self):
        with subprocess.Popen([SHOAL, "up", DEMO, "--nodes", "3", "--threads", "1", "--port", "0"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as child:
            for line in child.stderr:
                if b"base URL" in line:
                    url = line.split()[-1].decode().removesuffix("/v1")
                    break
            tokens = ",".join(str(5 * i + 1) for i in range(70))
            for name, source in {"split": ("--cluster", url), "whole": (DEMO,)}.items():
                done = shoal("logits", *source, "--tokens", tokens, "--out", self.path / name)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual((self.path / "split").read_bytes(), (self.path / "whole").read_bytes())
            status = shoal("status", "--url", url)
            self.assertEqual(status.returncode, 0, status.stderr)
            for word in ("node-1", "node-2", "node-3", "layers"):
                self.assertIn(word, status.stdout.decode())
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=20)
            self.assertEqual(child.returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)
