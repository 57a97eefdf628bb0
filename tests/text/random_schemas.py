#!/usr/bin/env python3
"""Random JSON schemas, a random answer to each by random_answers, and python-jsonschema's word on it.

usage: random_schemas.py RANDOM_ANSWERS VOCABULARY.gguf [COUNT [SEED]]
Every answer must be valid and whole, also with no more tokens than are enough; a schema of these may not be refused. Skipped (77) without jsonschema."""
import json
import random
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("skipped: this Python has no jsonschema")
    sys.exit(77)

WORDS = ["name", "id", "zürich", "a b", "quote\"d", "x", "count", "tags", "päth/√", "null", "_", "na", "names"]
PATTERNS = ["^[a-z]{2,5}$", "^\\d{3}-\\d{4}$", "^(foo|bar)+$", "o\\w", "^[^\"]*\\n?$", "\\.$",
            "^(\\(\\d{3}\\))?x\\\\y$"]
FORMATS = ["date", "time", "date-time", "duration", "uuid", "email", "hostname", "ipv4", "ipv6", "uri"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def scalar_value(self):
        return self.r.choice([None, True, False, 0, -7, 2.5, 1e20, "", "päth", "a\"b\\c\n", 12345])

    def string(self, depth):
        kind = self.r.randrange(5)
        if kind == 0:
            return {"type": "string", "pattern": self.r.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self.r.choice(FORMATS)}
        if kind == 2:
            low = self.r.randrange(6)
            return {"type": "string", "minLength": low, "maxLength": low + self.r.choice([0, 1, 7, 300])}
        return {"type": "string"}

    def bound(self, whole):
        v = self.r.choice([self.r.randrange(-20, 20), self.r.randrange(-10**6, 10**6), 0])
        return v if whole else round(v + self.r.choice([0, 0.5, 0.125, 0.3, -0.07]), 3)

    def number(self, depth):
        whole = self.r.random() < 0.5
        s = {"type": "integer" if whole else "number"}
        low = self.bound(whole and self.r.random() < 0.8)
        high = low + self.r.choice([2, 3, 9.5, 1000, 10**7])
        if self.r.random() < 0.6:
            s[self.r.choice(["minimum", "exclusiveMinimum"])] = low
        if self.r.random() < 0.6:
            s[self.r.choice(["maximum", "exclusiveMaximum"])] = high
        if len(s) == 3 and not whole and self.r.random() < 0.5 and high - low < 100:
            s["multipleOf"] = self.r.choice([0.5, 0.1, 0.01, 1.5])
        if len(s) == 1 and self.r.random() < 0.4:
            s["multipleOf"] = self.r.choice([1, 2, 3, 7, 10, 25])
        return s

    def array(self, depth):
        s = {"type": "array"}
        if self.r.random() < 0.3:
            s["prefixItems"] = [self.schema(depth + 1) for _ in range(self.r.randrange(1, 4))]
        if self.r.random() < 0.7:
            s["items"] = self.schema(depth + 1)
        if self.r.random() < 0.5:
            s["minItems"] = self.r.randrange(3)
        if self.r.random() < 0.5:
            s["maxItems"] = s.get("minItems", 0) + self.r.randrange(4)
        if s.get("prefixItems") and self.r.random() < 0.3:
            s["items"] = False
            s.pop("minItems", None)
        return s

    def object(self, depth):
        names = self.r.sample(WORDS, self.r.randrange(6))
        s = {"type": "object", "properties": {n: self.schema(depth + 1) for n in names}}
        s["required"] = [n for n in names if self.r.random() < 0.5]
        kind = self.r.randrange(4)
        if kind == 0:
            s["additionalProperties"] = False
        elif kind == 1:
            s["additionalProperties"] = self.schema(depth + 2)
        if self.r.random() < 0.2:
            s["minProperties"] = 1
            if kind == 0 and not names:
                del s["minProperties"]
        return s

    def choice(self, depth):
        kind = self.r.randrange(4)
        if kind == 0:
            return {"anyOf": [self.schema(depth + 1) for _ in range(self.r.randrange(1, 4))]}
        if kind == 1:
            tag = self.r.sample(["cat", "dog", "eel"], 2)
            return {"oneOf": [{"type": "object", "properties": {"kind": {"const": t}, "v": self.schema(depth + 1)},
                               "required": ["kind"]} for t in tag]}
        if kind == 2:
            return {"type": [self.r.choice(["string", "integer", "boolean"]), "null"]}
        return {"allOf": [{"type": "object", "properties": {"a": self.schema(depth + 1)}, "required": ["a"]},
                          {"properties": {"b": {"type": "integer", "minimum": 3}}},
                          {"properties": {"b": {"maximum": 8}}, "required": ["b"]}]}

    def constant(self, depth):
        if self.r.random() < 0.4:
            return {"const": self.scalar_value()}
        return {"enum": [self.scalar_value() for _ in range(self.r.randrange(1, 6))] + [{"x": [1, "y"]}]}

    def schema(self, depth=0):
        simple = [self.string, self.number, self.constant, lambda d: {"type": "boolean"},
                  lambda d: {"$ref": "#/$defs/t"}]
        nested = [self.object, self.object, self.array, self.choice]
        if depth == 0:
            return self.r.choice(nested)(depth)
        return self.r.choice(simple if depth > 3 or self.r.random() < 0.5 else nested)(depth)

    def whole(self):
        s = self.schema()
        s["$defs"] = {"t": self.r.choice([
            {"type": "object",
             "properties": {"v": self.number(9), "next": {"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]}},
             "required": ["v", "next"], "additionalProperties": False},
            {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2},
            {"type": "string", "maxLength": 12}])}
        return s


def main():
    tool, vocabulary = sys.argv[1:3]
    count, seed = (int(a) for a in (sys.argv[3:] + ["200", "1"][len(sys.argv) - 3:]))
    maker = Maker(seed)
    schemas = [maker.whole() for _ in range(count)]
    bad = sum(judge([tool, vocabulary, str(seed), *how], schemas) for how in ([], ["tight"]))
    return 1 if bad else 0


def judge(command, schemas):
    """How many answers are none."""
    lines = "".join(json.dumps(s) + "\n" for s in schemas)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    bad, longest = 0, 0
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for schema, line in zip(schemas, done.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        try:
            text = answer["answer"]
            jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
            longest = max(longest, len(text))
        except (KeyError, ValueError, jsonschema.ValidationError) as e:
            bad += 1
            print(f"schema {json.dumps(schema)}\nanswer {json.dumps(answer)[:2000]}")
            print(f"{type(e).__name__}: {str(e)[:300]}\n")
    print(f"{len(schemas)} schemas, {bad} bad answers, the longest of {longest} characters")
    return bad


if __name__ == "__main__":
    sys.exit(main())
