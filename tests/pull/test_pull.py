#!/usr/bin/env python3
"""`shoal pull` and the store, as a user drives them, against tests/pull/hub.py. argv[1]: the binary."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, "tests/cli")
sys.path.insert(0, "tests/cluster")
import hub as hubs
import split
from rig import Cluster, wait_until

SHOAL = sys.argv.pop(1)
DEMO = pathlib.Path("tests/data/shoal-demo-q8_0.gguf")
FOLDER = pathlib.Path("tests/data/hf/llama")
LARGE_FOLDER = pathlib.Path("../shared/demo-model/shoal-demo-hf")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("SHOAL_", "HF_"))}
MIB = 1 << 20
THREADS = 8
GGUF = "org/demo-GGUF"
QUESTION = "What is the capital of France?"


def folder_files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "expected.json"}


class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = DEMO.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            parts = split.split(DEMO, pathlib.Path(folder) / "parts", 3)
            cls.parts = {f"Q8_0/demo-{i + 1:05}-of-00003.gguf": p.read_bytes() for i, p in enumerate(parts)}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.store = self.path / "store"
        self.hub = hubs.Hub({
            GGUF: {"README.md": b"# Demo", "demo-Q8_0.gguf": self.demo, "demo-Q4_K_M.gguf": self.demo[::-1],
                   "mmproj-demo-F16.gguf": b"vision" * 20000},
            "org/split": self.parts,
            "org/folder": folder_files(FOLDER),
        })
        self.addCleanup(self.hub.close)

    def environment(self, **more):
        return {**CLEAN, "SHOAL_HUB": self.hub.url(), "SHOAL_MODELS_DIR": str(self.store), **more}

    def shoal(self, *arguments, **more):
        return subprocess.run([SHOAL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, env=self.environment(**more), check=False)

    def done(self, *arguments, **more):
        done = self.shoal(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, done, code, *words):
        """One sentence that holds the words, behind what the bar wrote."""
        last = done.stderr.strip().splitlines()[-1]
        self.assertEqual(done.returncode, code, done.stderr)
        for word in words:
            self.assertIn(word, last)

    def models(self):
        return json.loads(self.done("ls", "--json"))

    def model(self, name, file):
        return self.store / name / file

    # ---- what goes well ----

    def test_a_file_and_its_name(self):
        out = self.done("pull", f"hf:{GGUF}:q8_0", HF_TOKEN="hf_secret")
        self.assertIn(f"{GGUF}:Q8_0", out)
        self.assertEqual(self.model(f"{GGUF}:Q8_0", "demo-Q8_0.gguf").read_bytes(), self.demo)
        self.assertEqual({a.token for a in self.hub.asked if a.server == "hub"}, {"Bearer hf_secret"})
        self.assertEqual({a.token for a in self.hub.asked if a.server == "storage"}, {None})
        pieces = sorted(tuple(map(int, re.findall(r"\d+", a.range))) for a in self.hub.gets())
        self.assertGreater(len(pieces), 2)
        self.assertEqual(sum(b - a + 1 for a, b in pieces), len(self.demo))
        one = self.models()[0]
        self.assertEqual((one["name"], one["bytes"], one["revision"], one["quant"], one["format"]),
                         (f"{GGUF}:Q8_0", len(self.demo), hubs.COMMIT, "Q8_0", "gguf"))
        self.assertEqual(one["files"][0]["sha256"], hashlib.sha256(self.demo).hexdigest())
        n = len(self.hub.gets())
        self.assertIn("here already", self.done("pull", f"hf:{GGUF}:Q8_0"))
        self.assertEqual(len(self.hub.gets()), n)
        for name in (f"{GGUF}:Q8_0", f"{GGUF}:q8_0", GGUF, "demo-GGUF", f"hf:{GGUF}:Q8_0"):
            self.assertIn("qwen3moe", self.done("show", name), name)
        self.assertIn("Paris", self.done("run", "demo-GGUF", QUESTION, "--temperature", "0"))
        self.assertIn("freed", self.done("rm", "demo-GGUF"))
        self.assertEqual((self.models(), list(self.store.iterdir())), ([], []))
        self.refused(self.shoal("rm", "demo-GGUF"), 66, "shoal ls")

    def test_run_pulls_what_is_missing(self):
        self.refused(self.shoal("show", f"hf:{GGUF}:Q8_0"), 66, "shoal pull")
        self.assertIn("Paris", self.done("run", f"hf:{GGUF}:Q8_0", QUESTION, "--temperature", "0"))
        n = len(self.hub.asked)
        self.assertIn("Paris", self.done("run", f"hf:{GGUF}:Q8_0", QUESTION, "--temperature", "0"))
        self.assertEqual(len(self.hub.asked), n)
        self.refused(self.shoal("run", "nowhere", "hi"), 66, "shoal ls")

    def test_the_usual_quant_and_a_name_of_ones_own(self):
        self.done("pull", f"hf:{GGUF}", "--as", "mine")
        self.assertEqual(self.model("mine:Q4_K_M", "demo-Q4_K_M.gguf").read_bytes(), self.demo[::-1])
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "mine:small")
        self.assertEqual([m["name"] for m in self.models()], ["mine:Q4_K_M", "mine:small"])
        self.assertIn("mine:small", self.done("ls"))
        self.refused(self.shoal("pull", f"hf:{GGUF}", "--as", "../mine"), 64, "name")
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q5_1"), 66, "Q5_1", "Q8_0, Q4_K_M")

    def test_splits_and_pages_of_a_listing(self):
        self.hub.page = 1
        self.done("pull", "hf:org/split")
        self.assertEqual(self.models()[0]["name"], "org/split:Q8_0")
        for path, data in self.parts.items():
            self.assertEqual(self.model("org/split:Q8_0", pathlib.Path(path).name).read_bytes(), data)
        self.assertIn("Paris", self.done("run", "split", QUESTION, "--temperature", "0"))

    def test_a_folder_of_safetensors(self):
        self.done("pull", "hf:org/folder")
        one = self.models()[0]
        self.assertEqual((one["name"], one["format"]), ("org/folder:latest", "safetensors"))
        self.assertIn("llama", self.done("show", "folder"))
        self.refused(self.shoal("pull", "hf:org/folder:Q4_0"), 66, "safetensors")

    # ---- layers ----

    def test_layers_of_a_file(self):
        self.done("pull", f"hf:{GGUF}:Q8_0", "--layers", "2:4")
        name = f"{GGUF}:Q8_0-layers-2-4"
        file = self.model(name, "demo-Q8_0.gguf")
        sent = sum(b - a + 1 for a, b in (map(int, re.findall(r"\d+", x.range)) for x in self.hub.gets()))
        self.assertLess(sent, 6 * MIB)
        self.assertEqual(file.stat().st_size, len(self.demo))
        self.assertLess(file.stat().st_blocks * 512, 7 * MIB)
        one = self.models()[0]
        self.assertEqual((one["layers"], one["bytes"]), ("2:4", len(self.demo)))
        self.assertIn("layers 2:4", self.done("show", name, "--layers", "2:4"))
        self.refused(self.shoal("show", name, "--layers", "2:5"), 66, "layer 4 is not here", "layers 2:4")
        self.refused(self.shoal("run", name, "hi"), 66, "holds only layers 2:4")
        for layers in ("4:7", "3:3", "x", "-1:2"):
            self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0", "--layers", layers), 64, "--layers")

    def check_layers_of(self, repository, n):
        """The last layer alone, which is the first file's neighbour no more; then all, which is the whole model."""
        self.done("pull", f"hf:{repository}", "--layers", f"{n - 1}:{n}", "--as", "last:one")
        self.done("show", "last:one", "--layers", f"{n - 1}:{n}")
        self.refused(self.shoal("show", "last:one", "--layers", f"0:{n}"), 66, "is not here", f"layers {n - 1}:{n}")
        self.refused(self.shoal("run", "last:one", "hi"), 66, "holds only")
        one = self.models()[0]
        self.assertLess(one["disk_bytes"], one["bytes"])
        self.done("pull", f"hf:{repository}", "--layers", f"0:{n}", "--as", "all:one")
        self.assertIn("Paris", self.done("run", "all:one", QUESTION, "--temperature", "0"))

    def test_layers_of_splits(self):
        self.check_layers_of("org/split", 6)

    @unittest.skipUnless(LARGE_FOLDER.exists(), f"no {LARGE_FOLDER}")
    def test_layers_of_folders(self):
        self.hub.repositories["org/large"] = folder_files(LARGE_FOLDER)
        self.check_layers_of("org/large", 6)

    def test_a_node_serves_layers_that_it_pulled(self):
        for layers in ("0:3", "3:6"):
            self.done("pull", f"hf:{GGUF}:Q8_0", "--layers", layers)
        model = self.path / "demo.gguf"
        model.write_bytes(self.demo)
        cluster = Cluster(SHOAL, self.path, "--nodes", 2, model=model)
        self.addCleanup(cluster.stop)
        model.rename(self.path / "elsewhere.gguf")  # nodes of this machine would read it in place
        pulled = {"a": "0-3", "b": "3-6"}
        for turn in range(2):
            for name, layers in pulled.items():
                cluster.add_node(name, "--model", self.model(f"{GGUF}:Q8_0-layers-{layers}", "demo-Q8_0.gguf"),
                                 cache=f"cache-{name}-{turn}")
            stages = cluster.wait_ready(2)["route"]["stages"]
            given = {s["node"]: f'{s["layer_first"]}-{s["layer_last"]}' for s in stages}
            self.assertEqual(cluster.capital(), "The capital of France is Paris.")
            copies = {name: bool(list(self.path.glob(f"cache-{name}-{turn}/models/*/*.gguf"))) for name in pulled}
            self.assertEqual(copies, {name: given[name] != layers for name, layers in pulled.items()})
            if given == pulled:
                return
            for name in pulled:  # the coordinator dealt them the other way round
                cluster.nodes[name].stop()
            pulled = given
        self.fail(f"no node got the layers that it has: {given}")

    # ---- Ollama's clients ----

    def serve(self, *arguments, **more):
        """A server of the demo model; its URL."""
        child = subprocess.Popen([SHOAL, "serve", *arguments, "--port", "0"], env=self.environment(**more), text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

        def stop():
            child.terminate()
            self.assertEqual(child.wait(30), 0)
            child.stdout.close()
        self.addCleanup(stop)
        for line in child.stdout:
            found = re.search(r"(http://\S+)/v1", line)
            if found:
                return found[1]
        self.fail("no server")

    def ask(self, method, url, body=None, key=None):
        """Status, and what came."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as x:
                return x.status, x.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, json.loads(e.read())["error"]

    def test_ollama_pulls_lists_copies_and_deletes(self):
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "served:one")
        url = self.serve("served")
        code, text = self.ask("POST", url + "/api/pull", {"model": f"hf.co/{GGUF}:Q8_0"})
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual((code, lines[0], lines[-1]), (200, {"status": "pulling manifest"}, {"status": "success"}))
        bars = [x for x in lines if "total" in x]
        self.assertEqual((bars[-1]["completed"], bars[-1]["total"]), (len(self.demo), len(self.demo)))
        self.assertEqual(len({x["digest"] for x in bars}), 1)
        named = {"model": "", "name": f"{GGUF}:Q8_0"}  # as Ollama's command line has it
        code, text = self.ask("POST", url + "/api/pull", {**named, "stream": False})
        self.assertEqual((code, json.loads(text)), (200, {"status": "success"}))
        self.assertEqual(self.ask("POST", url + "/api/copy", {"source": GGUF, "destination": "mine"})[0], 200)
        models = json.loads(self.ask("GET", url + "/api/tags")[1])["models"]
        self.assertEqual([m["name"] for m in models], ["served:one", "mine:latest", f"{GGUF}:Q8_0"])
        self.assertEqual({(m["size"], m["details"]["family"], m["details"]["parameter_size"],
                           m["details"]["quantization_level"]) for m in models},
                         {(len(self.demo), "qwen3moe", "11.16M", "Q8_0")})
        self.assertEqual(self.ask("DELETE", url + "/api/delete", named)[0], 200)
        self.assertEqual(self.model("mine:latest", "demo-Q8_0.gguf").read_bytes(), self.demo)
        self.assertEqual([m["name"] for m in self.models()], ["mine:latest", "served:one"])

    def test_what_ollama_is_refused(self):
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "served:one")
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "other:one")
        url = self.serve("served:one", "--api-key", "sk-owner")
        self.assertEqual(self.ask("POST", url + "/api/pull", {"model": "x"})[0], 401)

        def refused(method, path, body, code, *words):
            got, text = self.ask(method, url + path, body, "sk-owner")
            self.assertEqual(got, code, text)
            for word in words:
                self.assertIn(word, text)
        refused("POST", "/api/pull", {"model": "llama3.2"}, 404, "'llama3.2'", "hf.co/")
        refused("POST", "/api/pull", {"model": "hf.co/../x"}, 400, "no source")
        refused("POST", "/api/pull", {}, 400, "model is required")
        refused("POST", "/api/pull", {"model": "hf.co/org/absent", "stream": False}, 404, "org/absent")
        refused("DELETE", "/api/delete", {"model": "absent"}, 404, "model 'absent' not found")
        refused("DELETE", "/api/delete", {"model": "../../x"}, 404, "not found")
        refused("DELETE", "/api/delete", {"model": "served:one"}, 409, "answers with")
        for path in ("/api/show", "/api/chat", "/api/embed"):
            refused("POST", path, {"model": "other:one"}, 409, "'other:one' not found here: it is stored", "'served:one' only")
            refused("POST", path, {"model": "absent"}, 404, "model 'absent' not found")
        refused("POST", "/api/copy", {"source": "served", "destination": "../x"}, 400, "name")
        refused("POST", "/api/copy", {"source": "served", "destination": "other:one"}, 409, "already")
        refused("POST", "/api/copy", {"source": "served"}, 400, "destination is required")
        code, text = self.ask("POST", url + "/api/pull", {"model": "hf.co/org/absent"}, "sk-owner")
        self.assertEqual(code, 200)
        self.assertIn("org/absent", json.loads(text.splitlines()[-1])["error"])
        self.assertEqual([m["name"] for m in self.models()], ["other:one", "served:one"])

    def test_a_client_that_goes_ends_its_pull(self):
        url = self.serve(str(DEMO))
        self.hub.stall("Q8_0", 2 * MIB)
        body = json.dumps({"model": f"hf.co/{GGUF}:Q8_0"}).encode()
        with urllib.request.urlopen(url + "/api/pull", body, timeout=30) as x:
            while json.loads(x.readline()).get("completed", 0) < MIB:
                pass
        self.assertEqual(self.models(), [])
        self.hub.released.set()

        def pulled():
            done = self.shoal("pull", f"hf:{GGUF}:Q8_0")
            self.assertIn(done.returncode, (0, 70))  # 70: the server has not seen yet that its client went
            return done.returncode == 0
        wait_until("the files are free", pulled)

    # ---- one name, several calls ----

    def start_stalled(self, *arguments):
        """A pull that waits for the hub in the middle of its file."""
        self.hub.stall("Q8_0", 2 * MIB)
        child = subprocess.Popen([SHOAL, "pull", f"hf:{GGUF}:Q8_0", *arguments], env=self.environment(), text=True,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until("it is under way", self.hub.gets)
        return child

    def test_what_is_being_pulled_is_neither_pulled_nor_removed(self):
        child = self.start_stalled("--as", "mine:one")
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q4_K_M", "--as", "mine:one"), 70, "another call")
        self.refused(self.shoal("rm", "mine:one"), 70, "another call")
        self.hub.released.set()
        said = child.communicate(timeout=30)[1]
        self.assertEqual(child.returncode, 0, said)
        self.assertEqual(self.model("mine:one", "demo-Q8_0.gguf").read_bytes(), self.demo)

    def test_a_name_that_gets_another_file_of_the_same_commit(self):
        for quant, data in (("Q8_0", self.demo), ("Q4_K_M", self.demo[::-1])):
            self.assertNotIn("here already", self.done("pull", f"hf:{GGUF}:{quant}", "--as", "mine:one"))
            self.assertEqual(self.model("mine:one", f"demo-{quant}.gguf").read_bytes(), data)
        self.model("mine:one", "demo-Q4_K_M.gguf").unlink()
        self.pull_and_find("Q4_K_M", self.demo[::-1])

    def pull_and_find(self, quant, data):
        self.done("pull", f"hf:{GGUF}:{quant}", "--as", "mine:one")
        self.assertEqual(self.model("mine:one", f"demo-{quant}.gguf").read_bytes(), data)
        self.assertEqual([p.name for p in self.store.iterdir()], ["mine:one"])

    def test_a_whole_name_comes_before_the_end_of_another(self):
        self.done("pull", f"hf:{GGUF}:Q8_0")
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "demo-GGUF:Q8_0")
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "demo-GGUF:q8_0")
        self.assertIn("here already", self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "demo-GGUF:q8_0"))
        self.refused(self.shoal("rm", "demo-GGUF"), 70, "several")
        for name in ("demo-GGUF:Q8_0", "demo-GGUF:q8_0"):
            self.assertIn(f"removed {name}:", self.done("rm", name))
        self.assertEqual([m["name"] for m in self.models()], [f"{GGUF}:Q8_0"])

    def test_a_copy_takes_nothing_of_an_unfinished_pull(self):
        self.done("pull", f"hf:{GGUF}:Q8_0", "--as", "first:one")
        part = self.store / ".second:one.part"
        part.mkdir()
        (part / "demo-Q8_0.gguf").write_bytes(bytes(len(self.demo)))
        killed = self.store / ".second:one~copy.part"
        killed.mkdir()
        (killed / "demo-Q8_0.gguf").write_bytes(b"half")
        url = self.serve("first:one")
        copy = {"source": "first:one", "destination": "second:one"}
        self.assertEqual(self.ask("POST", url + "/api/copy", copy)[0], 200)
        self.assertEqual(self.model("second:one", "demo-Q8_0.gguf").read_bytes(), self.demo)
        for side in ("~copy", "~old"):
            (self.store / f".second:one{side}.part").mkdir()
        self.assertIn("3 unfinished", self.done("ls"))
        self.done("rm", "second:one")
        self.assertEqual([p.name for p in self.store.iterdir()], ["first:one"])

    def test_a_copy_needs_all_files(self):
        for name in ("served:one", "first:one"):
            self.done("pull", f"hf:{GGUF}:Q8_0", "--as", name)
        self.model("first:one", "demo-Q8_0.gguf").unlink()
        url = self.serve("served:one")
        code, text = self.ask("POST", url + "/api/copy", {"source": "first:one", "destination": "second:one"})
        self.assertEqual(code, 404, text)
        self.assertEqual(sorted(p.name for p in self.store.iterdir()), ["first:one", "served:one"])

    def test_files_called_like_what_the_store_keeps(self):
        files = folder_files(FOLDER)
        name = "model.safetensors.shoal-have"
        files[name] = b"shoal-have 1 layers 0:1\n"
        files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": name}}).encode()
        self.hub.repositories["org/evil"] = files
        self.refused(self.shoal("pull", "hf:org/evil"), 69, "cannot be kept")

    # ---- what goes wrong ----

    def pull_and_compare(self):
        self.done("pull", f"hf:{GGUF}:Q8_0")
        self.assertEqual(self.model(f"{GGUF}:Q8_0", "demo-Q8_0.gguf").read_bytes(), self.demo)

    def test_cut_connections_busy_servers_and_addresses_that_expire(self):
        self.hub.cut("Q8_0", 200_000, times=3)
        self.hub.refuse("storage", "Q8_0", 503)
        self.hub.refuse("hub", "/tree/", 500)
        self.pull_and_compare()
        self.done("rm", "demo-GGUF")

        def expire(x):
            self.hub.signature += 1
        self.hub.faults.append(("storage", "Q8_0", expire))
        self.pull_and_compare()
        self.assertIn(403, [a.status for a in self.hub.gets()])

    def test_a_server_that_asks_for_fewer_requests(self):
        self.hub.refuse("hub", "/revision/", 429, ("Retry-After", "1"))
        start = time.monotonic()
        self.pull_and_compare()
        self.assertGreaterEqual(time.monotonic() - start, 1)

    def test_a_killed_pull_goes_on(self):
        for how in (signal.SIGKILL, signal.SIGINT):
            self.hub.asked.clear()
            self.hub.stall("Q8_0", 5 * MIB + 1000)
            child = subprocess.Popen([SHOAL, "pull", f"hf:{GGUF}:Q8_0", "--connections", "1"], env=self.environment(),
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            journal = self.store / "org" / ".demo-GGUF:Q8_0.part" / "demo-Q8_0.gguf.shoal-journal"


            def noted():
                lines = journal.read_text() if journal.exists() else ""
                return sum(map(int, re.findall(r"^have \d+ (\d+)$", lines, re.M)))
            wait_until("four MiB came", lambda: noted() >= 4 * MIB)
            child.send_signal(how)
            said = child.communicate(timeout=30)[1]
            self.assertNotEqual(child.returncode, 0)
            if how == signal.SIGINT:
                self.assertIn("goes on from there", said)
            self.assertEqual(self.models(), [])
            self.assertIn("1 unfinished", self.done("ls"))
            self.hub.asked.clear()
            self.pull_and_compare()
            firsts = [int(re.search(r"\d+", a.range)[0]) for a in self.hub.gets()]
            self.assertGreaterEqual(min(firsts), 4 * MIB, firsts)
            self.done("rm", "demo-GGUF")

    def test_what_is_unfinished_can_be_removed(self):
        self.hub.refuse("storage", "Q8_0", 404, times=100)
        self.assertNotEqual(self.shoal("pull", f"hf:{GGUF}:Q8_0").returncode, 0)
        self.done("rm", f"{GGUF}:Q8_0")
        self.assertEqual(list(self.store.iterdir()), [])

    def test_wrong_bytes_are_thrown_away(self):
        rows = list(self.hub.rows(self.hub.repositories[GGUF]))
        rows[1]["lfs"]["oid"] = "0" * 64
        self.hub.listing = rows
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0"), 65, "SHA-256")
        self.assertEqual(self.models(), [])
        self.hub.listing = None
        self.pull_and_compare()

    def test_servers_that_give_other_ranges_or_none(self):
        self.hub.no_ranges = True
        self.pull_and_compare()
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0", "--layers", "0:1"), 69, "no parts")
        self.done("rm", f"{GGUF}:Q8_0")
        self.hub.no_ranges = False
        self.hub.other_range("Q8_0", times=30)
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0", "--connections", "1"), 65, "other bytes")

    def test_names_that_lead_elsewhere(self):
        for path in ("../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a//b.gguf", "..\\evil.gguf", "e\nvil.gguf"):
            self.hub.listing = [{"type": "file", "path": path, "size": 5}]
            self.refused(self.shoal("pull", f"hf:{GGUF}"), 65, "cannot be")
        for size in (-1, 1 << 60, "5", None):
            self.hub.listing = [{"type": "file", "path": "a.gguf", "size": size}]
            self.refused(self.shoal("pull", f"hf:{GGUF}"), 65, "how large")
        self.assertFalse(self.store.exists())
        self.refused(self.shoal("pull", "hf:org/../../x"), 64, "no source")

    def test_a_link_in_the_way_is_not_followed(self):
        victim = self.path / "victim"
        victim.write_text("mine")
        part = self.store / "org" / ".demo-GGUF:Q8_0.part"
        part.mkdir(parents=True)
        (part / "demo-Q8_0.gguf").symlink_to(victim)
        self.assertNotEqual(self.shoal("pull", f"hf:{GGUF}:Q8_0").returncode, 0)
        self.assertEqual(victim.read_text(), "mine")

    def test_gated_absent_and_unreachable(self):
        self.hub.gated[GGUF] = "hf_right"
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0"), 77, "HF_TOKEN", "gated")
        self.refused(self.shoal("pull", f"hf:{GGUF}:Q8_0", HF_TOKEN="hf_wrong"), 77, "HF_TOKEN", "valid")
        self.done("pull", f"hf:{GGUF}:Q8_0", HF_TOKEN="hf_right")
        self.refused(self.shoal("pull", "hf:org/absent"), 66, "org/absent is not on")
        self.refused(self.shoal("pull", "hf:org/absent", SHOAL_HUB="http://127.0.0.1:1"), 69, "127.0.0.1:1")
        self.refused(self.shoal("pull", "hf:org/absent", SHOAL_HUB="ftp://127.0.0.1"), 64, "http")

    def test_a_full_disk(self):
        done = subprocess.run(
            ["prlimit", f"--fsize={4 * MIB}", SHOAL, "pull", f"hf:{GGUF}:Q8_0"], env=self.environment(),
            capture_output=True, text=True, check=False, restore_signals=False)  # SIGXFSZ stays ignored: an error
        self.refused(done, 74, "no room for")
        self.pull_and_compare()


def run_one(test):
    result = unittest.TestResult()
    test.run(result)
    wrong = "".join(trace for _, trace in result.failures + result.errors)
    why = "".join(f" ({reason})" for _, reason in result.skipped)
    print(f"{test._testMethodName}: {wrong or 'skipped' + why if wrong or why else 'ok'}", flush=True)
    return result.wasSuccessful()


def main():
    """Several at once: they wait for processes most of the time. argv[2:]: names, of all."""
    tests = [Pull(n) for n in unittest.defaultTestLoader.getTestCaseNames(Pull) if n in (sys.argv[1:] or [n])]
    Pull.setUpClass()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return 0 if tests and all(list(pool.map(run_one, tests))) else 1


if __name__ == "__main__":
    sys.exit(main())
