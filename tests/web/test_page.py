#!/usr/bin/env python3
"""The page in a headless Chromium, before a running cluster of three nodes.

usage: test_page.py --shoal BINARY [--shots FOLDER]
Without a Chromium the test is skipped (77). --shots keeps pictures of what is tested, to be looked at."""
import argparse
import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
from browser import Browser, chromium  # noqa: E402
from rig import Cluster, wait_until  # noqa: E402
from standin import StandIn, call, chunk, said  # noqa: E402

SKIPPED = 77
QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."
NODES = ("anchovy", "bream", "cod")
LAST = "document.querySelector('.turn:last-child')"
IDLE = "document.querySelector('.send').getAttribute('aria-label') === 'Send'"

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]

HOSTILE = """# <img src=x onerror="window.owned=1">

<script>window.owned = 1</script> and **bold <b>tag</b>** and `<i>code</i>`

[click](javascript:window.owned=1) [data](data:text/html,x) [fine](https://example.org/a_b) <https://example.org>
![picture](https://example.org/track.png)

| a | b |
|---|---|
| <svg onload="window.owned=1"> | `1` |

```js
<script>alert("no")</script>
a line that is so long that it does not fit on any screen but has to be scrolled: 0123456789 0123456789 0123456789 abc
```
"""


class Tests:
    def __init__(self, browser, cluster, standin, shots):
        self.b, self.cluster, self.standin, self.shots = browser, cluster, standin, shots

    # ---- steps that many tests take ----

    def shot(self, name):
        if self.shots:
            self.b.shot(pathlib.Path(self.shots) / f"{name}.png")

    def open(self, settings=None):
        """The page anew, without anything kept."""
        kept = json.dumps(json.dumps({"temperature": "0"} if settings is None else settings))
        self.b.open(self.standin.url + "/", "localStorage.clear(); sessionStorage.clear(); "
                                            f"localStorage.setItem('shoal.settings', {kept});")
        self.b.wait("the models", "document.querySelector('.models').options.length > 0")

    def send(self, text):
        self.b.js("document.querySelector('#words').focus()")
        self.b.type(text)
        self.b.key("Enter")
        self.b.wait("the words are sent", "document.querySelector('#words').value === ''")

    def ask(self, text):
        """The last turn's text once it is whole."""
        self.send(text)
        return self.idle()

    def idle(self):
        self.b.wait("the end of the answer", IDLE)
        return self.b.js(f"{LAST}.querySelector('.answer').innerText")

    def press(self, label):
        found = self.b.js(f"""(() => {{
            const all = [...document.querySelectorAll("button")].filter((b) =>
              b.getAttribute("aria-label") === {label!r} || b.innerText === {label!r});
            all.at(-1)?.click();
            return all.length; }})()""")
        assert found, f"no button {label}"

    def no_complaints(self):
        wrong = [c for c in self.b.complaints() if c.get("source") != "network"]
        assert not wrong, wrong

    def expect(self, what, value, expected):
        assert value == expected, f"{what}: {value!r}, not {expected!r}"

    # ---- the chat ----

    def test_an_answer_of_the_cluster(self):
        self.open()
        assert "What is on your mind?" in self.b.text("#chat")
        self.shot("welcome")
        self.expect("answer", self.ask(QUESTION), ANSWER)
        self.expect("model", self.b.text(".assistant .who"), "shoal-demo-q8_0")
        assert "tokens" in self.b.text(".figures"), self.b.text(".figures")
        self.expect("title", self.b.js("document.title"), f"{QUESTION} · Shoal")
        self.expect("list", self.b.text(".entry"), QUESTION)
        self.expect("spoken", self.b.js("document.querySelector('#speech').innerText"), ANSWER)
        self.shot("answer")
        self.b.open(self.standin.url + "/ui/")
        self.b.wait("the same conversation", f"{LAST}.innerText.includes({ANSWER!r})")

    def test_versions(self):
        self.open()
        self.ask(QUESTION)
        self.press("Answer again")
        self.expect("again", self.idle(), ANSWER)
        self.expect("versions", self.b.text(".assistant .branches"), "2 / 2")
        self.b.key("ArrowUp")
        self.b.wait("the form", "document.activeElement.closest('.turn.user') !== null")
        self.b.js("document.activeElement.select()")
        self.b.type("What is the capital of Spain?")
        self.b.key("Enter", modifiers=2)
        self.b.wait("the other answer", f"{IDLE} && {LAST}.innerText.includes('Madrid')")
        self.expect("versions", self.b.text(".user .branches"), "2 / 2")
        self.press("Previous version")
        self.b.wait("the first question", f"{LAST}.innerText.includes('Paris')")

    def test_stop_keeps_the_text_and_ends_the_request(self):
        self.open()
        self.standin.script.events["slow"] = said("word ¦" * 1000)
        self.send("slow")
        self.b.wait("some words", f"{LAST}.innerText.includes('word word')")
        self.expect("button", self.b.js("document.querySelector('.send').getAttribute('aria-label')"), "Stop")
        self.b.key("Escape")
        text = self.idle()
        assert "word word" in text and len(text) < 3000, text
        assert "stopped" in self.b.text(".figures")
        wait_until("the server sees that nobody listens", lambda: self.standin.left == 1)

    def test_reasoning_is_folded(self):
        self.open()
        self.standin.script.events["think"] = [
            chunk({"reasoning_content": "Let me *see*. "}), chunk({"reasoning_content": "Yes."}),
            *said("It is ¦**42**."), chunk({}, "stop")]
        self.send("think")
        self.b.wait("the thought", "document.querySelector('.reasoning summary')?.innerText.startsWith('Thought for')")
        self.expect("answer", self.idle(), "It is 42.")
        self.expect("open", self.b.js("document.querySelector('.reasoning').open"), False)
        self.b.js("document.querySelector('.reasoning summary').click()")
        self.expect("thought", self.b.text(".reasoning .text"), "Let me see. Yes.")
        self.shot("reasoning")

    def test_a_tool_call_of_the_cluster(self):
        self.open({"tools": json.dumps(TOOLS), "temperature": "0"})
        self.send("What is the weather in Paris?")
        self.b.wait("the call", f"{IDLE} && document.querySelector('.call textarea') !== null")
        self.expect("call", json.loads(self.b.text(".call pre")), {"city": "Paris"})
        self.b.js("document.querySelector('.call textarea').focus()")
        self.b.type('{"weather": "sunny"}')
        self.press("Send result")
        self.b.wait("an answer", f"{IDLE} && {LAST}.querySelector('.answer')?.innerText.length > 3")
        self.expect("turns", self.b.js("document.querySelectorAll('.turn').length"), 4)

    def test_tool_calls_of_many_kinds(self):
        self.open({"tools": json.dumps(TOOLS)})
        self.standin.script.events["weather"] = [
            *call(0, "get_weather", '{"city": ', '"Rome"}'), *call(1, "get_time", "{}"), chunk({}, "tool_calls")]
        self.standin.script.events["noon"] = [*said("Sunny at noon."), chunk({}, "stop")]
        self.send("weather")
        self.b.wait("the calls", "document.querySelectorAll('.call textarea').length === 2")
        self.shot("tools")
        assert '"city": "Rome"' in self.b.text(".call pre"), self.b.text(".call pre")
        self.b.js("document.querySelectorAll('.call textarea')[0].focus()")
        self.b.type("sunny")
        self.b.js("document.querySelectorAll('.call textarea')[1].focus()")
        self.b.type("noon")
        self.press("Send results")
        self.b.wait("the answer", f"{IDLE} && {LAST}.innerText.includes('Sunny at noon.')")
        asked = self.standin.script.asked[-1]
        self.expect("tools", asked["tools"], TOOLS)
        self.expect("roles", [m["role"] for m in asked["messages"]], ["user", "assistant", "tool", "tool"])
        calls = asked["messages"][1]["tool_calls"]
        self.expect("arguments", [json.loads(c["function"]["arguments"]) for c in calls], [{"city": "Rome"}, {}])
        self.expect("ids", [m["tool_call_id"] for m in asked["messages"][2:]], [c["id"] for c in calls])

    def test_a_model_cannot_reach_the_page(self):
        self.open()
        self.standin.script.events["hostile"] = [*said(HOSTILE), chunk({}, "stop")]
        text = self.ask("hostile")
        assert '<script>window.owned = 1</script>' in text and "<b>tag</b>" in text, text
        inside = f"{LAST}.querySelector('.answer')"
        self.expect("elements", self.b.js(f"{inside}.querySelectorAll('img, script, svg, iframe, b, i').length"), 0)
        self.expect("links", self.b.js(f"[...{inside}.querySelectorAll('a')].map((a) => a.href)"),
                    ["https://example.org/a_b", "https://example.org/", "https://example.org/track.png"])
        self.expect("table", self.b.js(f"{inside}.querySelectorAll('td').length"), 2)
        self.expect("owned", self.b.js("window.owned ?? 0"), 0)
        self.expect("coloured", self.b.text(".code .string"), '"no"')
        self.expect("code", self.b.text(".code code").split("\n")[0], '<script>alert("no")</script>')
        self.expect("width", self.b.js("document.documentElement.scrollWidth <= innerWidth"), True)
        self.shot("markdown")
        self.no_complaints()
        self.expect("policy", self.b.js("(() => { try { document.body.innerHTML = '<p>'; return 1; } "
                                        "catch { return 0; } })()"), 0)
        self.b.events.clear()

    def test_large_and_odd_texts_are_drawn(self):
        self.open()
        for text in ("'|'.repeat(100000) + '\\n' + '|-'.repeat(900)", "'# a\\n'.repeat(20000)", "'[a]('.repeat(20000)",
                     "' '.repeat(50) + '> - 1. '.repeat(5000)", "'*a_b`c~~'.repeat(10000)", "'```\\n'.repeat(9999)"):
            self.b.js(f"import('/ui/markdown.js').then((m) => m.draw(document.createElement('div'), {text}))")

    def test_errors_are_a_sentence(self):
        self.open()
        script = self.standin.script
        script.refusals["busy"] = (429, {"Retry-After": "7"}, "too many requests")
        script.refusals["away"] = (503, {}, "the cluster waits for 2 nodes.")
        script.events["cut"], script.cut = said("half an ¦answer"), {"cut"}
        for words, sentence in (("busy", "Too many requests. Try again in 7 s."),
                                ("away", "The cluster waits for 2 nodes."),
                                ("cut", "The connection was cut before the answer was whole.")):
            self.send(words)
            self.b.wait(sentence, f"{IDLE} && {LAST}.querySelector('.error span')?.innerText === {sentence!r}")
        self.expect("kept", self.b.js(f"{LAST}.querySelector('.answer').innerText"), "half an answer")
        self.shot("errors")
        del script.events["cut"]
        script.events["cut"], script.cut = said("whole"), set()
        self.press("Try again")
        self.b.wait("the whole answer", f"{IDLE} && {LAST}.querySelector('.answer').innerText === 'whole'")
        self.b.offline(True)
        self.send("anyone?")
        self.b.wait("the network's loss", f"{IDLE} && {LAST}.innerText.includes('The server cannot be reached.')")
        self.b.offline(False)

    def test_a_key_is_asked_for(self):
        self.open()
        self.standin.script.key = "sk-right"
        self.standin.script.events["locked"] = said("open")
        self.send("locked")
        self.b.wait("the question", "document.querySelector('dialog #key') !== null")
        self.shot("key")
        self.b.type("sk-right")
        self.b.key("Enter")
        self.b.wait("the answer", f"{IDLE} && {LAST}.querySelector('.answer').innerText === 'open'")
        self.expect("turns", self.b.js("document.querySelectorAll('.turn').length"), 2)
        self.expect("kept", self.b.js("JSON.stringify(localStorage).includes('sk-right')"), False)
        self.standin.script.key = None

    def test_settings_go_with_the_request(self):
        self.open({})
        self.b.click("#open-settings")
        for name, value in (("system-prompt", "Be brief."), ("temperature", "0.3"), ("longest-answer", "9")):
            self.b.js(f"document.querySelector('#set-{name}').focus()")
            self.b.type(value)
        self.shot("settings")
        self.press("Save")
        self.ask(QUESTION)
        asked = self.standin.script.asked[-1]
        self.expect("system", asked["messages"][0], {"role": "system", "content": "Be brief."})
        self.expect("numbers", (asked["temperature"], asked["max_completion_tokens"]), (0.3, 9))
        assert "top_p" not in asked and "tools" not in asked, asked

    # ---- the list ----

    def test_the_list_and_its_file(self):
        self.open()
        self.ask(QUESTION)
        self.b.key("O", modifiers=10, code="KeyO")
        self.b.wait("an empty conversation", "document.querySelector('.welcome') !== null")
        self.ask("What is the capital of Italy?")
        self.expect("entries", self.b.js("document.querySelectorAll('.entry').length"), 2)
        self.b.key("ArrowDown", modifiers=1)
        self.b.wait("the older one", f"{LAST}.innerText.includes('Paris')")
        self.press(f"Delete: {QUESTION}")
        self.b.wait("one is gone", "document.querySelectorAll('.entry').length === 1")
        self.press("Undo")
        self.b.wait("it is back", "document.querySelectorAll('.entry').length === 2")
        kept = self.b.js("import('/ui/store.js').then((s) => s.exported(s.all()))")
        self.b.js("localStorage.clear()")
        self.expect("imported", self.b.js(f"import('/ui/store.js').then((s) => s.imported({json.dumps(kept)}))"), 2)
        self.expect("again", self.b.js("import('/ui/store.js').then((s) => s.exported(s.all()))"), kept)
        for bad in ("{", "[]", '{"format":"shoal-conversations","version":1,"conversations":[{"id":"a","title":"",'
                    '"leaf":"x","turns":[{"id":"x","parent":"y","role":"user","content":""}]}]}'):
            self.expect(bad, self.b.js(f"import('/ui/store.js').then((s) => s.imported({json.dumps(bad)}))"
                                       ".then(() => 'taken', (e) => 'refused')"), "refused")

    # ---- everybody ----

    def test_everything_has_a_name(self):
        self.open()
        self.ask(QUESTION)
        for view in ("#chat", "#cluster"):
            self.b.js(f"location.hash = {view!r}")
            self.b.wait("the view", f"!document.querySelector({view!r}).hidden")
            nodes = self.b.call("Accessibility.getFullAXTree")["nodes"]
            roles = ("button", "link", "textbox", "combobox", "searchbox", "region", "meter", "image", "article")
            for n in nodes:
                if not n.get("ignored") and n["role"]["value"] in roles:
                    named = n.get("name", {}).get("value") or n["role"]["value"] == "article"
                    assert named, f"a {n['role']['value']} without a name: {n}"

    def test_keys_reach_everything(self):
        self.open()
        self.b.js("document.activeElement.blur()")
        seen = []
        for _ in range(22):
            self.b.key("Tab")
            seen.append(self.b.js("""(() => { const e = document.activeElement, s = getComputedStyle(e);
                return [e.id || e.innerText || e.className, e === document.body ||
                  s.outlineStyle !== "none" || e.id === "words"]; })()"""))
        assert all(visible for _, visible in seen), seen
        assert {"tab-chat", "tab-cluster", "open-settings", "words"} <= {name for name, _ in seen}, seen
        self.b.js("document.activeElement.blur()")
        self.b.key("?", modifiers=8)
        self.b.wait("the help", "document.querySelector('dialog[open] kbd') !== null")
        self.b.key("Escape")
        self.b.wait("no help", "document.querySelector('dialog') === null")
        self.b.key("/")
        self.expect("focus", self.b.js("document.activeElement.id"), "words")

    def test_a_phone(self):
        self.b.size(360, 740, mobile=True)
        self.open()
        self.ask(QUESTION)
        self.expect("list", self.b.js("getComputedStyle(document.querySelector('#list')).visibility"), "hidden")
        self.shot("phone")
        self.b.click("#open-list")
        self.b.wait("the drawer", "document.querySelector('#list').getBoundingClientRect().left === 0")
        self.shot("phone-list")
        self.b.key("Escape")
        for view in ("#chat", "#cluster"):
            self.b.js(f"location.hash = {view!r}")
            self.b.wait("the view", f"!document.querySelector({view!r}).hidden")
            wide = self.b.js("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], (view, wide)
        self.b.size(1280, 800)

    def test_the_dark(self):
        self.b.prefer(color_scheme="dark")
        self.open()
        dark = "getComputedStyle(document.body).backgroundColor"
        self.expect("dark", self.b.js(f"{dark}.match(/\\d+/g).every((v) => v < 60)"), True)
        self.shot("dark")
        self.b.click("#open-theme")
        self.expect("light by choice", self.b.js(f"{dark}.match(/\\d+/g).every((v) => v > 200)"), True)
        self.b.prefer(color_scheme="light")

    # ---- the cluster ----

    def test_the_cluster_lives(self):
        self.open()
        self.b.js("location.hash = '#cluster'")
        self.b.wait("three nodes", "document.querySelectorAll('.stages .node').length === 3")
        self.expect("band", sorted(self.b.js("[...document.querySelectorAll('.seg-name')].map((e) => e.innerText)")),
                    sorted(NODES))
        self.expect("model", self.b.text("#cluster h1"), "shoal-demo-q8_0")
        self.expect("state", self.b.text("#cluster .pill"), "ready")
        stream, file = self.cluster.stream()
        self.b.wait("steps that move", "document.querySelectorAll('.dot').length > 0")
        self.b.wait("links", "[...document.querySelectorAll('.link span')].filter((e) => "
                    "/s$/.test(e.innerText)).length === 2")
        self.shot("cluster")
        file.close()
        stream.close()

    def test_a_gap_and_a_replica(self):
        """What a cluster shows that has lost a node, one of whose layers another has as well."""
        status = self.cluster.status()
        for m, state, (first, last) in zip(status["members"], ("idle", "away", "loading"), ((0, 2), (2, 4), (1, 3)),
                                           strict=True):
            held = {"layer_first": first, "layer_last": last} if state != "away" else {}
            m.update(state=state, trouble="its connection is gone" if state == "away" else "", **held)
        for name in ("layer_first", "layer_last"):
            del status["members"][1][name]
        status.update(state="waiting", text="layers 3-5 of 6 find no place", route=None)
        self.standin.script.status = status
        self.b.wait("the gap", "document.querySelectorAll('.seg.gap').length === 1")
        self.expect("gap", self.b.text(".seg.gap .seg-layers"), "3–5")
        self.expect("band", self.b.js("document.querySelector('.band-box').getAttribute('aria-label')"),
                    f"Where the layers are. layers 0–1: {status['members'][0]['name']}, standing; layers 1–2: "
                    f"{status['members'][2]['name']}, loading; layers 3–5: nobody.")
        self.b.wait("the alarm", "!document.querySelector('#alarm').hidden")
        assert "its connection is gone" in self.b.text(".nodes"), self.b.text(".nodes")
        self.shot("gap")
        self.b.js("location.hash = '#chat'")
        self.b.wait("the reason above the composer",
                    "document.querySelector('.strip').innerText === 'Layers 3-5 of 6 find no place.'")
        self.standin.script.status = None

    def test_a_node_that_leaves(self):
        self.b.js("location.hash = '#cluster'")
        self.b.wait("three again", "document.querySelectorAll('ol.stages .node').length === 3")
        self.cluster.nodes["bream"].stop()
        self.b.wait("its absence", "document.querySelectorAll('ol.stages .node').length === 2")
        assert "bream" in self.b.text("ul.stages") and "away" in self.b.text("ul.stages"), self.b.text("ul.stages")
        self.b.wait("no gap", "document.querySelectorAll('.seg.gap').length === 0")


def run(tests):
    for name in [n for n in vars(Tests) if n.startswith("test_")]:
        began = time.monotonic()
        getattr(tests, name)()
        tests.no_complaints()
        print(f"{name[5:].replace('_', ' ')}: well, {time.monotonic() - began:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shoal", required=True)
    parser.add_argument("--shots")
    options = parser.parse_args()
    program = chromium()
    if program is None:
        print("skipped: there is no Chromium here (Debian: chromium-headless-shell)")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(options.shoal, folder, "--nodes", len(NODES))
        browser = None
        try:
            for name in NODES:
                cluster.add_node(name)
            cluster.wait_ready(len(NODES))
            browser = Browser(program)
            browser.size(1280, 800)
            run(Tests(browser, cluster, StandIn(cluster.url), options.shots))
        finally:
            if browser:
                browser.close()
            cluster.stop()


if __name__ == "__main__":
    main()
