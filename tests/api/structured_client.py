#!/usr/bin/env python3
"""Ask `shoal serve`, and a cluster of three nodes, for answers of every form, and hold each against what was asked.

usage: structured_client.py --shoal BINARY --model FILE"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

try:
    import jsonschema
except ImportError:
    jsonschema = None

READY_SECONDS = 60
PERSON = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                           "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
                                           "born": {"type": "string", "format": "date"}},
          "required": ["name", "age", "tags", "born"], "additionalProperties": False}
GBNF = 'root ::= "the " ("cat" | "dog") " has " [1-9] " tails"'


class Server:
    """A server, or a whole cluster, on a port of its own choosing."""

    def __init__(self, command):
        self.process = subprocess.Popen(command + ["--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        timer = threading.Timer(READY_SECONDS, self.process.kill)
        timer.start()
        self.url = next((m.group(0) for m in (re.search(r"http://\S+/v1", line) for line in self.process.stdout) if m),
                        None)
        timer.cancel()
        assert self.url, "shoal serve ended before it was ready"

    def post(self, path, body):
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), kind)
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.read().decode()

    def ask(self, **fields):
        """The answer's text and why it ended."""
        body = {"messages": [{"role": "user", "content": "Tell me about Anna."}], "max_tokens": 300, **fields}
        choice = json.loads(self.post("/chat/completions", body))["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=30)


def check_schema(server):
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    for seed in range(6):
        text, why = server.ask(response_format=wanted, temperature=1.3 if seed else 0, seed=seed)
        person = json.loads(text)
        assert why == "stop" and list(person) == PERSON["required"], (text, why)
        assert 1 <= len(person["name"]) <= 12 and 0 <= person["age"] <= 150, text
        if jsonschema:
            jsonschema.validate(person, PERSON)


def check_others(server):
    fields = [({"grammar": GBNF}, r"the (cat|dog) has [1-9] tails"),
              ({"guided_regex": r"\d{3}-[a-f]{2,4}"}, r"\d{3}-[a-f]{2,4}"),
              ({"guided_choice": ["positive", "negative", "neutral"]}, r"positive|negative|neutral"),
              ({"structured_outputs": {"regex": "(ab|c){4}"}}, r"(ab|c){4}"),
              ({"guided_json": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}},
               r"\[\s*(true|false),\s*(true|false)\s*\]")]
    for asked, pattern in fields:
        for temperature in (0, 1.5):
            text, why = server.ask(temperature=temperature, seed=3, **asked)
            assert re.fullmatch(pattern, text) and why == "stop", (asked, text, why)
    text, why = server.ask(response_format={"type": "json_object"}, temperature=0, max_tokens=400)
    assert why == "stop" and isinstance(json.loads(text), dict), (text, why)
    text, why = server.ask(guided_regex="a{50}", max_tokens=2)
    assert why == "length" and re.fullmatch("a+", text), (text, why)  # cut, and it says so


def check_tight(server):
    """With few tokens, or hardly enough, the answer is whole all the same."""
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    for seed in range(8):
        text, why = server.ask(response_format=wanted, temperature=1.3 if seed else 0, seed=seed, max_tokens=40 + seed)
        assert why == "stop" and list(json.loads(text)) == PERSON["required"], (text, why)
        if jsonschema:
            jsonschema.validate(json.loads(text), PERSON)
    endless = {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2}, "minItems": 60}
    for temperature in (0, 1):
        text, why = server.ask(guided_json=endless, temperature=temperature, max_tokens=500)
        assert why == "stop" and len(json.loads(text)) >= 60, (text, why)


def check_stream_and_choices(server):
    body = {"messages": [{"role": "user", "content": "Hi"}], "guided_regex": "(x|yz){6}", "stream": True,
            "temperature": 1, "max_tokens": 50}
    events = [json.loads(line[6:]) for line in server.post("/chat/completions", body).splitlines()
              if line.startswith("data: {")]
    text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
    assert re.fullmatch("(x|yz){6}", text), text
    body = {"prompt": ["one", "two"], "n": 3, "guided_choice": ["left", "right"], "temperature": 2, "logprobs": 2,
            "presence_penalty": 1, "max_tokens": 20}
    choices = json.loads(server.post("/completions", body))["choices"]
    assert len(choices) == 6 and all(c["text"] in ("left", "right") for c in choices), choices
    assert all(c["finish_reason"] == "stop" and c["logprobs"]["tokens"] for c in choices), choices


def check_refusals(server):
    for fields, says in [({"grammar": "root ::= root"}, "begins with itself"),
                         ({"guided_regex": "(a)\\1"}, "back references"),
                         ({"guided_json": {"type": "array", "uniqueItems": True}}, "uniqueItems")]:
        try:
            server.ask(**fields)
        except urllib.error.HTTPError as e:
            error = json.loads(e.read())["error"]
            assert e.code == 400 and says in error["message"] and error["param"] in fields, error
            continue
        raise AssertionError(f"{fields} was not refused")


def check_many_at_once(server):
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answers = []

    def ask(seed):
        answers.append(server.ask(response_format=wanted, temperature=1, seed=seed))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 8 and all(why == "stop" and json.loads(text)["age"] <= 150 for text, why in answers), answers


def run(command, checks):
    server = Server(command)
    try:
        for check in checks:
            check(server)
    finally:
        status = server.stop()
    assert status == 0, f"{command[1]} ended with {status}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run([options.shoal, "serve", options.model, "--state-dir", folder + "/state"],
            (check_schema, check_others, check_tight, check_stream_and_choices, check_refusals, check_many_at_once))
        run([options.shoal, "up", options.model, "--nodes", "3", "--state-dir", folder + "/state", "--cache-dir",
             folder + "/cache"], (check_schema, check_others, check_many_at_once))
    print("every form of answer: all well" + ("" if jsonschema else " (without jsonschema)"))


if __name__ == "__main__":
    sys.exit(main())
