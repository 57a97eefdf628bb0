"""standin: a server before a cluster's, which hands requests on, but answers some conversations by a script:
what a model or a network does too rarely to be tested with."""
import http.server
import json
import threading
import time
import urllib.error
import urllib.request

PIECE_SECONDS = 0.02


def chunk(delta, finish=None):
    return {"object": "chat.completion.chunk", "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def said(text):
    return [chunk({"content": piece}) for piece in text.split("¦")]


def call(index, name, *arguments):
    first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    return [chunk({"tool_calls": [first]})] + [
        chunk({"tool_calls": [{"index": index, "function": {"arguments": a}}]}) for a in arguments]


class Script:
    """What the last user's words get: (status, headers, error) or a list of events; a cut ends without [DONE]."""

    def __init__(self):
        self.events = {}
        self.refusals = {}
        self.cut = set()
        self.asked = []
        self.key = None
        self.status = None  # what /status says instead


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/status" and self.server.script.status:
            return self.copy(200, {"Content-Type": "application/json"}, json.dumps(self.server.script.status).encode())
        return self.hand_on(None)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        script = self.server.script
        if self.path != "/v1/chat/completions":
            return self.hand_on(body)
        asked = json.loads(body)
        script.asked.append(asked)
        last = asked["messages"][-1]["content"]
        if script.key and self.headers["Authorization"] != f"Bearer {script.key}":
            return self.refuse(401, {}, "no such key")
        if last in script.refusals:
            return self.refuse(*script.refusals[last])
        if last in script.events:
            return self.stream(script.events[last], last in script.cut)
        return self.hand_on(body)

    def hand_on(self, body):
        headers = {k: v for k, v in self.headers.items() if k in ("Accept", "Content-Type", "If-None-Match")}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.server.to + self.path, body, headers)) as answer:
                self.copy(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as e:
            with e:
                self.copy(e.code, e.headers, e.read())
        except OSError:
            self.close_connection = True

    def copy(self, status, headers, data):
        self.send_response(status)
        for name, value in headers.items():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection", "Date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, headers, text):
        self.copy(status, {"Content-Type": "application/json", **headers},
                  json.dumps({"error": {"message": text, "code": status}}).encode())

    def stream(self, events, cut):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for event in events:
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                time.sleep(PIECE_SECONDS)
            self.wfile.write(b"" if cut else b"data: [DONE]\n\n")
        except OSError:
            self.server.left += 1


class StandIn(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A browser that goes away is none."""

    def __init__(self, to):
        super().__init__(("127.0.0.1", 0), Handler)
        self.to = to
        self.left = 0
        self.script = Script()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()
