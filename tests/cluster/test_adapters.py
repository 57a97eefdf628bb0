#!/usr/bin/env python3
"""LoRA adapters as users meet them: in one process, and by the names of models in a cluster of two nodes, several at
once. argv[1]: the binary."""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.request

from adapters import make
from rig import DEMO, Cluster

SHOAL = sys.argv.pop(1)
STATE = tempfile.TemporaryDirectory()  # nothing of the user's own counts, keys above all
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
ENVIRONMENT["XDG_STATE_HOME"] = STATE.name
BASE = "shoal-demo-q8_0"
TOKENS = ",".join(str(7 * i + 3) for i in range(40))


def shoal(*arguments):
    return subprocess.run([SHOAL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          env=ENVIRONMENT, check=False)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.one, self.two = (make(self.path / f"{name}.gguf", seed) for name, seed in (("one", 1), ("two", 2)))

    def stop(self, cluster):
        self.assertEqual(set(cluster.stop().values()), {0})

    def logits(self, *arguments):
        done = shoal("logits", *arguments, "--tokens", TOKENS, "--out", self.path / "rows")
        self.assertEqual(done.returncode, 0, done.stderr)
        return (self.path / "rows").read_bytes()

    def local(self, *adapters):
        return self.logits(DEMO, "--threads", 1, *(a for x in adapters for a in ("--lora", x)))


class Local(Folder):
    def test_an_adapter_changes_what_comes_out_as_much_as_it_is_scaled(self):
        plain, one = self.local(), self.local(self.one)
        self.assertNotEqual(plain, one)
        self.assertEqual(self.local(f"{self.one}:0"), plain)
        self.assertEqual(self.local(f"{self.one}:1"), one)
        self.assertNotEqual(self.local(f"{self.one}:0.5"), one)
        self.assertNotEqual(self.local(self.two), one)

    def test_run_and_bench_take_one(self):
        done = shoal("run", DEMO, "Hello", "--temperature", 0, "-n", 4, "--lora", self.one)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = shoal("bench", DEMO, "--lora", self.one, "-p", 8, "-n", 4, "-r", 1, "-t", 1)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_what_cannot_be_is_refused_in_one_sentence(self):
        other = self.path / "other.gguf"
        other.write_bytes(self.one.read_bytes().replace(b"qwen3moe", b"qwen2moe"))
        cases = {("--lora", self.one, "--lora", self.two): "one adapter at a time",
                 ("--lora", self.path / "none.gguf"): "none.gguf",
                 ("--lora", DEMO): "is no adapter",
                 ("--lora", other): "family qwen2moe",
                 ("--lora", f"{self.one}:1e9"): "scale"}
        for arguments, words in cases.items():
            done = shoal("run", DEMO, "Hello", *arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stderr.decode().count("\n"), 1, done.stderr)
            self.assertIn(words, done.stderr.decode())
        done = shoal("serve", DEMO, "--port", 0, "--lora", self.one, "--lora", f"one={self.two}")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("two adapters are called one", done.stderr.decode())


class Served(Folder):
    """Nodes that fetch what they need: their caches are their own, and the adapters are not where the hints say."""

    def setUp(self):
        super().setUp()
        self.expected = {f"{BASE}:one": self.local(self.one), f"{BASE}:poet": self.local(f"{self.two}:0.5"),
                         BASE: self.local()}
        place = self.path / "place"
        place.mkdir()
        for name in ("one.gguf", "two.gguf"):
            (self.path / name).rename(place / name)
        (self.path / "cluster").mkdir()
        self.cluster = Cluster(SHOAL, self.path / "cluster", "--nodes", 2, "--log-level", "info", "--kv-type", "f16",
                               "--lora", place / "one.gguf", "--lora", f"poet={place / 'two.gguf'}:0.5")
        self.addCleanup(self.stop, self.cluster)
        place.rename(self.path / "elsewhere")
        for name in ("a", "b"):
            self.cluster.add_node(name, cache=f"cache-{name}")
        self.cluster.wait_ready(2)

    def get(self, path):
        with urllib.request.urlopen(self.cluster.url + path, timeout=20) as answer:
            return json.load(answer)

    def answer(self, model):
        code, j = self.cluster.post("/v1/completions", {"model": model, "prompt": "Once upon a time", "temperature": 0,
                                                        "max_tokens": 24, "logprobs": 0})
        self.assertEqual(code, 200, j)
        self.assertEqual(j["model"], model)
        return j["choices"][0]["text"], j["choices"][0]["logprobs"]["token_logprobs"]

    def test_models_are_listed_and_answer_each_for_itself(self):
        models = {m["id"]: m["parent"] for m in self.get("/v1/models")["data"]}
        self.assertEqual(models, {BASE: None, f"{BASE}:one": BASE, f"{BASE}:poet": BASE})
        self.assertEqual(self.get(f"/v1/models/{BASE}:poet")["parent"], BASE)
        code, j = self.cluster.post("/v1/completions", {"model": f"{BASE}:none", "prompt": "x"})
        self.assertEqual((code, j["error"]["code"]), (404, "model_not_found"))
        for model, want in self.expected.items():
            got = self.logits("--cluster", self.cluster.url, "--model-name", model)
            self.assertEqual(got, want, f"{model} in a cluster and in one process")
        alone = {model: self.answer(model) for model in models}
        self.assertEqual(len({a[0] for a in alone.values()}), 3)
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            together = list(pool.map(lambda m: (m, self.answer(m)), list(models) * 3))
        for model, got in together:
            self.assertEqual(got, alone[model], f"{model} beside the others")
        self.assertEqual(self.cluster.post("/v1/completions", {"prompt": "Once upon a time", "temperature": 0,
                                                               "max_tokens": 24})[1]["choices"][0]["text"],
                         alone[BASE][0])


class Folders(Folder):
    """An adapter of PEFT, two files, of a Hugging Face folder; the nodes fetch both."""

    def test_nodes_fetch_an_adapter_of_several_files(self):
        model, adapter = "tests/data/hf/llama", "tests/data/peft/llama"
        want = self.logits(model, "--threads", 1, "--lora", f"{adapter}:0.5")
        self.assertEqual(self.logits(model, "--threads", 1, "--lora", f"{adapter}/adapter_model.safetensors:0.5"), want)
        self.assertNotEqual(self.logits(model, "--threads", 1), want)
        place = self.path / "place"
        place.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (place / name).write_bytes((pathlib.Path(adapter) / name).read_bytes())
        (self.path / "cluster").mkdir()
        cluster = Cluster(SHOAL, self.path / "cluster", "--nodes", 2, "--log-level", "info", "--lora",
                          f"tuned={place}:0.5", model=model)
        self.addCleanup(self.stop, cluster)
        place.rename(self.path / "elsewhere")
        for name in ("a", "b"):
            cluster.add_node(name, cache=f"cache-{name}")
        cluster.wait_ready(2)
        self.assertEqual(self.logits("--cluster", cluster.url, "--model-name", "llama:tuned"), want)


if __name__ == "__main__":
    unittest.main()
