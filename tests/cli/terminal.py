"""terminal: a shoal process on a pseudo-terminal: what a person types and sees."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

PATIENCE = 60  # seconds until something that must appear has not: generous, the machine may be slow and shared
ORDERS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07")


class Terminal:
    """It has so many columns; what it shows is kept as bytes."""

    def __init__(self, command, environment, columns=80):
        self.shown, self.at = b"", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.status = None

    def type(self, text):
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def line(self, text):
        self.type(text + "\r")

    def read(self, patience):
        """Whether more came."""
        if not select.select([self.fd], [], [], patience)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            data = b""
        self.shown += data
        return bool(data)

    def wait_for(self, pattern, patience=PATIENCE):
        """Until it appears after what was waited for before; the text up to its end, without orders to the terminal."""
        end = time.monotonic() + patience
        while True:
            text = ORDERS.sub(b"", self.shown[self.at:])
            found = re.search(pattern.encode(), text)
            if found:
                seen = text[:found.end()].decode(errors="replace")
                self.at = self.after(found.end())
                return seen
            if time.monotonic() > end or not self.read(max(0, end - time.monotonic())):
                raise AssertionError(f"{pattern!r} did not appear after:\n{text.decode(errors='replace')}")

    def after(self, clean):
        """Where in the bytes that were shown so many have passed that are no orders."""
        i = self.at
        while clean > 0:
            order = ORDERS.match(self.shown, i)
            if order:
                i = order.end()
            else:
                i, clean = i + 1, clean - 1
        return i

    def ask(self, text, prompt=">>> "):
        """Type a line; what appears until the next prompt, the line itself left out."""
        self.line(text)
        seen = self.wait_for("\n" + re.escape(prompt) if prompt else "\n")
        return seen.split("\n", 1)[1] if "\n" in seen else seen

    def interrupt(self):
        self.type(b"\x03")

    def ended(self, patience=PATIENCE):
        """Its exit code; what it still shows is read."""
        end = time.monotonic() + patience
        while self.status is None and time.monotonic() < end:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        if self.status is None:
            raise AssertionError(f"it did not end:\n{self.shown.decode(errors='replace')}")
        return os.waitstatus_to_exitcode(self.status)

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = 0
        os.close(self.fd)
