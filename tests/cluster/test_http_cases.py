#!/usr/bin/env python3
"""What rude, hostile and broken clients send to a real server, and the status that they get: cases of
docs/testing.md, by number. argv[1]: the shoal binary."""
import json
import re
import socket
import struct
import sys
import tempfile
import unittest

from rig import PATIENCE, Cluster

SHOAL = sys.argv.pop(1)
HOST = b"Host: localhost\r\nConnection: close\r\n"
BODY = b'{"prompt":"hi","max_tokens":1}'
GET = b"GET /version HTTP/1.1\r\n" + HOST
POST = b"POST /v1/completions HTTP/1.1\r\n" + HOST
SIZED = POST + b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)
MANY = 100000
MIB = 1 << 20
SECRET, ASKED = "sk-cl0ver-leaf", "walnut-harbour-lantern"
CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"


class Served(unittest.TestCase):
    """One server of one node, for all cases; without keys unless `options` say so."""
    options = ()
    nodes = 1

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cluster = Cluster(SHOAL, cls.folder.name, "--nodes", 1, *cls.options)
        for i in range(cls.nodes):
            cls.cluster.add_node(f"n{i}")
            cls.cluster.wait_ready(1)

    @classmethod
    def tearDownClass(cls):
        codes = cls.cluster.stop()
        cls.folder.cleanup()
        assert set(codes.values()) == {0}, codes

    def say(self, data, ends=False):
        """All that the server answers until it closes. ends: the client says that it will send no more."""
        with socket.create_connection(("127.0.0.1", self.cluster.ports["port"]), timeout=PATIENCE) as s:
            answer = b""
            try:
                s.sendall(data)
                if ends:
                    s.shutdown(socket.SHUT_WR)
                while part := s.recv(1 << 16):
                    answer += part
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer

    def statuses(self, data, **how):
        return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.say(data, **how))]

    def gets(self, status, *requests, **how):
        """Each request alone gets the status, and the connection is closed; 0: closed without a word."""
        for data in requests:
            with self.subTest(data[:200]):
                self.assertEqual((self.statuses(data, **how) or [0])[0], status)

    def refused(self, status, param, path, *bodies, says=""):
        for body in bodies:
            with self.subTest(str(body)[:200]):
                code, j = self.cluster.post(path, body)
                self.assertEqual(code, status, str(j)[:500])
                self.assertTrue(j["error"]["message"] and j["error"]["type"], j)
                self.assertIn(says, j["error"]["message"])
                if param:
                    self.assertTrue((j["error"]["param"] or "").startswith(param), j)

    def taken(self, path, *bodies):
        for body in bodies:
            with self.subTest(str(body)[:200]):
                code, j = self.cluster.post(path, body)
                self.assertEqual(code, 200, str(j)[:500])


