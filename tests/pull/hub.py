"""hub: a server that behaves as the Hugging Face hub does, with its storage on another origin, and faults on demand.

Repositories are dictionaries {path: bytes}.  Files of LARGE bytes or more are "LFS": the listing tells their SHA-256,
and resolve leads to the storage with a signature that may run out."""
import collections
import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 100_000
Asked = collections.namedtuple("Asked", "server method path range token status")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self, status, body=b"", headers=(), length=None):
        self.server.hub.note(self, status)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        with contextlib.suppress(OSError):
            fault = hub.next_fault(self)
            if not fault or not fault(self):
                hub.serve(self)


class Hub:
    """The hub and its storage, each with a thread for every connection."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.gated = {}  # repository: token
        self.page = 1000  # rows of a page of a listing
        self.listing = None  # what the listing says instead of the truth
        self.asked = []
        self.faults = []  # (server, part of the path, function): each is taken once
        self.no_ranges = False
        self.lock = threading.Lock()
        self.released = threading.Event()  # what was stalled may go
        self.signature = 0
        self.servers = {}
        for name in ("hub", "storage"):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            server.hub, server.name = self, name
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self.servers[name] = server

    def url(self, name="hub"):
        return f"http://127.0.0.1:{self.servers[name].server_address[1]}"

    def close(self):
        self.released.set()
        for server in self.servers.values():
            server.shutdown()
            server.server_close()

    def note(self, x, status):
        with self.lock:
            self.asked.append(Asked(x.server.name, x.command, x.path, x.headers.get("Range"),
                                    x.headers.get("Authorization"), status))

    def next_fault(self, x):
        with self.lock:
            for i, (server, part, fault) in enumerate(self.faults):
                if server == x.server.name and part in x.path and x.command == "GET":
                    del self.faults[i]
                    return fault
        return None

    def gets(self, server="storage"):
        return [a for a in self.asked if a.server == server and a.method == "GET"]

    # ---- faults ----

    def refuse(self, server, part, status, *headers, times=1):
        def fault(x):
            x.answer(status, b"no\n", headers)
            return True
        self.faults += [(server, part, fault)] * times

    def cut(self, part, after, times=1):
        """The connection ends after so many bytes."""
        def fault(x):
            x.cut_after = after
        self.faults += [("storage", part, fault)] * times

    def stall(self, part, after):
        """Nothing more comes after so many bytes, until release."""
        def fault(x):
            x.stall_after = after
        self.faults.append(("storage", part, fault))

    def other_range(self, part, times=1):
        def fault(x):
            x.answer(206, b"?" * 100, [("Content-Range", "bytes 7-106/107")])
            return True
        self.faults += [("storage", part, fault)] * times

    # ---- answers ----

    def serve(self, x):
        url = urllib.parse.urlsplit(x.path)
        path = urllib.parse.unquote(url.path)
        if x.server.name == "storage":
            self.serve_storage(x, path, dict(urllib.parse.parse_qsl(url.query)))
            return
        found = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)/(revision|tree|resolve)/([^/]+)/?(.*)", path)
        files = self.repositories.get(found[1]) if found else None
        if found and found[1] in self.gated and x.headers.get("Authorization") != f"Bearer {self.gated[found[1]]}":
            x.answer(401, b'{"error":"Access to this model is restricted"}')
        elif files is None or (found[2] != "revision" and found[3] != COMMIT):
            x.answer(404, b'{"error":"Repository not found"}')
        elif found[2] == "revision":
            x.answer(200, json.dumps({"id": found[1], "sha": COMMIT}).encode())
        elif found[2] == "tree":
            self.serve_tree(x, url, files)
        else:
            self.serve_file(x, found[1], found[4], files)

    def rows(self, files):
        for path, data in files.items():
            row = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}
            if len(data) >= LARGE:
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            yield row
        yield {"type": "directory", "oid": "0", "size": 0, "path": "folder"}

    def serve_tree(self, x, url, files):
        rows = self.listing or list(self.rows(files))
        at = int(dict(urllib.parse.parse_qsl(url.query)).get("cursor", 0))
        more = [("Link", f'<{self.url()}{url.path}?recursive=1&cursor={at + self.page}>; rel="next"')]
        x.answer(200, json.dumps(rows[at:at + self.page]).encode(), more if at + self.page < len(rows) else ())

    def serve_file(self, x, repository, path, files):
        data = files.get(path)
        if data is None:
            x.answer(404, b"Entry not found")
        elif len(data) < LARGE:
            self.serve_bytes(x, data)
        else:
            sha = hashlib.sha256(data).hexdigest()
            place = urllib.parse.quote(f"/{repository}/{path}")
            x.answer(302, b"Found. Redirecting", [
                ("Location", f"{self.url('storage')}{place}?signature={self.signature}"),
                ("X-Linked-Size", str(len(data))), ("X-Linked-ETag", f'"{sha}"'), ("X-Repo-Commit", COMMIT)])

    def serve_storage(self, x, path, query):
        found = re.fullmatch(r"/([^/]+/[^/]+)/(.+)", path)
        if query.get("signature") != str(self.signature):
            x.answer(403, b"<Error>Request has expired</Error>")
        else:
            self.serve_bytes(x, self.repositories[found[1]][found[2]])

    def serve_bytes(self, x, data):
        headers = [("ETag", f'"{hashlib.md5(data).hexdigest()}"')]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", x.headers.get("Range", ""))
        first, last, status = 0, len(data) - 1, 200
        if asked and not self.no_ranges:
            first, last, status = int(asked[1]), min(int(asked[2]), last), 206
            headers += [("Content-Range", f"bytes {first}-{last}/{len(data)}"), ("Accept-Ranges", "bytes")]
        body = data[first:last + 1]
        for name in ("cut_after", "stall_after"):
            if hasattr(x, name):
                x.answer(status, body[:getattr(x, name)], headers, length=len(body))
                if name == "stall_after":
                    self.released.wait(60)
                x.close_connection = True
                x.connection.shutdown(socket.SHUT_RDWR)
                return
        x.answer(status, body, headers)
