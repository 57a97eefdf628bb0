"""rig: processes of a cluster on this machine, driven over real sockets, for the tests of faults."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

DEMO = "tests/data/shoal-demo-q8_0.gguf"
STATE = tempfile.TemporaryDirectory()  # nothing of the user's own counts, keys above all
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
ENVIRONMENT["XDG_STATE_HOME"] = STATE.name
PATIENCE = 90  # seconds until something that must happen has not: generous, the machine may be slow and shared


def wait_until(what, condition, patience=PATIENCE):
    """The first true value of condition()."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {patience} s: {what}")


class Process:
    """One shoal process; what it says goes to a file."""

    def __init__(self, shoal, folder, name, *arguments, **popen):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([shoal, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log, env=ENVIRONMENT, **popen)

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, patience=PATIENCE):
        def look():
            found = re.search(pattern, self.said())
            if not found and self.child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.said()}")
            return found
        try:
            return wait_until(f"{self.name} says {pattern}", look, patience)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.said()}") from None

    def ended(self, patience=PATIENCE):
        return self.child.wait(patience)

    def signal(self, which):
        self.child.send_signal(which)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def resident_bytes(self):
        return int(pathlib.Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * 4096

    def stop(self):
        """End it as an operator would; its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.returncode


class Cluster:
    """A coordinator and nodes, each with folders of its own below one."""

    def __init__(self, shoal, folder, *options, model=DEMO, **popen):
        self.shoal = shoal
        self.folder = pathlib.Path(folder)
        self.options = options
        self.model = model
        self.popen = popen
        self.nodes = {}
        self.ports = {}
        self.start_coordinator()

    def start_coordinator(self):
        """The first time on free ports, then on the same again."""
        ports = [v for name in ("port", "control-port", "enrol-port", "blob-port")
                 for v in (f"--{name}", self.ports.get(name, 0))]
        (self.folder / "coordinator.log").unlink(missing_ok=True)
        self.coordinator = Process(
            self.shoal, self.folder, "coordinator", "coordinator", self.model, "--listen", "127.0.0.1", *ports,
            "--state-dir", self.folder / "state", "--cache-dir", self.folder / "cache", *self.options, **self.popen)
        self.url = self.coordinator.wait_for(r"OpenAI API: (http://\S+)/v1")[1]
        self.invite_line = self.coordinator.wait_for(r"--join '(\S+)'")[1]
        listening = self.coordinator.wait_for(r"control=(\d+) enrol=(\d+) blob=(\d+)")
        self.ports = {"port": int(self.url.rsplit(":", 1)[1]), "control-port": int(listening[1]),
                      "enrol-port": int(listening[2]), "blob-port": int(listening[3])}

    def command(self, *arguments, timeout=PATIENCE):
        return subprocess.run([self.shoal, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, env=ENVIRONMENT, check=False)

    def admin(self, *arguments):
        return self.command(*arguments, "--url", self.url, "--state-dir", self.folder / "state")

    def invite(self, *arguments):
        done = self.admin("invite", *arguments)
        assert done.returncode == 0, done.stderr
        return re.search(r"'(\S+)'", done.stdout)[1]

    def add_node(self, name, *options, invite=None, cache="cache"):
        """Join, the first time with an invite; a second time as it was."""
        join = [] if name in self.nodes else ["--join", invite or self.invite()]
        self.nodes[name] = Process(
            self.shoal, self.folder, name, "node", "--name", name, "--listen", "127.0.0.1:0", "--threads", 1,
            "--memory", "1GiB", "--state-dir", self.folder / name, "--cache-dir", self.folder / cache, *join, *options)
        return self.nodes[name]

    def status(self):
        done = self.command("status", "--json", "--url", self.url)
        return json.loads(done.stdout) if done.returncode == 0 else {"state": "unreachable", "members": []}

    def wait_ready(self, stages, patience=PATIENCE):
        """Until a route of so many stages stands."""
        def look():
            s = self.status()
            return s if s["state"] == "ready" and len(s["route"]["stages"]) == stages else None
        try:
            return wait_until(f"a route of {stages} stages", look, patience)
        except AssertionError as e:
            logs = "\n".join(p.said()[-3000:] for p in [self.coordinator, *self.nodes.values()])
            raise AssertionError(f"{e}\n{json.dumps(self.status())}\n{logs}") from None

    def wait_idle(self, patience=PATIENCE):
        """Until no member holds a sequence or a page of KV: what the coordinator has of them, and they of theirs."""
        def look():
            here = [m for m in self.status()["members"] if m["state"] != "away"]
            return here and all(m["sequences"] == 0 and m["kv_pages_used"] == 0 and m["queue"] == 0 for m in here)
        wait_until("every sequence has ended on every node", look, patience)

    def post(self, path, body, timeout=PATIENCE):
        """(status, JSON)"""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            with e:
                return e.code, json.load(e)

    def capital(self):
        """The demo question; its answer's text."""
        code, j = self.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0, "max_tokens": 20})
        return j["choices"][0]["message"]["content"] if code == 200 else f"{code} {j}"

    def wait_answer(self, patience=PATIENCE):
        """Until the cluster answers right again."""
        last = []

        def look():
            with contextlib.suppress(OSError, ValueError):
                last[:] = [self.capital()]
            return last and "Paris" in last[0]
        try:
            wait_until("an answer", look, patience)
        except AssertionError as e:
            raise AssertionError(f"{e}; the last was {last}\n{self.coordinator.said()[-3000:]}") from None

    def begin(self, timeout=PATIENCE, **more):
        """Ask for an answer that goes on for long; the socket on which it will come."""
        body = json.dumps({"prompt": "Once upon a time", "stream": True, "temperature": 1.5, "max_tokens": 2000,
                           "logit_bias": self.endless(), **more}).encode()
        s = socket.create_connection(("127.0.0.1", self.ports["port"]), timeout=timeout)
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return s

    def stream(self, **more):
        """Such an answer, its first text received: the socket and the file of what follows."""
        s = self.begin(**more)
        file, said = s.makefile("rb"), []
        for line in file:
            if line.startswith(b"data:") and b'"text"' in line:
                return s, file
            said.append(line)
        raise AssertionError(f"the stream ended before its first token: {said}")

    @staticmethod
    def endless():
        """A bias that keeps the end tokens of the demo model away."""
        return {str(i): -100 for i in range(2039, 2048)}

    def stop(self):
        """Every process's exit code, by name."""
        codes = {name: node.stop() for name, node in self.nodes.items()}
        codes["coordinator"] = self.coordinator.stop()
        return codes
