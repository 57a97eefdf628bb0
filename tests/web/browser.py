"""browser: a headless Chromium, driven over its DevTools pipe."""
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 30  # seconds for what must happen


def chromium():
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of it."""

    def __init__(self, program):
        self.folder = tempfile.TemporaryDirectory(prefix="shoal-browser-")
        theirs_in, self.out = os.pipe()
        self.inp, theirs_out = os.pipe()
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--hide-scrollbars", f"--user-data-dir={self.folder.name}", "--remote-debugging-pipe", "about:blank"]
        # The pipe is at descriptors 3 and 4, whatever ours are called.
        shell = ["sh", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh", *command]
        self.child = subprocess.Popen(shell, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest = b""
        self.number = 0
        self.events = []
        self.session = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def receive(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.inp], [], [], max(0, end - time.monotonic()))
            data = os.read(self.inp, 1 << 16) if ready else b""
            assert data, "the browser says nothing any more"
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            got = self.receive()
            if got.get("id") == self.number:
                assert "error" not in got, (method, got["error"])
                return got["result"]
            self.events.append(got)

    def js(self, expression):
        """The value of an expression, awaited."""
        got = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
                        userGesture=True)
        assert "exceptionDetails" not in got, (expression, got["exceptionDetails"])
        return got["result"].get("value")

    def wait(self, what, expression, patience=PATIENCE):
        """Until the expression is true; its value."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            value = self.js(expression)
            if value:
                return value
            time.sleep(0.03)
        raise AssertionError(f"not within {patience} s: {what}\n{self.js('document.body.innerText')}")

    def open(self, url, first=None):
        """Load a page anew; `first` is run before its own scripts."""
        self.js("window.old = 1")
        script = first and self.call("Page.addScriptToEvaluateOnNewDocument", source=first)["identifier"]
        self.call("Page.navigate", url=url)
        self.wait(f"{url} is there", f"!window.old && document.readyState === 'complete' && "
                                     f"location.href.startsWith({url!r})")
        if script:
            self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)

    def text(self, selector):
        return self.js(f"document.querySelector({selector!r})?.innerText ?? null")

    def click(self, selector):
        assert self.js(f"document.querySelector({selector!r}) !== null"), f"no {selector}"
        self.js(f"document.querySelector({selector!r}).click()")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def key(self, key, modifiers=0, code=None):
        """A key pressed and released; modifiers: 1 Alt, 2 Ctrl, 8 Shift."""
        number = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40}.get(key, ord(key.upper()[0]))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 and not modifiers & 3 else None)
        same = {"key": key, "code": code or key, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **same, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, **features):
        """Media features, as prefer(color_scheme="dark")."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()])

    def shot(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def offline(self, off):
        self.call("Network.emulateNetworkConditions", offline=off, latency=0, downloadThroughput=-1,
                  uploadThroughput=-1)

    def complaints(self):
        """What the page's scripts threw and what the browser found wrong with it."""
        self.js("0")
        said = []
        for e in self.events:
            if e["method"] == "Runtime.exceptionThrown":
                said.append(e["params"]["exceptionDetails"])
            if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error":
                said.append(e["params"]["entry"])
        return said

    def close(self):
        os.close(self.out)
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        os.close(self.inp)
        self.folder.cleanup()
