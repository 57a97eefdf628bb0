#!/usr/bin/env python3
"""Drive `shoal serve` with the unmodified openai package: models, chats, streams, usage, errors.

usage: openai_client.py --shoal BINARY --model FILE --venv DIR
The package is installed into a virtual environment at DIR; without a package index the test is skipped (77)."""
import argparse
import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SKIPPED = 77
READY_SECONDS = 60
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def into_venv(folder, package="openai"):
    """Go on in a Python that has the package."""
    python = pathlib.Path(folder).resolve() / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == python.parent.parent:
        return
    has = [str(python), "-c", f"import {package}"]
    if not python.exists() or subprocess.run(has, capture_output=True).returncode != 0:
        if subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True).returncode != 0:
            skip("this Python has no venv module")
        install = [str(python), "-m", "pip", "install", "--quiet", "--timeout", "20", "--retries", "1", package]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            skip(f"pip could not install {package}: {done.stderr.strip().splitlines()[-1:]}")
    os.execv(python, [str(python)] + sys.argv)


class Server:
    """`shoal serve` on a port of its own choosing."""

    def __init__(self, shoal, model, *more):
        self.state = tempfile.TemporaryDirectory()  # no keys of the user's
        command = [shoal, "serve", model, "--port", "0", "--state-dir", self.state.name, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        timer = threading.Timer(READY_SECONDS, self.process.kill)
        timer.start()
        self.url = self.read_url()
        timer.cancel()

    def read_url(self):
        for line in self.process.stdout:
            found = re.search(r"http://\S+/v1", line)
            if found:
                return found.group(0)
        raise SystemExit(f"shoal serve ended ({self.process.wait()}) before it was ready")

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=30)


def check_models(client):
    models = client.models.list().data
    assert len(models) == 1 and models[0].object == "model" and models[0].created > 0, models
    assert client.models.retrieve(models[0].id).id == models[0].id
    return models[0].id


def simple_questions(answers):
    """One-turn prompts of the model's card whose answer the quantised file gives as well."""
    turn = re.compile(r"<\|im_start\|>user\n([^<]*)<\|im_end\|>\n<\|im_start\|>assistant\n")
    for row in json.loads(answers.read_text()):
        found = turn.fullmatch(row["prompt"])
        if found and row["same_in_llama_cpp"]["q8_0"]:
            yield found.group(1), row


def check_answers(client, model, answers):
    asked = 0
    for question, row in simple_questions(answers):
        reply = client.chat.completions.create(model=model, temperature=0, max_tokens=row["max_tokens"],
                                               messages=[{"role": "user", "content": question}])
        choice = reply.choices[0]
        assert choice.message.content == row["answer"], (question, choice.message.content)
        assert choice.message.role == "assistant" and choice.finish_reason == "stop", choice
        assert reply.usage.prompt_tokens == len(row["prompt_tokens"]), (question, reply.usage)
        assert reply.usage.completion_tokens == len(row["answer_tokens"]) + 1, (question, reply.usage)
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        asked += 1
    assert asked >= 15, asked


def check_raw_prompts(client, model, answers):
    row = next(iter(simple_questions(answers)))[1]
    for prompt in (row["prompt"], row["prompt_tokens"]):
        reply = client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=64)
        assert reply.object == "text_completion" and reply.choices[0].text == row["answer"], reply
    both = client.completions.create(model=model, prompt=[row["prompt"], row["prompt"]], temperature=0, max_tokens=3,
                                     logprobs=2, echo=True)
    assert [c.index for c in both.choices] == [0, 1]
    for choice in both.choices:
        assert choice.text.startswith(row["prompt"]) and choice.finish_reason == "length", choice
        known = choice.logprobs.token_logprobs[1:]
        assert choice.logprobs.token_logprobs[0] is None and all(p <= 1e-4 for p in known), choice.logprobs
        assert len(choice.logprobs.tokens) == len(row["prompt_tokens"]) + 3


