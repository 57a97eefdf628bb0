#!/usr/bin/env python3
"""A cluster of real processes among strangers, killers and unlucky users. argv[1]: the shoal binary."""
import errno
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import stranger
from rig import DEMO, PATIENCE, Cluster, Process, wait_until

SHOAL = sys.argv.pop(1)
RESIDENT_GROWTH_MAX = 64 << 20
ENDLESS = 8000  # tokens of an answer that nobody waits for


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def cluster(self, *options, **more):
        c = Cluster(SHOAL, self.path, *options, **more)
        self.addCleanup(c.stop)
        return c

    def synth(self, *options):
        """A small model of random weights, of some length."""
        model = self.path / "model.gguf"
        done = subprocess.run([SHOAL, "synth", "qwen3moe", model, "--hidden", "256", "--heads", "4", "--kv-heads", "2",
                               "--experts-used", "2", "--expert-ffn", "512", "--vocab", "512", "--type", "q8_0",
                               *map(str, options)], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return model

    def three_nodes(self, *options, **more):
        c = self.cluster("--nodes", 3, *options, **more)
        invite = c.invite("--uses", 3)
        for name in ("a", "b", "c"):
            c.add_node(name, invite=invite)
        c.wait_ready(3)
        return c

    def ended_well(self, c):
        """Nothing crashed: everyone still there ends with 0 when told to."""
        for name, code in c.stop().items():
            self.assertEqual(code, 0, f"{name}:\n{(c.nodes.get(name) or c.coordinator).said()[-3000:]}")


class Nodes(Case):
    """Nodes that die, hang, come back; a coordinator that does."""

    def test_a_killed_node_ends_its_answers_and_the_rest_serve(self):
        c = self.three_nodes()
        s, file = c.stream()
        c.nodes["b"].kill()
        rest = file.read()
        s.close()
        self.assertIn(b'"error"', rest)
        message = json.loads(re.search(rb'data: (\{"error".*\})', rest)[1])["error"]["message"]
        self.assertIn("node b", message)
        c.wait_ready(2)
        c.wait_answer()
        c.wait_idle()
        c.add_node("b")
        c.wait_ready(3)
        c.wait_answer()
        self.ended_well(c)

    def test_a_stopped_node_is_given_up_and_taken_back(self):
        c = self.three_nodes("--lease-ms", 2000)
        s, file = c.stream()
        c.nodes["b"].signal(signal.SIGSTOP)
        rest = file.read()
        s.close()
        self.assertIn(b'"error"', rest)
        c.wait_ready(2)
        c.wait_answer()
        c.wait_idle()
        c.nodes["b"].signal(signal.SIGCONT)
        c.wait_ready(3)
        c.wait_answer()
        self.ended_well(c)

    def test_a_coordinator_that_is_killed_finds_its_nodes_again(self):
        c = self.three_nodes()
        s, file = c.stream()
        c.coordinator.kill()
        self.assertNotIn(b"[DONE]", file.read())
        s.close()
        c.start_coordinator()
        c.wait_ready(3)
        c.wait_answer()
        c.wait_idle()
        self.ended_well(c)

    def test_everybody_is_killed_and_comes_back(self):
        c = self.three_nodes()
        for p in [c.coordinator, *c.nodes.values()]:
            p.kill()
        for name in list(c.nodes):
            c.add_node(name)
        c.start_coordinator()
        c.wait_ready(3)
        c.wait_answer()
        self.ended_well(c)


class Clients(Case):
    def test_clients_that_vanish_leave_no_sequence(self):
        model = self.synth("--layers", 64, "--experts", 4, "--context", 16384)
        c = self.cluster("--nodes", 3, "--model-name", "long", model=model)
        invite = c.invite("--uses", 3)
        for name in ("a", "b", "c"):
            c.add_node(name, invite=invite)
        c.wait_ready(3)
        for reset in (False, True):  # in good order, or not
            streams = [c.begin(prompt=[i, 2, 3], max_tokens=ENDLESS, logit_bias={}) for i in (4, 5)]
            wait_until("every node has both", lambda: all(m["sequences"] == 2 for m in c.status()["members"]))
            for s in streams:
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            c.wait_idle()
        for m in c.status()["members"]:
            self.assertLess(m["rows"], 2 * ENDLESS, "the sequences ended because they were done, not because of us")
        self.ended_well(c)

    def test_a_client_that_does_not_read_hinders_nobody(self):
        c = self.three_nodes()
        s, _ = c.stream(n=4)
        c.wait_answer()
        s.close()
        c.wait_idle()
        self.ended_well(c)

    def refused(self, c, path, body, code, *words):
        got, j = c.post(path, body)
        self.assertEqual(got, code, j)
        self.assertTrue(j["error"]["message"], j)
        self.assertIn("type", j["error"])
        for word in words:
            self.assertIn(word, json.dumps(j["error"]))

    def test_bad_requests_are_refused_in_the_api_s_words(self):
        c = self.cluster("--nodes", 1)
        c.add_node("a")
        c.wait_ready(1)
        chat, plain = "/v1/chat/completions", "/v1/completions"
        hello = [{"role": "user", "content": "hi"}]
        for body in (b"", b"{", b"[]", b"null", b'"x"', b"{}x", b"\x00", b"\xff\xfe", b'{"prompt": "\xff"}',
                     b'{"prompt": "\\ud800"}', b"[" * 100000, b'{"a":' * 100000, b"1e999", b'{"prompt": NaN}',
                     b"9" * 1000000, b'{"prompt": "a", "prompt": "b"}', b"\xef\xbb\xbf{}"):
            self.refused(c, plain, body, 400)
            self.refused(c, chat, body, 400)
        for more in ({"max_tokens": -2}, {"max_tokens": 1.5}, {"max_tokens": "5"}, {"max_tokens": 2**63 - 1},
                     {"n": 0}, {"n": 10**6}, {"temperature": -1}, {"temperature": "hot"}, {"top_p": 2},
                     {"logit_bias": {"99999999": 1}}, {"logit_bias": {"x": "much"}}, {"logit_bias": [1]},
                     {"stop": ["x"] * 1000}, {"stop": 5}, {"seed": "s"}, {"stream": "yes"},
                     {"presence_penalty": 1e308}):
            self.refused(c, chat, {"messages": hello, **more}, 400, next(iter(more)))
        for messages in (None, [], {}, "hi", [1], [{}], [{"role": "user"}], [{"role": 5, "content": "x"}],
                         [{"role": "nobody", "content": "x"}], [{"role": "user", "content": 5}],
                         [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]):
            self.refused(c, chat, {"messages": messages}, 400, "messages")
        for prompt in ("word " * 5000, [1] * 5000, [99999999], [-1], [[1, "x"]], [None], {}):
            self.refused(c, plain, {"prompt": prompt}, 400)
        self.refused(c, plain, {"prompt": "word " * 5000}, 400, "context_length_exceeded", "2048")
        self.refused(c, chat, {"messages": [{"role": "user", "content": "word " * 5000}]}, 400, "2048")
        self.refused(c, plain, {"model": "gpt-9", "prompt": "x"}, 404, "gpt-9")
        self.refused(c, "/v1/embeddings", {}, 400, "input")
        self.refused(c, "/v1/nothing", {}, 404)
        self.refused(c, "/v1/models", {}, 405)
        self.refused(c, "/admin/revoke", {"who": "a"}, 401)
        self.refused(c, plain, b'{"prompt": "' + b"a" * (33 << 20) + b'"}', 413)
        c.wait_answer()
        c.wait_idle()
        self.ended_well(c)

    def test_bytes_that_are_not_http(self):
        c = self.cluster("--nodes", 1)
        c.add_node("a")
        c.wait_ready(1)
        before = c.coordinator.resident_bytes()
        post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for data in (b"\x16\x03\x01" + bytes(200), bytes(1000), os.urandom(5000), b"GET /" + b"a" * 100000,
                     b"GET / HTTP/9.9\r\n\r\n", b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 100000 + b"\r\n",
                     post + b"Content-Length: -1\r\n\r\n", post + b"Content-Length: 5, 5\r\n\r\nhello",
                     post + b"Content-Length: 99999999999999999999\r\n\r\n",
                     post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                     post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", c.ports["port"]), timeout=PATIENCE) as s:
                answer = b""
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    answer = s.recv(4096)
                except OSError as e:  # the server may have closed already
                    self.assertIn(e.errno, (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN))
                self.assertFalse(answer.startswith(b"HTTP/1.1 2"), (data[:80], answer))
        idle = [socket.create_connection(("127.0.0.1", c.ports["port"])) for _ in range(100)]
        for s in idle:
            s.sendall(post + b"Content-Length: 100\r\n\r\n{")
        c.wait_answer()
        for s in idle:
            s.close()
        self.assertLess(c.coordinator.resident_bytes() - before, RESIDENT_GROWTH_MAX)
        self.ended_well(c)


class Strangers(Case):
    def test_nobody_without_a_key_comes_in_at_any_port(self):
        c = self.cluster("--nodes", 2)
        invite = c.invite("--uses", 2)
        for name in ("a", "b"):
            c.add_node(name, invite=invite)
        status = c.wait_ready(2)
        ports = {f"{m['name']}'s data": m["port"] for m in status["members"]}
        ports |= {"control": c.ports["control-port"], "blob": c.ports["blob-port"], "enrol": c.ports["enrol-port"]}
        processes = [c.coordinator, *c.nodes.values()]
        before = [p.resident_bytes() for p in processes]
        verdicts, threads = {}, []

        def try_one(port, data, name):
            verdicts[name] = stranger.cut(port, data, PATIENCE / 2)

        for where, port in ports.items():
            for name, data in stranger.openings().items():
                threads.append(threading.Thread(target=try_one, args=(port, data, f"{name} at {where}")))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(verdicts), len(ports) * len(stranger.openings()))
        self.assertEqual([name for name, came in verdicts.items() if came is None], [], "these may stay")
        for p, resident in zip(processes, before):
            self.assertLess(p.resident_bytes() - resident, RESIDENT_GROWTH_MAX, p.name)
        c.wait_answer()
        self.ended_well(c)

    def test_zeromq_without_a_key_of_the_roster_shakes_no_hand(self):
        c = self.cluster("--nodes", 1)
        c.add_node("a")
        status = c.wait_ready(1)
        ports = [status["members"][0]["port"], c.ports["control-port"], c.ports["blob-port"]]
        library = stranger.Library()
        server_key = stranger.key_of_invite(c.invite_line)
        for port in ports:
            self.assertEqual(library.try_to_enter(port, 3), (False, 0), port)
            self.assertEqual(library.try_to_enter(port, 3, plain=True), (False, 0), port)
            self.assertEqual(library.try_to_enter(port, 3, library.keypair()[0]), (False, 0), port)
            self.assertEqual(library.try_to_enter(port, 3, server_key), (False, 0), port)
        library.close()
        self.assertGreater(c.status()["connections_refused"], status["connections_refused"])
        c.wait_answer()
        self.ended_well(c)


class Invites(Case):
    def out(self, c, name, invite, code, *words):
        node = Process(SHOAL, self.path, name, "node", "--name", name, "--listen", "127.0.0.1:0", "--state-dir",
                       self.path / name, "--cache-dir", self.path / "cache",
                       *(["--join", invite] if invite else []))
        self.addCleanup(node.stop)
        self.assertEqual(node.ended(), code, node.said())
        for word in words:
            self.assertIn(word, node.said())

    def test_invites_that_do_not_admit(self):
        c = self.cluster("--nodes", 1)
        used, soon = c.invite(), c.invite("--ttl", 1)
        born = time.monotonic()
        self.out(c, "nobody", None, 66, "--join")
        for i in (7, 20, 100, len(used) - 1):
            wrong = used[:i] + ("A" if used[i] != "A" else "B") + used[i + 1:]
            self.out(c, f"typed-{i}", wrong, 64, "invite")
        self.out(c, "cut", used[:-9], 64, "invite")
        self.out(c, "text", "hello", 64, "invite")
        c.add_node("a", invite=used)
        c.wait_ready(1)
        self.out(c, "late", used, 77, "invite")
        time.sleep(max(0, born + 2.5 - time.monotonic()))
        self.out(c, "later", soon, 77, "expired")
        (self.path / "other").mkdir()
        other = Cluster(SHOAL, self.path / "other")
        self.addCleanup(other.stop)
        foreign = stranger.with_port(other.invite_line, c.ports["enrol-port"])
        self.out(c, "foreign", foreign, 77, "not the coordinator")
        self.assertEqual(len(c.status()["members"]), 1)
        c.wait_answer()
        self.ended_well(c)

    def test_a_revoked_key_is_out_and_stays_out(self):
        c = self.three_nodes()
        s, file = c.stream()
        done = c.admin("keys", "revoke", "b")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b'"error"', file.read())
        s.close()
        self.assertEqual(c.nodes["b"].ended(), 77, c.nodes["b"].said())
        self.assertEqual(sorted(m["name"] for m in c.status()["members"]), ["a", "c"])
        c.wait_ready(2)
        c.wait_answer()
        again = c.add_node("b")
        self.assertEqual(again.ended(), 77, again.said())
        self.assertIn("revoked", again.said())
        del c.nodes["b"]
        again = c.add_node("b", invite=c.invite())
        self.assertEqual(again.ended(), 77, again.said())
        del c.nodes["b"]
        self.assertNotEqual(c.admin("keys", "revoke", "nobody").returncode, 0)
        c.coordinator.kill()
        c.options = ("--nodes", 2)
        c.start_coordinator()
        c.wait_ready(2)
        again = c.add_node("b", invite=c.invite())
        self.assertEqual(again.ended(), 77, again.said())
        del c.nodes["b"]
        self.ended_well(c)


