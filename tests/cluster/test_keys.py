#!/usr/bin/env python3
"""Users' keys where nothing else is kept: shoal serve and shoal up. argv[1]: the binary."""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

from rig import DEMO, ENVIRONMENT, Process, wait_until

SHOAL = sys.argv.pop(1)


class Keys(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.state = self.path / "state"

    def serve(self, name, *options, state=None):
        server = Process(SHOAL, self.path, name, "serve", DEMO, "--port", 0, "--threads", 1, "--state-dir",
                         state or self.state, *options)
        self.addCleanup(server.kill)
        server.url = server.wait_for(r"OpenAI API: (http://\S+)/v1")[1].replace("0.0.0.0", "127.0.0.1")
        return server

    def run_shoal(self, *arguments):
        return subprocess.run([SHOAL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120, env=ENVIRONMENT, check=False)

    def keys(self, server, *arguments):
        done = self.run_shoal("keys", *arguments, "--url", server.url, "--state-dir", self.state)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def code(self, server, key=None):
        request = urllib.request.Request(server.url + "/v1/models",
                                         headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as e:
            with e:
                return e.code

    def test_servers_of_one_folder_share_their_keys(self):
        one, two = self.serve("one"), self.serve("two")
        self.assertEqual((self.code(one), self.code(two)), (200, 200))
        key = re.search(r"sk-shoal-\S+", self.keys(one, "create", "alice"))[0]
        self.assertEqual((self.code(one), self.code(one, key)), (401, 200))
        wait_until("the other asks for a key", lambda: self.code(two) == 401)
        self.assertEqual(self.code(two, key), 200)
        self.assertIn("alice", self.keys(two, "api"))
        one.stop()
        done = self.run_shoal("up", DEMO, "--nodes", 1, "--ask", "What is the capital of France?", "--state-dir",
                              self.state)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Paris", done.stdout)
        three = self.serve("three", "--host", "0.0.0.0")  # it has keys
        self.assertEqual((self.code(three), self.code(three, key)), (401, 200))
        self.keys(two, "revoke-api", "alice")
        wait_until("the key is no more", lambda: self.code(three, key) == 401)

    def test_without_keys_no_server_is_open_to_all(self):
        for command in ("serve", "up"):
            done = self.run_shoal(command, DEMO, "--port", 0, "--host", "0.0.0.0", "--state-dir", self.state)
            self.assertEqual((done.returncode, done.stdout), (78, ""), done.stderr)
            self.assertIn("--insecure-no-key", done.stderr)
        self.assertEqual(self.code(self.serve("open", "--host", "0.0.0.0", "--insecure-no-key")), 200)

    def test_a_folder_that_cannot_be_used_is_said_or_done_without(self):
        file = self.path / "file"
        file.write_text("")
        done = self.run_shoal("serve", DEMO, "--port", 0, "--state-dir", file)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(file), done.stderr)
        log = self.path / "homeless.log"
        with contextlib.ExitStack() as stack:
            said = stack.enter_context(log.open("wb"))
            child = subprocess.Popen([SHOAL, "serve", DEMO, "--port", "0"], stdin=subprocess.DEVNULL, stdout=said,
                                     stderr=said, env={**ENVIRONMENT, "XDG_STATE_HOME": str(file)})
            try:
                wait_until("it serves", lambda: "OpenAI API" in log.read_text() or child.poll() is not None)
                self.assertIn("OpenAI API", log.read_text())
            finally:
                child.terminate()
                child.wait(60)
        (self.state / "coordinator").mkdir(parents=True)
        (self.state / "coordinator" / "api-keys.db").write_bytes(os.urandom(4096))
        done = self.run_shoal("serve", DEMO, "--port", 0, "--state-dir", self.state)
        self.assertEqual(done.returncode, 65, done.stderr)


if __name__ == "__main__":
    unittest.main()
