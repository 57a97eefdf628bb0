#!/usr/bin/env python3
"""The API over TLS, as its clients see it. argv[1]: the binary. Skips where there is no openssl command."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest

from rig import DEMO, ENVIRONMENT, Cluster, Process, wait_until

SHOAL = sys.argv.pop(1)
if not shutil.which("openssl"):
    print("skipped: there is no openssl command to make a certificate with")
    sys.exit(77)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = pathlib.Path(folder.name)
        cls.cert, cls.key = cls.certificate("own")
        cls.server = Process(SHOAL, cls.path, "serve", "serve", DEMO, "--port", 0, "--state-dir", cls.path / "state",
                             "--tls-cert", cls.cert, "--tls-key", cls.key)
        cls.addClassCleanup(cls.server.kill)
        cls.port = int(cls.server.wait_for(r"OpenAI API: https://127.0.0.1:(\d+)/v1")[1])
        cls.trust = ssl.create_default_context(cafile=cls.cert)

    @classmethod
    def certificate(cls, name):
        cert, key = cls.path / f"{name}.crt", cls.path / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        return cert, key

    def get(self, path, body=None):
        c = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.trust)
        with contextlib.closing(c):
            c.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                      {"Content-Type": "application/json"})
            answer = c.getresponse()
            return answer.status, answer.read()

    def test_answers_and_streams_come_through(self):
        self.assertEqual(self.get("/health")[0], 200)
        body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
        status, text = self.get("/v1/chat/completions", body)
        self.assertEqual(status, 200, text)
        self.assertIn("Paris", json.loads(text)["choices"][0]["message"]["content"])
        status, text = self.get("/v1/chat/completions", {**body, "stream": True})
        self.assertEqual((status, text.count(b"data: [DONE]")), (200, 1))
        status, text = self.get("/tokenize", {"content": "word " * 200000})  # many records of TLS each way
        self.assertEqual(status, 200)
        self.assertGreaterEqual(len(json.loads(text)["tokens"]), 200000)

    def test_who_does_not_trust_it_or_is_too_old_gets_nothing(self):
        old = ssl.create_default_context(cafile=self.cert)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        for context in (ssl.create_default_context(), old):
            with self.assertRaises(ssl.SSLError), socket.create_connection(("localhost", self.port), 60) as s:
                context.wrap_socket(s, server_hostname="localhost")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=self.cert)
            context.minimum_version = context.maximum_version = version
            with socket.create_connection(("localhost", self.port), 60) as s:
                context.wrap_socket(s, server_hostname="localhost").close()

    def test_plain_http_gets_no_answer(self):
        with socket.create_connection(("localhost", self.port), 60) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 4096)
            got = b""
            with contextlib.suppress(ConnectionError):
                while chunk := s.recv(65536):
                    got += chunk
        self.assertNotIn(b"HTTP", got)
        self.assertEqual(self.get("/health")[0], 200)

    def test_slow_handshakes_hold_nobody_up(self):
        with contextlib.ExitStack() as open_ones:
            for i in range(40):
                s = open_ones.enter_context(socket.create_connection(("localhost", self.port), 60))
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00"[:i % 8])
            for _ in range(3):
                self.assertEqual(self.get("/health")[0], 200)

    def test_a_client_that_leaves_is_noticed(self):
        def left():
            text = self.get("/metrics")[1].decode()
            return float(re.search(r"^shoal_http_unanswered_total (\S+)", text, re.M)[1])
        before = left()
        body = json.dumps({"prompt": "Once upon a time", "stream": True, "temperature": 1.5, "max_tokens": 2000,
                           "logit_bias": Cluster.endless()}).encode()
        with socket.create_connection(("localhost", self.port), 60) as plain:
            s = self.trust.wrap_socket(plain, server_hostname="localhost")
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.assertIn(b"200", s.recv(4096))
            s.close()
        wait_until("the server knows", lambda: left() > before)

    def test_our_own_commands_speak_it(self):
        def status(*arguments):
            return subprocess.run([SHOAL, "status", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                                  env=ENVIRONMENT, check=False)
        url = f"https://localhost:{self.port}"
        done = status("--url", url, "--tls-ca", self.cert)
        self.assertEqual(done.returncode, 0, done.stderr)
        for refused in (status("--url", url), status("--url", f"https://127.0.0.1:{self.port}", "--tls-ca", self.cert)):
            self.assertNotEqual(refused.returncode, 0)
            self.assertEqual(refused.stderr.count("\n"), 1)
        file = self.path / "shoal.yaml"
        file.write_text(f"host: localhost\nport: {self.port}\ntls_cert: {self.cert}\ntls_key: {self.key}\n"
                        f"tls_ca: {self.cert}\n")
        self.assertEqual(status("--config", file).returncode, 0)

    def test_up_asks_itself(self):
        done = subprocess.run([SHOAL, "up", DEMO, "--nodes", "1", "--ask", "What is the capital of France?",
                               "--state-dir", self.path / "up", "--tls-cert", self.cert, "--tls-key", self.key],
                              capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Paris", done.stdout)

    def test_files_that_cannot_be_used_are_said_at_once(self):
        other = self.certificate("other")
        locked, text, folder = self.path / "locked.key", self.path / "text", self.path / "folder"
        openssl("pkcs8", "-topk8", "-in", self.key, "-out", locked, "-passout", "pass:secret")
        text.write_text("hello\n")
        folder.mkdir()
        zeros, absent = self.path / "zeros", self.path / "absent"
        zeros.write_bytes(bytes(100))
        cut = self.path / "cut"
        cut.write_bytes(self.cert.read_bytes()[:300])
        rows = [(self.cert, other[1], "is not that of the first certificate"), (other[0], self.key, "is not that of"),
                (self.key, self.cert, "holds no certificate"), (self.cert, self.cert, "holds no private key"),
                (self.cert, locked, "passphrase"), (text, self.key, "holds no certificate"),
                (self.cert, text, "holds no private key"), (zeros, self.key, "not PEM"), (cut, self.key, "cut"),
                (absent, self.key, "absent"), (self.cert, absent, "absent"), (folder, self.key, "folder"),
                (None, self.key, "--tls-cert is missing"), (self.cert, None, "--tls-key is missing")]
        if os.geteuid() != 0:  # who may read everything
            private = self.path / "private.key"
            shutil.copy(self.key, private)
            private.chmod(0)
            rows.append((self.cert, private, "Permission denied"))
        for cert, key, words in rows:
            arguments = [*(("--tls-cert", cert) if cert else ()), *(("--tls-key", key) if key else ())]
            done = subprocess.run([SHOAL, "serve", DEMO, "--port", "0", "--state-dir", self.path / "none", *arguments],
                                  capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1), done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
