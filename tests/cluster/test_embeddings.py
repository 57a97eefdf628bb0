#!/usr/bin/env python3
"""Embeddings through real processes are those of transformers: rows before the head, pooled as a folder's
1_Pooling/config.json says, by one process and by two nodes, and with an adapter they are others. argv[1]: the binary."""
import json
import math
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

from adapters import make
from rig import Cluster

SHOAL = sys.argv.pop(1)
FOLDER = pathlib.Path("tests/data/hf/qwen3")
PROMPT = json.loads((FOLDER / "expected.json").read_text())["prompt"]


def golden():
    data = (FOLDER / "hidden.f32").read_bytes()
    width = len(data) // 4 // len(PROMPT)
    return [struct.unpack_from(f"<{width}f", data, i * width * 4) for i in range(len(PROMPT))]


def unit(v):
    length = math.sqrt(sum(x * x for x in v))
    return [x / length for x in v]


EXPECTED = {"mean_tokens": unit([sum(column) for column in zip(*golden())]), "cls_token": unit(golden()[0]),
            "lasttoken": unit(golden()[-1]), None: unit(golden()[-1])}


class Embeddings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def start(self, model, nodes, *options):
        state = self.path / f"cluster-{len(list(self.path.iterdir()))}"
        state.mkdir()
        cluster = Cluster(SHOAL, state, "--nodes", nodes, *options, model=model)
        self.addCleanup(lambda: self.assertEqual(set(cluster.stop().values()), {0}))
        for i in range(nodes):
            cluster.add_node(f"n{i}", cache=f"cache{i}")
        cluster.wait_ready(nodes)
        return cluster

    def embed(self, cluster, **body):
        code, j = cluster.post("/v1/embeddings", body)
        self.assertEqual(code, 200, j)
        return [d["embedding"] for d in j["data"]]

    def close(self, got, want):
        self.assertEqual(len(got), len(want))
        self.assertLess(max(abs(a - b) for a, b in zip(got, want)), 1e-3)

    def served(self, pooling, nodes):
        model = self.path / f"model-{pooling}"
        shutil.copytree(FOLDER, model)
        if pooling:
            (model / "1_Pooling").mkdir()
            (model / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
        cluster = self.start(model, nodes)
        whole, beside = self.embed(cluster, input=[PROMPT, [2]])
        self.close(whole, EXPECTED[pooling])
        self.assertEqual(self.embed(cluster, input=PROMPT), [whole])
        half, = self.embed(cluster, input=PROMPT, dimensions=len(whole) // 2)
        self.close(half, unit(EXPECTED[pooling][:len(whole) // 2]))
        self.assertNotEqual(beside, whole)

    def test_the_last_row_by_default(self):
        self.served(None, 2)

    def test_the_mean_of_all_rows(self):
        self.served("mean_tokens", 2)

    def test_the_first_row(self):
        self.served("cls_token", 1)

    def test_adapters_give_vectors_of_their_own(self):
        adapter = make(self.path / "one.gguf", 1)
        cluster = self.start("tests/data/shoal-demo-q8_0.gguf", 2, "--lora", adapter)
        plain, = self.embed(cluster, input="Once upon a time")
        adapted, = self.embed(cluster, input="Once upon a time", model="shoal-demo-q8_0:one")
        self.assertAlmostEqual(sum(x * x for x in adapted), 1, 5)
        self.assertGreater(max(abs(a - b) for a, b in zip(plain, adapted)), 1e-3)


if __name__ == "__main__":
    unittest.main()