def check_completions(client, model, openai):
    """Batches of ids, the best of several, and a suffix, for which this model has no tokens."""
    ask = client.completions.create
    batch = ask(model=model, prompt=[[84, 111], [97]], temperature=0, max_tokens=2)
    assert [c.index for c in batch.choices] == [0, 1] and batch.usage.prompt_tokens == 3, batch
    kept = ask(model=model, prompt="ROMEO:\n", temperature=1.2, seed=5, max_tokens=6, n=1, best_of=4, logprobs=0)
    made = ask(model=model, prompt="ROMEO:\n", temperature=1.2, seed=5, max_tokens=6, n=4, logprobs=0)

    def mean(choice):
        known = choice.logprobs.token_logprobs
        return sum(known) / len(known)

    best = max(made.choices, key=mean)
    assert len(kept.choices) == 1 and kept.choices[0].text == best.text, (kept, made)
    assert kept.usage.completion_tokens == made.usage.completion_tokens, (kept.usage, made.usage)
    for more in ({"suffix": "end"}, {"best_of": 2, "stream": True}):
        try:
            ask(model=model, prompt="a", **more)
            raise AssertionError(f"{more} was not refused")
        except openai.BadRequestError as e:
            assert e.param == next(iter(more)), e


def check_embeddings(client, model, openai):
    """The package asks for base64 when it is told nothing, and decodes it itself."""
    texts = ["The cat sleeps.", "A dog barks at the moon.", "x"]
    reply = client.embeddings.create(model=model, input=texts)
    vectors = [d.embedding for d in reply.data]
    assert [d.index for d in reply.data] == [0, 1, 2] and reply.object == "list" and reply.model == model, reply
    assert all(len(v) == 256 and abs(sum(x * x for x in v) - 1) < 1e-5 for v in vectors), vectors

    def apart(a, b):
        return max(abs(x - y) for x, y in zip(a, b, strict=True))

    total = 0
    for text, vector in zip(texts, vectors):
        one = client.embeddings.create(model=model, input=text, encoding_format="float")
        assert apart(one.data[0].embedding, vector) < 1e-6, text
        assert one.usage.prompt_tokens == one.usage.total_tokens > 0, one.usage
        total += one.usage.total_tokens
    assert reply.usage.total_tokens == total and apart(vectors[0], vectors[1]) > 1e-2, (reply.usage, total)
    short = client.embeddings.create(model=model, input=texts[0], dimensions=64).data[0].embedding
    length = sum(x * x for x in vectors[0][:64]) ** 0.5
    assert apart(short, [x / length for x in vectors[0][:64]]) < 1e-5, short
    ids = client.embeddings.create(model=model, input=[[84, 111], [97], [84, 111]]).data
    assert apart(ids[0].embedding, ids[2].embedding) < 1e-6 and apart(ids[0].embedding, ids[1].embedding) > 1e-3
    for bad, param, code in (({"input": "word " * 5000}, "input", "context_length_exceeded"), ({"input": []}, "input", None),
                             ({"input": "a", "dimensions": 257}, "dimensions", None)):
        try:
            client.embeddings.create(model=model, **bad)
            raise AssertionError(f"{param} was not refused")
        except openai.BadRequestError as e:
            assert (e.param, e.code) == (param, code), e


def check_stream(client, model):
    text, roles, reasons, usage = "", 0, [], None
    stream = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, stream=True,
                                            stream_options={"include_usage": True})
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            roles += choice.delta.role is not None
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert (text, roles, reasons) == (ANSWER, 1, ["stop"]), (text, roles, reasons)
    assert usage.completion_tokens > 5 and usage.prompt_tokens > 5, usage
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0) as helper:
        kinds = {event.type for event in helper}
        final = helper.get_final_completion()
    assert final.choices[0].message.content == ANSWER and "content.delta" in kinds, (final, kinds)
    text = "".join(c.choices[0].text for c in client.completions.create(model=model, prompt="ROMEO:\n", temperature=0,
                                                                        max_tokens=12, stream=True))
    assert text.startswith("I'll tell thee"), text


