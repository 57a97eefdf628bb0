#!/usr/bin/env python3
"""Hold /openapi.json to what the server does: every documented example is sent, every answer must be valid by its
schema and have no field that the schema does not name, every refusal must be the documented error.

usage: openapi_check.py RIG_SERVER"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator

sys.path.insert(0, "tests/pull")
import hub as hubs

ADMIN = "0123456789abcdef"
MODEL = "org/demo:q8"
RIG_FILE = "tests/data/shoal-demo-q8_0.gguf"


def call(port, method, path, body=None):
    """Status, media type and bytes."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method)
    request.add_header("Authorization", f"Bearer {ADMIN}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers.get_content_type(), refusal.read()


def closed(schema):
    """The same, but what an object does not name it may not have."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema and "allOf" not in schema:
        out.setdefault("additionalProperties", False)
    return out


class Document:
    def __init__(self, port):
        self.port = port
        status, _, body = call(port, "GET", "/openapi.json")
        assert status == 200, body
        self.json = json.loads(body)
        for name, schema in self.json["components"]["schemas"].items():
            Draft202012Validator.check_schema(schema), name
        self.strict = {"schemas": closed(self.json["components"]["schemas"])}

    def check(self, schema, value, where):
        problems = list(Draft202012Validator({**schema, "components": self.strict}).iter_errors(value))
        assert not problems, f"{where}: {problems[0].message} at {list(problems[0].absolute_path)}\n{value}"

    def examples(self, operation):
        if "requestBody" not in operation:
            return [None]
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = self.json["components"]["schemas"][reference.rsplit("/", 1)[1]]
        for example in schema["examples"]:
            whole = {**schema, "components": self.json["components"]}
            assert Draft202012Validator(whole).is_valid(example), (reference, example)
        return schema["examples"]

    def ask(self, where, method, path, operation, media, schema, body):
        streams = len(operation["responses"]["200"]["content"]) > 1
        if streams:
            body = {**body, "stream": media != "application/json"}
        status, kind, answer = call(self.port, method, path, body)
        if status == 501:  # this model cannot do it
            refusal = operation["responses"]["default"]["content"]["application/json"]["schema"]
            self.check(refusal, json.loads(answer), where)
            return
        assert status == 200 and kind == media, f"{where}: {status} {kind}\n{answer[:2000]}"
        if media == "application/json":
            self.check(schema, json.loads(answer), where)
        elif streams:
            events = list(events_of(media, answer))
            assert len(events) > 1, (where, answer)
            for event in events:
                self.check(schema, event, where)

    def known(self, path):
        """The id of something that is there."""
        if "responses" not in path:
            return MODEL
        return json.loads(call(self.port, "POST", "/v1/responses", {"input": "Hello!"})[2])["id"]

    def operation(self, method, path, operation):
        where = f"{method} {path}"
        assert operation["summary"].endswith("."), where
        if "{id}" in path:
            path = path.replace("{id}", self.known(path))
        for body in self.examples(operation):
            for media, content in operation["responses"]["200"]["content"].items():
                self.ask(where, method, path, operation, media, content["schema"], body)
        if method == "POST" and operation["requestBody"]["required"]:
            status, kind, answer = call(self.port, method, path, b"{]")
            assert 400 <= status < 500 and kind == "application/json", (where, status, answer)
            refusal = operation["responses"]["default"]["content"]["application/json"]["schema"]
            self.check(refusal, json.loads(answer), where)
        return 1


def events_of(media, answer):
    for line in answer.decode().split("\n"):
        if media == "application/x-ndjson" and line:
            yield json.loads(line)
        elif line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def main():
    hub = hubs.Hub({"org/demo-GGUF": {"demo-Q8_0.gguf": pathlib.Path(RIG_FILE).read_bytes()}})
    with tempfile.TemporaryDirectory() as store:
        check(dict(os.environ, SHOAL_HUB=hub.url(), SHOAL_MODELS_DIR=store))
    hub.close()


def check(environment):
    rig = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    document = Document(int(rig.stdout.readline()))
    done = sum(document.operation(method.upper(), path, operation)
               for path, item in document.json["paths"].items() for method, operation in item.items())
    assert done >= 20, done
    rig.stdin.close()
    assert rig.wait(timeout=20) == 0
    print(f"{done} operations are as they are described")


if __name__ == "__main__":
    main()
