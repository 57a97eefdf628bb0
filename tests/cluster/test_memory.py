#!/usr/bin/env python3
"""What `shoal show` says that a node will need, beside what nodes take. argv[1]: the shoal binary."""
import json
import pathlib
import sys
import tempfile
import unittest

from rig import Cluster, wait_until

SHOAL = sys.argv.pop(1)
KV_TOKENS = 512


class Memory(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def model(self, family, *options):
        c = Cluster.__new__(Cluster)
        c.shoal = SHOAL
        model = self.path / "model.gguf"
        done = c.command("synth", family, model, "--type", "Q8_0", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return model

    def said(self, c, model, member):
        done = c.command("show", model, "--layers", f"{member['layer_first']}:{member['layer_last']}", "--kv-tokens",
                         KV_TOKENS, "--threads", 1, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["range"]

    def near(self, what, got, said):
        print(f"    {what}: {said / 1e6:.1f} MB said, {got / 1e6:.1f} MB resident, {got / said - 1:+.1%}")
        self.assertLess(abs(got - said), said / 20, what)

    def check(self, model, vocabulary, nodes):
        c = Cluster(SHOAL, self.path, "--nodes", nodes, "--kv-tokens", KV_TOKENS, model=model)
        self.addCleanup(c.stop)
        for i in range(nodes):
            c.add_node(f"node{i}")
        members = c.wait_ready(nodes)["members"]
        for m in members:
            self.near(f"layers {m['layer_first']}-{m['layer_last'] - 1}", c.nodes[m["name"]].resident_bytes(),
                      self.said(c, model, m)["resident_bytes"])
        prompt = [i * 7 % vocabulary for i in range(KV_TOKENS - 8)]
        code, j = c.post("/v1/completions", {"prompt": prompt, "max_tokens": 4, "temperature": 0})
        self.assertEqual(code, 200, j)
        wait_until("the answer's end", lambda: all(m["sequences"] == 0 for m in c.status()["members"]))
        for m in members:
            self.near(f"layers {m['layer_first']}-{m['layer_last'] - 1}, KV full",
                      c.nodes[m["name"]].resident_bytes(), self.said(c, model, m)["resident_full_bytes"])
        for name, code in c.stop().items():
            self.assertEqual(code, 0, name)

    def test_dense(self):
        self.check(self.model("llama", "--layers", 16, "--hidden", 1024, "--heads", 16, "--kv-heads", 8, "--ffn", 4096,
                              "--vocab", 8192), 8192, 2)

    def test_experts(self):
        self.check(self.model("qwen3moe", "--layers", 10, "--hidden", 1024, "--heads", 16, "--kv-heads", 4,
                              "--experts", 16, "--experts-used", 4, "--expert-ffn", 512, "--vocab", 8192), 8192, 2)


if __name__ == "__main__":
    unittest.main()