def check_parameters(client, model):
    ask = client.chat.completions.create
    reply = ask(model=model, messages=QUESTION, temperature=0, n=3, stop=["of Fra", "zzz"])
    assert [c.message.content for c in reply.choices] == ["The capital "] * 3, reply
    reply = ask(model=model, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3, max_tokens=4)
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == 4 and reply.choices[0].finish_reason == "length", reply
    assert "".join(t.token for t in tokens) == reply.choices[0].message.content, reply
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token and len(token.top_logprobs) == 3, token
        assert token.top_logprobs[0].logprob == token.logprob >= token.top_logprobs[1].logprob, token
    story = [{"role": "user", "content": "Tell me a short story about a fox."}]
    same = [ask(model=model, messages=story, temperature=1.5, seed=7, max_tokens=40).choices[0].message.content
            for _ in range(2)]
    other = ask(model=model, messages=story, temperature=1.5, seed=8, max_tokens=40).choices[0].message.content
    assert same[0] == same[1] != other, (same, other)
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    assert ask(model=model, messages=parts, temperature=0).choices[0].message.content == ANSWER


def check_parse(client, model):
    """The package's own way to a schema: a class, whose answer is read back into it."""
    import pydantic

    class Town(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        people: int
        nickname: str | None = pydantic.Field(max_length=10)

    reply = client.chat.completions.parse(model=model, messages=QUESTION, temperature=0, response_format=Town,
                                          max_tokens=200)
    assert isinstance(reply.choices[0].message.parsed, Town), reply
    reply = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=200,
                                           extra_body={"guided_choice": ["Paris", "Rome"]})
    assert reply.choices[0].message.content in ("Paris", "Rome"), reply


def check_errors(client, model, openai):
    def refused(kind, code=None, param=None, **arguments):
        try:
            client.chat.completions.create(**{"model": model, "messages": QUESTION, **arguments})
        except kind as e:
            assert type(e) is kind and e.message, e
            assert (code is None or e.code == code) and (param is None or e.param == param), (e.code, e.param)
            return
        raise AssertionError(f"{arguments} was not refused")

    refused(openai.BadRequestError, temperature=3, param="temperature")
    refused(openai.BadRequestError, messages=[], param="messages")
    refused(openai.BadRequestError, response_format={"type": "json_schema"}, param="response_format")
    refused(openai.BadRequestError, code="context_length_exceeded",
            messages=[{"role": "user", "content": "word " * 5000}])
    refused(openai.NotFoundError, model="gpt-unknown", code="model_not_found")
    try:
        client.models.retrieve("gpt-unknown")
        raise AssertionError("an unknown model was found")
    except openai.NotFoundError:
        pass
    assert client.chat.completions.with_raw_response.create(model=model, messages=QUESTION,
                                                            max_tokens=1).headers["x-request-id"]


async def check_many_at_once(openai, url, model):
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    ask = client.chat.completions.create
    replies = await asyncio.gather(*(ask(model=model, messages=QUESTION, temperature=0) for _ in range(8)))
    assert all(r.choices[0].message.content == ANSWER for r in replies), replies
    await client.close()


def check_leaving(client, model, url):
    stream = client.chat.completions.create(model=model, stream=True, temperature=1.2, extra_body={"ignore_eos": True},
                                            messages=QUESTION, max_tokens=1500)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        metrics = urllib.request.urlopen(url.replace("/v1", "/metrics")).read().decode()
        values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
        if values["shoal_requests_cancelled_total"] != "0" and values["shoal_requests_running"] == "0":
            return
        time.sleep(0.1)
    raise AssertionError(f"the request of a client that left still runs:\n{metrics}")


def check_all(url, answers):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120)
    model = check_models(client)
    check_answers(client, model, answers)
    check_raw_prompts(client, model, answers)
    check_completions(client, model, openai)
    check_embeddings(client, model, openai)
    check_stream(client, model)
    check_parameters(client, model)
    check_parse(client, model)
    check_errors(client, model, openai)
    asyncio.run(check_many_at_once(openai, url, model))
    check_leaving(client, model, url)
    print(f"openai {openai.__version__}: all well")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv)
    server = Server(options.shoal, options.model)
    try:
        check_all(server.url, pathlib.Path(options.model).parent / "answers.json")
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"


if __name__ == "__main__":
    main()