class Fetching(Case):
    """Nodes that cannot see the model's file: the coordinator has it open, and nobody has its name."""

    def hidden_model(self, *options):
        """A coordinator of a model of some size without a path."""
        model = self.synth("--layers", 24, "--experts", 8)
        fd = os.open(model, os.O_RDONLY)
        os.dup2(fd, 199)
        os.close(fd)
        self.addCleanup(os.close, 199)
        model.unlink()
        return self.cluster("--model-name", "hidden", *options, model="/proc/self/fd/199", pass_fds=(199,))

    def tokens(self, c):
        """What the cluster makes of three tokens: the same bits whoever computes them."""
        code, j = c.post("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 8, "temperature": 0, "logprobs": 2})
        self.assertEqual(code, 200, j)
        return j["choices"][0]["logprobs"]

    def copy_of(self, cache):
        """The one model file in a cache folder."""
        found = list((self.path / cache / "models").glob("*/model.gguf"))
        self.assertEqual(len(found), 1)
        return found[0]

    def test_a_fetch_that_is_cut_goes_on_and_a_spoilt_copy_is_healed(self):
        c = self.hidden_model("--nodes", 1, "--lease-ms", 3000)
        node = c.add_node("a", cache="far")
        models = self.path / "far" / "models"
        wait_until("a part has come", lambda: list(models.glob("*.have")) or node.child.poll() is not None)
        node.kill()
        copy = self.copy_of("far")
        inode = copy.stat().st_ino
        node = c.add_node("a", cache="far")
        c.wait_ready(1)
        self.assertEqual(copy.stat().st_ino, inode)
        whole = self.tokens(c)
        self.assertEqual(node.stop(), 0)
        with copy.open("r+b") as file:
            for at in (100, copy.stat().st_size // 2, copy.stat().st_size - 5):
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 0x40]))
        c.add_node("a", cache="far")
        c.wait_ready(1)
        self.assertEqual(self.tokens(c), whole)
        c.add_node("b", cache="far")  # fills the same copy
        c.nodes.pop("a").kill()
        wait_until("b has the layers", lambda: c.post("/v1/completions", {"prompt": [1], "max_tokens": 1})[0] == 200)
        self.assertEqual(self.tokens(c), whole)
        self.ended_well(c)

    def test_a_full_disk_is_said_and_the_node_stays(self):
        far = self.path / "far"
        far.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", far], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("a small file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", far], check=False)
        c = self.hidden_model("--nodes", 1)
        node = c.add_node("a", cache="far")
        wait_until("the status says it", lambda: "disk" in json.dumps(c.status()["members"]))
        code, j = c.post("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 8})
        self.assertEqual(code, 503, j)
        self.assertIsNone(node.child.poll(), node.said())
        subprocess.run(["mount", "-o", "remount,size=512m", far], check=True)
        c.wait_ready(1)
        self.tokens(c)
        self.ended_well(c)


class Starts(Case):
    """What an operator can get wrong."""

    def refused(self, code, *arguments, says=()):
        done = subprocess.run([SHOAL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("shoal: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        for word in says:
            self.assertIn(str(word), lines[0])

    def coordinator(self, *more):
        return ("coordinator", DEMO, "--listen", "127.0.0.1", *(v for v in (
            "--port", 0, "--control-port", 0, "--enrol-port", 0, "--blob-port", 0, "--state-dir", self.path / "s",
            "--cache-dir", self.path / "c")), *more)

    def test_ports_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for name in ("--port", "--control-port", "--enrol-port", "--blob-port"):
                self.refused(70, *self.coordinator(name, port), says=(port, "in use"))
            c = self.cluster()
            self.refused(70, "node", "--join", c.invite_line, "--listen", f"127.0.0.1:{port}", "--state-dir",
                         self.path / "n", "--cache-dir", self.path / "c", says=(port, "in use"))

    def test_addresses_and_folders_that_cannot_be(self):
        (self.path / "file").write_text("")
        c = self.cluster()
        for folder in (self.path / "file" / "x", "/proc/nothing"):
            self.refused(74, *self.coordinator("--state-dir", folder), says=(folder,))
            for name in ("--state-dir", "--cache-dir"):
                self.refused(74, "node", "--join", c.invite_line, "--listen", "127.0.0.1:0", "--state-dir",
                             self.path / "n", "--cache-dir", self.path / "c", name, folder, says=(folder,))
        self.refused(78, *self.coordinator("--listen", "no such host"), says=("no such host",))
        self.refused(66, "coordinator", self.path / "absent.gguf", "--port", 0, says=("absent.gguf",))

    def test_one_state_folder_is_one_coordinator(self):
        c = self.cluster()
        self.refused(70, *self.coordinator("--state-dir", self.path / "state"), says=("another coordinator",))
        c.add_node("a")
        c.wait_answer()
        self.ended_well(c)

    def test_a_node_started_twice(self):
        """The later one is the node; the earlier says why it ends."""
        c = self.cluster("--nodes", 1)
        first = c.add_node("a")
        c.wait_ready(1)
        second = c.add_node("a")
        self.assertEqual(first.ended(), 77, first.said())
        self.assertIn("another process", first.said())
        c.wait_answer()
        self.assertIsNone(second.child.poll())
        self.ended_well(c)

    def test_no_memory_for_a_shard(self):
        c = self.cluster("--nodes", 1)
        c.add_node("a", "--memory", "4MiB")
        wait_until("it is said", lambda: "memory" in c.status().get("text", ""))
        code, j = c.post("/v1/completions", {"prompt": "x"})
        self.assertEqual(code, 503, j)
        self.assertIn("memory", j["error"]["message"])
        c.add_node("b")
        c.wait_answer()
        self.ended_well(c)


if __name__ == "__main__":
    unittest.main(verbosity=1)