class Wire(Served):
    nodes = 0  # nothing here comes so far; what would is told 503

    def test_093_lines_of_the_head(self):
        self.gets(431, GET + b"X: " + b"a" * MIB + b"\r\n\r\n", GET + b"a: b\r\n" * MANY + b"\r\n")
        self.gets(400, GET + b": x\r\n\r\n", GET + b": x\r\na: b\r\n\r\n", GET + b"no colon\r\n\r\n",
                  GET + b"a b: c\r\n\r\n", GET + b"a : b\r\n\r\n", GET + b"X-a: b\r\n c\r\n\r\n",
                  GET + b"X-a: b\r\n\tc d\r\n\r\n", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNK,
                  POST + b"Content-Length:\r\n %d\r\n\r\n" % len(BODY) + BODY, GET + b"X\0: a\r\n\r\n",
                  GET + b"X: a\0b\r\n\r\n", POST + b"Content-Length: %d\x000\r\n\r\n" % len(BODY) + BODY,
                  GET + b"X: a\rb: c\r\n\r\n", POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
                  GET + b"a: b\nc: d\r\n\r\n", b"GET /version HTTP/1.1\nHost: localhost\n\n", GET + b"X: \x7f\r\n\r\n")
        self.gets(0, b"GET /version HTTP/1.1\rHost: localhost\r\r", ends=True)
        self.gets(200, GET + b"\r\n", GET + b"X-a:b\r\nx_b-9!:\t \xc3\xa4 c:d\r\nX-c:\r\n\r\n",
                  b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n", b"\r\nGET /version HTTP/1.1\r\n" + HOST + b"\r\n")

    def test_094_two_readings_of_a_length(self):
        for value in (b"+5", b"0x5", b"5,5", b"5, 5", b"-1", b"5 5", b"5 ", b"", b"five"):
            self.gets(400, POST + b"Content-Length: " + value + b"\r\n\r\n" + BODY)
        self.gets(413, POST + b"Content-Length: 18446744073709551616\r\n\r\n" + BODY,
                  POST + b"Content-Length: 9223372036854775808\r\n\r\n" + BODY)
        self.gets(400, SIZED + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK, SIZED + SIZED.split(HOST)[1] + b"\r\n" + BODY,
                  SIZED + b"Content-Length: 3\r\n\r\n" + BODY, CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK,
                  CHUNKED.replace(b"1.1", b"1.0", 1) + b"\r\n" + CHUNK)
        for value in (b"chunked, identity", b"xchunked", b"\x0bchunked", b"chunked\t", b"identity", b"gzip, chunked", b""):
            self.gets(400, POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + CHUNK + b"0\r\n\r\n")

    def test_095_chunks(self):
        for size in (b"-1e", b"0x1e", b"1e ", b"", b"g"):
            self.gets(400, CHUNKED + b"\r\n" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n")
        self.gets(413, CHUNKED + b"\r\n1000000000000001e\r\n" + BODY + b"\r\n0\r\n\r\n")
        self.gets(400, CHUNKED + b"\r\n1e\r\n" + BODY + b"xx0\r\n\r\n")
        self.gets(431, CHUNKED + b"\r\n" + CHUNK + b"0\r\nX: " + b"a" * MIB + b"\r\n\r\n")
        self.gets(500, CHUNKED + b"\r\n1e;" + b"a" * MIB + b"\r\n" + BODY + b"\r\n0\r\n\r\n")
        self.gets(0, CHUNKED + b"\r\n" + CHUNK, ends=True)

    def test_095_nothing_is_read_behind_chunks(self):
        """Lines that end in a bare LF, extensions and trailers are no request, whoever reads them otherwise."""
        sneaky = b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n"
        for end in (b"0\r\n\r\n", b"0;a=b\n\n", b"0\r\nContent-Length: 9\r\nHost: evil\r\n\r\n"):
            chunked = CHUNKED.replace(b"Connection: close\r\n", b"") + b"\r\n" + CHUNK + end
            self.assertEqual(self.statuses(chunked + sneaky), [503])

    def test_096_a_body_where_none_belongs_is_no_request(self):
        sneaky = b"GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n"
        length = b"GET /version HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(sneaky)
        self.assertEqual(self.statuses(length + sneaky + GET + b"\r\n"), [413, 200])

    def test_097_escapes_in_headers_stay_escapes(self):
        answer = self.say(GET + b"x-request-id: a%0d%0aX-Evil: 1\r\nOrigin: http://localhost%0d%0aX-Evil: 1\r\n\r\n")
        self.assertNotIn(b"\nX-Evil", answer)

    def test_098_lines_of_requests(self):
        line = b"%s %s %s\r\n" + HOST + b"\r\n"
        self.gets(400, b"GET /version\r\n\r\n", b"GET /version\r\n", line % (b"GET", b"/version", b"HTTP/11"),
                  line % (b"GET", b"/version", b"http/1.1"), line % (b"CONNECT", b"evil:443", b"HTTP/1.1"),
                  line % (b"GET", b"http://evil/version", b"HTTP/1.1"), line % (b"OPTIONS", b"*", b"HTTP/1.1"),
                  line % (b"GET", b"/version%00", b"HTTP/1.1"), line % (b"GET", b"/ver%zzsion", b"HTTP/1.1"),
                  line % (b"GET", b"/" + b"a" * 2000, b"HTTP/1.1"), line % (b"GET", b"/ver\tsion", b"HTTP/1.1"))
        self.gets(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", line % (b"GET", b"/version", b"HTTP/2.0"))
        self.gets(405, line % (b"TRACE", b"/version", b"HTTP/1.1"), line % (b"get", b"/version", b"HTTP/1.1"),
                  line % (b"DELETE", b"/v1/models", b"HTTP/1.1"))
        self.gets(414, line % (b"GET", b"/" + b"a" * MIB, b"HTTP/1.1"))
        self.gets(404, line % (b"GET", b"/v1/../version", b"HTTP/1.1"), line % (b"GET", b"/ver\xffsion", b"HTTP/1.1"),
                  line % (b"GET", b"/v1/models/..%2f..%2fetc%2fpasswd", b"HTTP/1.1"))
        self.gets(0, line % (b"GET", b"/version x", b"HTTP/1.1"), line % (b" GET", b"/version", b"HTTP/1.1"),
                  b"\x16\x03\x01" + bytes(200), ends=True)

    def test_099_expectations_upgrades_codings(self):
        self.gets(417, SIZED + b"Expect: 200-ok\r\n\r\n" + BODY)
        self.assertEqual(self.statuses(SIZED + b"Expect: 100-continue\r\n\r\n" + BODY), [100, 503])
        self.gets(413, POST + b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n")
        for coding in (b"gzip", b"br", b"identity\r\nContent-Encoding: gzip", b"x"):
            self.gets(415, SIZED + b"Content-Encoding: " + coding + b"\r\n\r\n" + BODY)
        for what in (b"websocket", b"h2c"):  # a server may pass over it
            self.gets(200, GET + b"Connection: Upgrade\r\nUpgrade: " + what + b"\r\n\r\n")

    def test_101_bodies_that_are_not_as_long_as_said(self):
        self.gets(503, POST + b"Content-Length: 2\r\n\r\n{}" + BODY)  # the rest is not read
        self.gets(400, POST + b"Content-Length: 10\r\n\r\n" + BODY)
        self.gets(0, POST + b"Content-Length: 300\r\n\r\n" + BODY, ends=True)
        self.gets(411, POST + b"\r\n" + BODY)
        self.gets(413, POST + b"Content-Length: %d\r\n\r\n" % (9 * MIB) + b"a" * (9 * MIB))

    def test_111_names_and_origins(self):
        get = b"GET /version HTTP/1.1\r\nConnection: close\r\n"
        for name in (b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"[::2]", b"192.168.0.9"):
            self.gets(403, get + b"Host: " + name + b"\r\n\r\n")
        self.gets(400, get + b"\r\n", get + b"Host: localhost\r\nHost: evil\r\n\r\n")
        for origin in (b"https://evil.example", b"null", b"http://localhost.evil", b"file://localhost"):
            self.gets(403, GET + b"Origin: " + origin + b"\r\n\r\n", SIZED + b"Origin: " + origin + b"\r\n\r\n" + BODY)
        self.assertNotIn(b"Access-Control", self.say(GET + b"Origin: https://evil.example\r\n\r\n"))
        self.assertNotIn(b"Access-Control", self.say(GET + b"\r\n"))
        self.gets(405, b"OPTIONS /v1/completions HTTP/1.1\r\n" + HOST + b"Access-Control-Request-Method: POST\r\n\r\n")


class Bodies(Served):
    options = ("--log-level", "debug")

    def chat(self, *texts, **more):
        return {"messages": [{"role": "user", "content": t} for t in texts], "max_tokens": 1, **more}

    def test_100_json(self):
        many = b'{"prompt":"a",' + b",".join(b'"%d":0' % i for i in range(MIB // 2)) + b"}"
        self.refused(400, None, PLAIN, b"[" * MANY, b'{"a":' * MANY, many, b'{"prompt":"a","prompt":"b"}',
                     b'{"prompt":"a","seed":' + b"9" * MIB + b"}", b'{"prompt":"a","temperature":1e999}',
                     b'{"prompt":"a","temperature":NaN}', b'{"prompt":"a","temperature":-Infinity}',
                     b'{"prompt":"\\ud800"}', b'{"prompt":"\\udc00\\ud800"}', b'{"prompt":"\xff"}',
                     b'{"prompt":"\xc0\xaf"}', b'{"prompt":"\xed\xa0\x80"}', b'{"prompt":"a\\u0000b"}',
                     b"\xef\xbb\xbf" + BODY, BODY + b"{}", BODY + b"\0", BODY[:-1], b"", b"null", b"[]", b"{'prompt':1}")

    def test_102_numbers(self):
        chat = self.chat("hi")
        for name, values in {
            "max_tokens": (-2, 0, 2**63 - 1, 1.5, "5", [1]), "n": (0, -1, 10**6, 1.5), "temperature": (-1, 1e308, "0", [0]),
            "top_p": (0, 2, -1), "min_p": (-0.1, 1.1), "top_k": (-2, 1 << 40), "seed": (1.5, "7"),
            "presence_penalty": (-2.5, 1e308), "frequency_penalty": (3,), "repetition_penalty": (0, -1, 11),
            "logit_bias": ({"2048": 1}, {"-1": 1}, {"1": 101}, {"1": None}, {"": 1}, [1], {str(i): 1 for i in range(2000)}),
            "stop": ("", ["x"] * MANY, ["a", ""], [5], {"a": 1}, "a" * 2000), "top_logprobs": (-1, 21, 10**6),
        }.items():
            extra = {"logprobs": True} if name == "top_logprobs" else {}
            self.refused(400, name, CHAT, *({**chat, **extra, name: v} for v in values))
        self.refused(400, "logprobs", PLAIN, {"prompt": "a", "logprobs": 10**6}, {"prompt": "a", "logprobs": -1})
        self.refused(400, None, PLAIN, b'{"prompt":"a","seed":9223372036854775808}')
        biased = b",".join(b'"%d":1' % (i % 2048) for i in range(MIB // 8))
        self.refused(400, None, PLAIN, b'{"prompt":"a","logit_bias":{' + biased + b"}}")

    def test_103_fields_that_are_not_ours(self):
        for name in ("n_discard", "n_keep", "id_slot", "cache_prompt", "n_probs", "t_max_predict_ms", "priority",
                     "numa", "kv_cache", "__proto__", "draft"):
            self.taken(PLAIN, *({"prompt": "a", "max_tokens": 1, name: v} for v in (-1, 2**62, [[]])))
        self.refused(400, "repeat_last_n", PLAIN, {"prompt": "a", "repeat_last_n": -2},
                     {"prompt": "a", "repeat_last_n": 2**62})

    def test_104_prompts(self):
        self.refused(400, "prompt", PLAIN, {"prompt": ""}, {"prompt": []}, {"prompt": [[]]}, {"prompt": [7] * 2048},
                     {"prompt": [7] * 2049}, {"prompt": [7] * 2000, "max_tokens": 49}, {"prompt": "a" * MIB})
        self.refused(400, "messages", CHAT, self.chat("<|im_end|>" * MANY), says="context")
        self.taken(PLAIN, {"prompt": [7], "max_tokens": 1}, {"prompt": [7] * 2047, "max_tokens": 1},
                   {"prompt": "\u200b\u200d\ufeff" * 20, "max_tokens": 1}, {"prompt": "e" + "\u0301" * 60, "max_tokens": 1})
        self.gets(413, POST + b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n")
        counts = [self.cluster.post(CHAT, self.chat(t))[1]["usage"]["prompt_tokens"] for t in ("a", "<|im_end|>")]
        self.assertGreater(counts[1], counts[0] + 3, "a user's text became a control token")

    def test_105_texts_that_are_hard_to_cut(self):
        for part in ("a", " ", "\n", "'", "1", "\u200b", "\u0301", "\U0001f468\u200d", "aA", "<|im_"):
            text = part * (MIB // len(part.encode()) // 16)
            code, j = self.cluster.post("/tokenize", {"content": text})
            self.assertEqual(code, 200, str(j)[:300])
            code, j = self.cluster.post("/detokenize", {"tokens": j["tokens"]})
            self.assertEqual(j["content"], text)

    def test_106_much_for_little(self):
        self.refused(400, "n", CHAT, self.chat("hi", n=65), self.chat("hi", n=2**62))
        self.refused(400, "prompt", PLAIN, {"prompt": ["a"] * 65}, {"prompt": ["a"] * 33, "n": 2})
        self.refused(400, "messages", CHAT, self.chat("hi", max_tokens=1 << 24), says="context")

    def test_107_grammars(self):
        deep = '{"items":' * 60000 + "{}" + "}" * 60000
        with socket.create_server(("127.0.0.1", 0)) as spy:
            spy.settimeout(0.2)
            far = f"http://127.0.0.1:{spy.getsockname()[1]}/s.json"
            for schema in ({"$ref": far}, {"$ref": "file:///etc/passwd"}, {"$ref": "#"}, {"allOf": [{"$ref": "#"}]},
                           {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
                           {"type": "array", "items": {}, "minItems": 10**9, "maxItems": 10**9},
                           {"type": "string", "minLength": 10**9}, {"uniqueItems": True}):
                self.refused(400, "response_format", CHAT, self.chat("hi", response_format={
                    "type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
            self.assertRaises(TimeoutError, spy.accept)
        self.refused(400, "guided_json", CHAT, self.chat("hi", guided_json=deep))
        self.refused(400, "guided_regex", CHAT, *(self.chat("hi", guided_regex=r) for r in (
            "a{1000000000}", "(a{1000}){1000}{1000}", "(" * 60000 + ")" * 60000, "(a)\\1", "[", "a{2,1}")))
        self.refused(400, "grammar", CHAT, *(self.chat("hi", grammar=g) for g in (
            "root ::= root", 'root ::= a\na ::= root | "x"', 'root ::= "a"{0,1000000000}', "root ::= " + "(" * 60000,
            "root ::= nobody")))
        self.taken(CHAT, *(self.chat("hi", guided_regex=r) for r in ("(a+)+$", "(a|aa)+b", "(.*)*x")))

    def test_108_messages(self):
        self.refused(400, "messages", CHAT, self.chat(*["a"] * 70000), {"messages": [{"role": "emperor", "content": "a"}]})
        self.refused(400, "tools", CHAT, self.chat("hi", tools=[{"type": "function"}] * 2000),
                     self.chat("hi", tools=[{"type": "x"}]))
        with socket.create_server(("127.0.0.1", 0)) as spy:
            spy.settimeout(0.2)
            urls = (f"http://127.0.0.1:{spy.getsockname()[1]}/a.png", "http://169.254.169.254/latest/meta-data/",
                    "file:///etc/passwd", "data:image/png;base64,AAAA")
            self.refused(400, "messages", CHAT, *({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": u}}]}]} for u in urls))
            self.assertRaises(TimeoutError, spy.accept)

    def test_109_clients_that_leave(self):
        for _ in range(100):
            s, file = self.cluster.stream(max_tokens=1900)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            file.close()
            s.close()
        self.cluster.wait_idle()
        self.cluster.wait_answer()

    def test_112_logs_and_metrics_say_nothing_of_users(self):
        evil = ASKED + '\r\nevil{x="y"} 1\n\x1b[31m'
        self.taken(CHAT, self.chat(evil))
        self.refused(404, "model", CHAT, self.chat("hi", model=evil))
        self.refused(400, "stop", CHAT, self.chat(evil, stop=[evil, 5]))
        self.gets(404, b"GET /" + ASKED.encode() + b" HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + SECRET.encode() +
                  b"\r\n\r\n")
        metrics = self.say(b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n").decode()
        for text in (self.cluster.coordinator.said(), self.cluster.nodes["n0"].said(), metrics):
            self.assertNotIn(ASKED, text)
            self.assertNotIn(SECRET, text)
            self.assertNotIn("\x1b", text)
        self.assertIn("answered method=POST", self.cluster.coordinator.said())


class Locked(Served):
    options = ("--api-key", SECRET, "--log-level", "debug")
    nodes = 0

    def test_110_keys(self):
        get = b"GET /v1/models HTTP/1.1\r\n" + HOST
        for given in (b"", b"Authorization: Bearer\r\n", b"Authorization: Bearer \r\n", b"Authorization: Basic c2s=\r\n",
                      b"Authorization: Bearer wrong\r\n", b"Authorization: Bearer " + SECRET[:-1].encode() + b"\r\n",
                      b"Authorization: Bearer " + SECRET.encode() * 2 + b"\r\n", b"x-api-key: no\r\n",
                      b"Authorization: Bearer " + b"k" * 60000 + b"\r\n"):
            self.gets(401, get + given + b"\r\n")
        self.gets(431, get + b"Authorization: Bearer " + b"k" * MIB + b"\r\n\r\n")
        self.gets(200, get + b"Authorization: Bearer " + SECRET.encode() + b"\r\n\r\n",
                  get + b"x-api-key: " + SECRET.encode() + b"\r\n\r\n")
        self.assertNotIn(SECRET, self.cluster.coordinator.said())


if __name__ == "__main__":
    unittest.main(verbosity=1)
