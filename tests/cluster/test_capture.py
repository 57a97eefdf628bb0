#!/usr/bin/env python3
"""Listen to the loopback interface while three nodes answer a prompt: neither the prompt, nor token rows, nor
activations may be there in clear, outside the client's own HTTP connection (which proves that we do hear).
It runs in a network namespace of its own, where nobody else speaks.
argv: the shoal binary, the dump_rows program."""
import ctypes
import fcntl
import json
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request

from rig import ENVIRONMENT

SHOAL, DUMP = sys.argv[1:3]
DEMO = "tests/data/shoal-demo-q8_0.gguf"
CASE = json.loads(pathlib.Path("tests/data/answers.json").read_text())[0]
SKIPPED = 77
PACKET_OUTGOING = 4
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41


def leave_for_own_network():
    """A namespace with nothing but a loopback interface; PermissionError where this user may not."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise PermissionError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP_RUNNING, b""))


class Ear:
    """Every TCP payload on loopback, joined by connection and direction."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.streams = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        while not self.stop.is_set():
            try:
                packet, address = self.socket.recvfrom(1 << 17)
            except TimeoutError:
                continue
            if address[2] == PACKET_OUTGOING:  # each packet is seen twice on loopback
                continue
            self.take(packet[14:])

    def take(self, ip):
        if ip[0] >> 4 != 4 or ip[9] != 6:
            return
        tcp = ip[(ip[0] & 15) * 4:struct.unpack(">H", ip[2:4])[0] or len(ip)]
        ports = struct.unpack(">HH", tcp[:4])
        self.streams.setdefault(ports, bytearray()).extend(tcp[(tcp[12] >> 4) * 4:])

    def finish(self):
        self.stop.set()
        self.thread.join()
        return self.streams


def start_cluster():
    child = subprocess.Popen([SHOAL, "up", DEMO, "--nodes", "3", "--threads", "1", "--port", "0"], env=ENVIRONMENT,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in child.stderr:
        said.append(line)
        found = re.search(r"base URL (http://127\.0\.0\.1:(\d+))/v1", line)
        if found:
            layers = [int(b) for a, b in re.findall(r"layers (\d+)-(\d+)", "".join(said))[-3:]]
            return child, found[1], int(found[2]), layers
    sys.exit("the cluster did not start:\n" + "".join(said))


def ask(url):
    body = json.dumps({"prompt": CASE["prompt_tokens"], "max_tokens": 20, "temperature": 0}).encode()
    with urllib.request.urlopen(urllib.request.Request(
            url + "/v1/completions", body, {"Content-Type": "application/json"}), timeout=60) as answer:
        tokens_answer = json.load(answer)["choices"][0]["text"]
    body = json.dumps({"messages": [{"role": "user", "content": "What is the capital of France?"}],
                       "temperature": 0, "max_tokens": 20}).encode()
    with urllib.request.urlopen(urllib.request.Request(
            url + "/v1/chat/completions", body, {"Content-Type": "application/json"}), timeout=60) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] == tokens_answer == CASE["answer"]


def secrets(layers):
    """Byte strings that must not be heard, by name."""
    tokens = CASE["prompt_tokens"]
    out = {"the prompt": b"capital of France", "the answer": b"Paris", "a frame": b"SHL1",
           "token ids": struct.pack("<3i", *tokens[5:8])}
    for last in [n + 1 for n in layers[:-1]]:
        raw = subprocess.run([DUMP, DEMO, str(last), *map(str, tokens)], capture_output=True, check=True).stdout
        width = len(raw) // len(tokens)
        for row in range(len(tokens)):
            for at in (0, width // 2):
                out[f"row {row} after layer {last - 1}, byte {at}"] = raw[row * width + at:row * width + at + 12]
    return out


def main():
    try:
        leave_for_own_network()
        ear = Ear()
    except PermissionError:
        print("skipped: capturing packets needs root")
        return SKIPPED
    child, url, port, layers = start_cluster()
    try:
        ask(url)
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        streams = ear.finish()
    http = b"".join(bytes(s) for ports, s in streams.items() if port in ports)
    links = [bytes(s) for ports, s in streams.items() if port not in ports]
    heard = sum(map(len, links))
    print(f"heard {len(http)} bytes of HTTP and {heard} bytes on {len(links)} directions of links")
    assert b"capital of France" in http, "the capture does not even hear the client: it proves nothing"
    assert heard > 100_000, "the links carried less than the rows of this prompt"
    assert any(b"CURVE" in s[:64] for s in links), "no link shook hands with CURVE"
    bad = [name for name, secret in secrets(layers).items() if any(secret in s for s in links)]
    assert not bad, f"in clear: {bad}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
