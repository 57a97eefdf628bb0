#!/usr/bin/env python3
"""A cluster of a Hugging Face folder: nodes that cannot see it fetch what their layers need. argv[1]: the binary."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from rig import ENVIRONMENT, Cluster

SHOAL = sys.argv.pop(1)
MODEL = pathlib.Path("tests/data/hf/llama")
EXPECTED = json.loads((MODEL / "expected.json").read_text())


class Folders(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def expected_text(self):
        ids = " ".join(map(str, EXPECTED["next"])).encode()
        return subprocess.run([SHOAL, "tokenize", MODEL, "-d"], input=ids, capture_output=True, check=True,
                              env=ENVIRONMENT).stdout.decode(errors="replace")

    def test_nodes_fetch_only_their_part_and_answer_as_transformers_does(self):
        model = self.path / "tiny-llama"
        shutil.copytree(MODEL, model)
        c = Cluster(SHOAL, self.path, "--nodes", 2, model=model)
        self.addCleanup(c.stop)
        model.rename(self.path / "elsewhere")
        for name in ("a", "b"):
            c.add_node(name, cache=f"cache-{name}")
        c.wait_ready(2)
        code, j = c.post("/v1/completions", {"prompt": EXPECTED["prompt"], "max_tokens": len(EXPECTED["next"]),
                                             "temperature": 0, "ignore_eos": True})
        self.assertEqual(code, 200, j)
        self.assertEqual(j["choices"][0]["text"], self.expected_text())
        self.assertEqual(j["model"], "tiny-llama")
        holes = 0
        for name in ("a", "b"):
            found = list((self.path / f"cache-{name}" / "models").glob("*/*.safetensors"))
            self.assertEqual(len(found), len(list(MODEL.glob("*.safetensors"))))
            holes += sum(file.read_bytes() != (MODEL / file.name).read_bytes() for file in found)
        self.assertGreater(holes, 0)

    def test_nodes_that_see_the_folder_load_it_in_place(self):
        c = Cluster(SHOAL, self.path, "--nodes", 2, model=MODEL.resolve())
        self.addCleanup(c.stop)
        for name in ("a", "b"):
            c.add_node(name, cache=f"cache-{name}")
        c.wait_ready(2)
        code, j = c.post("/v1/completions", {"prompt": "one two", "temperature": 0, "max_tokens": 4})
        self.assertEqual(code, 200, j)
        self.assertEqual(list(self.path.glob("cache-*/models/*/*.safetensors")), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
