"""stranger: what somebody without a key of the cluster can send to its ports, by raw TCP and by libzmq itself."""
import base64
import contextlib
import ctypes
import hashlib
import os
import socket
import struct
import time

ZMQ_DEALER, ZMQ_PAIR, ZMQ_DONTWAIT = 5, 0, 1
ZMQ_LINGER, ZMQ_RCVTIMEO = 17, 27
ZMQ_CURVE_PUBLICKEY, ZMQ_CURVE_SECRETKEY, ZMQ_CURVE_SERVERKEY = 48, 49, 50
ZMQ_PLAIN_USERNAME, ZMQ_PLAIN_PASSWORD = 45, 46
EVENT_DISCONNECTED, EVENT_HANDSHAKE_SUCCEEDED = 0x0200, 0x1000
EVENTS_HANDSHAKE_FAILED = 0x0800 | 0x2000 | 0x4000


def greeting(mechanism, as_server=0):
    """The 64 bytes with which ZMTP 3 opens."""
    return (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + mechanism.ljust(20, b"\0") + bytes([as_server])).ljust(64, b"\0")


def command(name, body=b"", declared=None):
    """A ZMTP command frame, with a length that may be a lie."""
    data = bytes([len(name)]) + name + body
    return b"\x06" + struct.pack(">Q", len(data) if declared is None else declared) + data


def openings():
    """First words that no member says, by name."""
    return {
        "silence": b"",
        "text": b"hello\r\n" * 4,
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(193),
        "zeroes": bytes(4096),
        "noise": os.urandom(65536),
        "ZMTP 1": b"\x01\x00",
        "ZMTP 2": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00",
        "a greeting cut short": greeting(b"CURVE")[:40],
        "NULL": greeting(b"NULL") + command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x06DEALER"),
        "PLAIN": greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin"),
        "a mechanism without a name": greeting(b""),
        "CURVE and silence": greeting(b"CURVE"),
        "an empty HELLO": greeting(b"CURVE") + command(b"HELLO"),
        "a HELLO of zeroes": greeting(b"CURVE") + command(b"HELLO", bytes(194)),
        "a HELLO of noise": greeting(b"CURVE") + command(b"HELLO", b"\x01\x00" + os.urandom(192)),
        "a HELLO of 4 GiB": greeting(b"CURVE") + command(b"HELLO", bytes(194), 1 << 32) + bytes(1 << 20),
        "a HELLO of 2^63": greeting(b"CURVE") + command(b"HELLO", bytes(194), 1 << 63) + bytes(1 << 20),
        "INITIATE before HELLO": greeting(b"CURVE") + command(b"INITIATE", os.urandom(300)),
        "a message before any key": greeting(b"CURVE") + b"\x00\x05hello",
    }


def cut(port, data, patience):
    """Say `data`, then wait to be thrown out; the bytes that came, or None when we may stay."""
    came = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as s:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(data)
        end = time.monotonic() + patience
        try:
            while time.monotonic() < end:
                part = s.recv(65536)
                if not part:
                    return came
                came += part
        except ConnectionResetError:
            return came
        except TimeoutError:
            pass
    return None


def fields_of_invite(line):
    """The bytes of an invite line, and where its host ends."""
    data = base64.urlsafe_b64decode(line.removeprefix("shoal1.") + "==")
    return data, 12 + data[11]


def key_of_invite(line):
    """The coordinator's public key, as ZeroMQ's options take it."""
    data, at = fields_of_invite(line)
    return data[at:at + 32]


def with_port(line, port):
    """The same invite, sent to another door."""
    data, _ = fields_of_invite(line)
    data = data[:9] + struct.pack("<H", port) + data[11:-8]
    data += hashlib.blake2b(data, digest_size=32).digest()[:8]
    return "shoal1." + base64.urlsafe_b64encode(data).decode().rstrip("=")


class Library:
    """libzmq without a binding."""

    def __init__(self):
        self.zmq = ctypes.CDLL("libzmq.so.5")
        for name in ("zmq_ctx_new", "zmq_socket"):
            getattr(self.zmq, name).restype = ctypes.c_void_p
        self.zmq.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
        for name, more in {"zmq_setsockopt": [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t],
                           "zmq_connect": [ctypes.c_char_p], "zmq_close": [], "zmq_ctx_term": [],
                           "zmq_socket_monitor": [ctypes.c_char_p, ctypes.c_int],
                           "zmq_send": [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int],
                           "zmq_recv": [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]}.items():
            getattr(self.zmq, name).argtypes = [ctypes.c_void_p, *more]
        self.context = self.zmq.zmq_ctx_new()

    def option(self, s, name, value):
        data = struct.pack("i", value) if isinstance(value, int) else value
        assert self.zmq.zmq_setsockopt(s, name, data, len(data)) == 0

    def keypair(self):
        public, secret = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
        assert self.zmq.zmq_curve_keypair(public, secret) == 0
        return public.value, secret.value

    def try_to_enter(self, port, seconds, server_key=None, plain=False):
        """Whether a handshake came to its end within the time, and any byte that was received."""
        s = self.zmq.zmq_socket(self.context, ZMQ_DEALER)
        self.option(s, ZMQ_LINGER, 0)
        if server_key:
            public, secret = self.keypair()
            self.option(s, ZMQ_CURVE_SERVERKEY, server_key)
            self.option(s, ZMQ_CURVE_PUBLICKEY, public)
            self.option(s, ZMQ_CURVE_SECRETKEY, secret)
        if plain:
            self.option(s, ZMQ_PLAIN_USERNAME, b"admin")
            self.option(s, ZMQ_PLAIN_PASSWORD, b"admin")
        at = f"inproc://monitor-{id(s)}-{port}-{time.monotonic_ns()}".encode()
        assert self.zmq.zmq_socket_monitor(s, at, 0xFFFF) == 0
        events = self.zmq.zmq_socket(self.context, ZMQ_PAIR)
        self.option(events, ZMQ_LINGER, 0)
        self.option(events, ZMQ_RCVTIMEO, 100)
        assert self.zmq.zmq_connect(events, at) == 0
        assert self.zmq.zmq_connect(s, f"tcp://127.0.0.1:{port}".encode()) == 0
        self.zmq.zmq_send(s, b"let me in", 9, ZMQ_DONTWAIT)
        entered = self.watch(events, seconds)
        got = self.zmq.zmq_recv(s, ctypes.create_string_buffer(64), 64, ZMQ_DONTWAIT)
        self.zmq.zmq_close(s)
        self.zmq.zmq_close(events)
        return entered, max(got, 0)

    def watch(self, events, seconds):
        buffer, end = ctypes.create_string_buffer(256), time.monotonic() + seconds
        while time.monotonic() < end:
            n = self.zmq.zmq_recv(events, buffer, 256, 0)
            if n == 6 and struct.unpack("=HI", buffer.raw[:6])[0] == EVENT_HANDSHAKE_SUCCEEDED:
                return True
            if n == 6 and struct.unpack("=HI", buffer.raw[:6])[0] & (EVENTS_HANDSHAKE_FAILED | EVENT_DISCONNECTED):
                return False
        return False

    def close(self):
        self.zmq.zmq_ctx_term(self.context)
