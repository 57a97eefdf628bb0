#!/usr/bin/env python3
"""Drive `shoal serve` with the unmodified ollama package: models, chats, streams, forms, errors.

usage: ollama_client.py --shoal BINARY --model FILE --venv DIR
The package is installed into a virtual environment at DIR; without a package index the test is skipped (77)."""
import argparse
import asyncio
import json

from openai_client import ANSWER, QUESTION, Server, into_venv

GREEDY = {"temperature": 0}


def check_models(client):
    models = client.list().models
    assert len(models) == 1 and models[0].model == "shoal-demo-q8_0:latest" and models[0].size > 10_000_000, models
    assert models[0].modified_at.year > 2020 and len(models[0].digest) == 64, models
    assert models[0].details.quantization_level == "Q8_0" and models[0].details.format == "gguf", models
    loaded = client.ps().models
    assert [m.model for m in loaded] == ["shoal-demo-q8_0:latest"] and loaded[0].context_length == 2048, loaded
    shown = client.show(models[0].model)
    assert shown.modelinfo["general.architecture"] == "qwen3moe" and "completion" in shown.capabilities, shown
    assert "<|im_start|>" in shown.template and shown.details.family == "qwen3moe", shown
    return models[0].model


def check_chat(client, model):
    for name in (model, "shoal-demo-q8_0"):
        reply = client.chat(name, QUESTION, options=GREEDY)
        assert reply.message.content == ANSWER and reply.message.role == "assistant", reply
        assert reply.done and reply.done_reason == "stop" and reply.model == name, reply
        assert reply.eval_count > 5 and reply.prompt_eval_count > 5 and reply.total_duration > 0, reply
        assert reply.total_duration >= reply.eval_duration >= 0 and reply.created_at.endswith("Z"), reply
    parts = list(client.chat(model, QUESTION, options=GREEDY, stream=True))
    assert "".join(p.message.content for p in parts) == ANSWER and len(parts) > 3, parts
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True], parts
    assert parts[-1].eval_count == reply.eval_count and parts[-1].done_reason == "stop", parts[-1]
    reply = client.chat(model, QUESTION, options={**GREEDY, "num_predict": 3}, logprobs=True, top_logprobs=2)
    assert reply.done_reason == "length" and reply.eval_count == 3 and len(reply.logprobs) == 3, reply
    assert "".join(t.token for t in reply.logprobs) == reply.message.content, reply
    reply = client.chat(model, QUESTION, options={**GREEDY, "stop": ["of Fra"]})
    assert reply.message.content == "The capital ", reply


def check_generate(client, model):
    assert client.generate(model, QUESTION[0]["content"], options=GREEDY).response == ANSWER
    parts = list(client.generate(model, QUESTION[0]["content"], options=GREEDY, stream=True))
    assert "".join(p.response for p in parts) == ANSWER and parts[-1].done, parts
    raw = client.generate(model, "ROMEO:\n", raw=True, options={**GREEDY, "num_predict": 12})
    assert raw.response.startswith("I'll tell thee") and raw.done_reason == "length", raw
    assert client.generate(model, "").done_reason == "load"
    assert client.generate(model, "", keep_alive=0).done_reason == "unload"
    story = [client.generate(model, "Tell me a short story about a fox.",
                             options={"seed": seed, "temperature": 1.5, "num_predict": 40}).response
             for seed in (7, 7, 8)]
    assert story[0] == story[1] != story[2], story


def check_forms(client, model):
    import pydantic

    class Town(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        people: int

    reply = client.chat(model, QUESTION, format=Town.model_json_schema(), options={**GREEDY, "num_predict": 200})
    Town.model_validate_json(reply.message.content)
    reply = client.generate(model, QUESTION[0]["content"], format="json", options={"num_predict": 200, "seed": 3})
    assert reply.done_reason == "length" or isinstance(json.loads(reply.response), dict), reply


def check_vectors(client, model):
    both = client.embed(model, ["The cat sleeps.", "A cat is asleep."])
    assert len(both.embeddings) == 2 and both.prompt_eval_count > 4, both
    for vector in both.embeddings:
        assert len(vector) == 256 and abs(sum(v * v for v in vector) - 1) < 1e-4, vector
    one = client.embed(model, "The cat sleeps.", dimensions=16).embeddings
    assert len(one) == 1 and len(one[0]) == 16, one
    old = client.embeddings(model, "The cat sleeps.").embedding
    assert max(abs(a - b) for a, b in zip(old, both.embeddings[0], strict=True)) < 1e-3, old


def check_errors(client, model, ollama):
    def refused(status, part, call):
        try:
            call()
        except ollama.ResponseError as e:
            assert e.status_code == status and part in e.error, e
            return
        raise AssertionError(f"no refusal that says {part}")

    refused(404, "model 'llama3.2' not found", lambda: client.chat("llama3.2", QUESTION))
    refused(404, "model 'llama3.2' not found", lambda: client.show("llama3.2"))
    refused(404, "model 'llama3.2' not found", lambda: next(iter(client.chat("llama3.2", QUESTION, stream=True))))
    refused(400, "top_p", lambda: client.chat(model, QUESTION, options={"top_p": 7.0}))
    refused(400, "maximum context length", lambda: client.generate(model, "word " * 5000))


async def check_many_at_once(ollama, host, model):
    client = ollama.AsyncClient(host=host)
    replies = await asyncio.gather(*(client.chat(model, QUESTION, options=GREEDY) for _ in range(6)))
    assert all(r.message.content == ANSWER for r in replies), replies


def check_all(host):
    import ollama
    client = ollama.Client(host=host)
    model = check_models(client)
    check_chat(client, model)
    check_generate(client, model)
    check_forms(client, model)
    check_vectors(client, model)
    check_errors(client, model, ollama)
    asyncio.run(check_many_at_once(ollama, host, model))
    print("ollama: all well")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv, "ollama")
    server = Server(options.shoal, options.model)
    try:
        check_all(server.url.removesuffix("/v1"))
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"


if __name__ == "__main__":
    main()
