"""Train a small tokenizer of each kind with the `tokenizers` library and record its ids.

usage: make.py FOLDER   (pip install tokenizers; the text is this repository's own)
"""
import glob
import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
BYTES = ["<0x%02X>" % i for i in range(256)]
SPECIAL = ["<unk>", "<s>", "</s>"]
CASES = ["", " ", "a", "Hello world", " Hello  world ", "the the\n\nthe\tthe", "don't DON'T", "1234567 3.14", "  x   y    z",
         "caf\u00e9 cafe\u0301", "\u4e2d\u6587\u6d4b\u8bd5", "\U0001F600\U0001F44D", "<s>a</s> b", "a<x>b <y> c", "\u00a0\u3000x",
         "\u1E9B\u0323 \ufb01 \u2460", "int main(void)\n{\n    return 0;\n}\n", "\uac00\u1100\u1161\u11a8", "x" * 40, "\n" * 9]


def corpus():
    text = []
    for path in sorted(glob.glob("text/*.c") + glob.glob("base/*.h") + ["README.md"]):
        text += open(path, encoding="utf-8").read().split("\n\n")
    return text


def add(tokenizer):
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken("<x>", normalized=False), AddedToken("<y>", normalized=False, lstrip=True, rstrip=True)])
    return tokenizer


def around(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def byte_level():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=700, show_progress=False,
                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return add(t)


def digits():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(r"[aeiou]{2,}"), "merged_with_next"),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, show_progress=False,
                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return around(add(t))


def byte_fallback(llama):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = (normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]) if llama
                    else normalizers.Replace(" ", "\u2581"))
    if not llama:
        t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.train_from_iterator((w for s in corpus() for w in s.replace(" ", "\n ").split("\n")), trainers.BpeTrainer(
        vocab_size=800, show_progress=False, special_tokens=SPECIAL + BYTES))
    # The trainer makes the byte tokens special; in files that models come with they are none.
    d = json.loads(t.to_str())
    d["added_tokens"] = [a for a in d["added_tokens"] if a["content"] in SPECIAL]
    return around(add(Tokenizer.from_str(json.dumps(d))))


def unigram(scheme, fallback):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=700, show_progress=False, unk_token="<unk>",
                          special_tokens=SPECIAL + (BYTES if fallback else [])))
    d = json.loads(t.to_str())
    d["model"]["byte_fallback"] = fallback
    d["added_tokens"] = [a for a in d["added_tokens"] if a["content"] in SPECIAL]
    return around(add(Tokenizer.from_str(json.dumps(d))))


def random_cases(r, n):
    parts = list("abcdefgh ijklmnop\n\t 0123ABC.,;(){}") + ["\u00e9", "\u4e2d", "the ", " return ", "  ", "<x>", "\U0001F600"]
    return ["".join(r.choice(parts) for _ in range(r.randrange(60))) for _ in range(n)]


def main(folder):
    kinds = {"byte-level": byte_level(), "digits": digits(), "llama": byte_fallback(True), "gemma": byte_fallback(False),
             "unigram-always": unigram("always", False), "unigram-first": unigram("first", True)}
    for name, t in kinds.items():
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        with open(os.path.join(folder, name, "tokenizer.json"), "w") as f:
            json.dump(json.loads(t.to_str()), f, separators=(",", ":"))
        with open(os.path.join(folder, name, "vectors.json"), "w") as f:
            texts = CASES + random_cases(random.Random(1), 60)
            json.dump([{"text": s, "ids": t.encode(s).ids} for s in texts], f, separators=(",", ":"))
            f.write("\n")


main(sys.argv[1])
