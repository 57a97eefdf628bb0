#!/usr/bin/env python3
"""Drive `shoal serve` with the openai package's Responses API: answers, streams, forms, functions, counts, errors.

usage: responses_client.py --shoal BINARY --model FILE --venv DIR
The package is installed into a virtual environment at DIR; without a package index the test is skipped (77)."""
import argparse
import asyncio
import json

from openai_client import ANSWER, QUESTION, Server, into_venv

MODEL = "shoal-demo-q8_0"
TEXT = QUESTION[0]["content"]


def check_answers(client):
    answer = client.responses.create(model=MODEL, input=TEXT, temperature=0)
    assert answer.output_text == ANSWER and answer.status == "completed" and answer.id.startswith("resp_"), answer
    assert [item.type for item in answer.output] == ["message"] and answer.error is None, answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 10, answer.usage
    items = [*QUESTION, *answer.output, {"role": "user", "content": [{"type": "input_text", "text": "And of Italy?"}]}]
    longer = client.responses.create(model=MODEL, input=items, instructions="Be brief.", temperature=0)
    assert longer.usage.input_tokens > answer.usage.total_tokens and longer.instructions == "Be brief.", longer
    cut = client.responses.create(model=MODEL, input=TEXT, temperature=0, max_output_tokens=3, top_logprobs=2,
                                  include=["message.output_text.logprobs"])
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut
    logprobs = cut.output[0].content[0].logprobs
    assert len(logprobs) == 3 and "".join(t.token for t in logprobs) == cut.output_text, cut
    assert all(len(t.top_logprobs) == 2 for t in logprobs), logprobs
    return answer


def check_going_on(client, answer):
    more = client.responses.create(model=MODEL, input="And of Italy?", previous_response_id=answer.id, temperature=0)
    assert more.previous_response_id == answer.id, more
    whole = [*QUESTION, *answer.output, {"role": "user", "content": "And of Italy?"}]
    assert client.responses.input_tokens.count(model=MODEL, input=whole).input_tokens == more.usage.input_tokens, more
    assert client.responses.retrieve(more.id) == more
    client.responses.delete(more.id)


def check_streams(client, answer):
    events = list(client.responses.create(model=MODEL, input=TEXT, temperature=0, stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events))), events
    kinds = [e.type.removeprefix("response.") for e in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"], kinds
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"], kinds
    assert set(kinds[4:-4]) == {"output_text.delta"} and len(kinds) > 10, kinds
    assert "".join(e.delta for e in events[4:-4]) == ANSWER == events[-1].response.output_text, events
    assert events[-1].response.usage == answer.usage, (events[-1].response.usage, answer.usage)
    with client.responses.stream(model=MODEL, input=TEXT, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == ANSWER == final.output_text, (text, final)


def check_forms(client):
    import pydantic

    class Town(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        people: int

    answer = client.responses.parse(model=MODEL, input=TEXT, temperature=0, text_format=Town, max_output_tokens=200)
    assert isinstance(answer.output_parsed, Town), answer
    with client.responses.stream(model=MODEL, input=TEXT, temperature=0, text_format=Town,
                                 max_output_tokens=200) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed == answer.output_parsed


def function(name, description, **properties):
    return {"type": "function", "name": name, "description": description, "strict": False,
            "parameters": {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()},
                           "required": list(properties)}}


TOOLS = [function("get_weather", "Get the weather in a city", city="string"),
         function("get_time", "Get the time in a city", city="string"),
         function("add_numbers", "Add two numbers", a="integer", b="integer")]


def check_functions(client):
    """The model has learnt to call these."""
    ask = {"model": MODEL, "input": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": TOOLS,
           "temperature": 0}
    answer = client.responses.create(**ask)
    assert [item.type for item in answer.output] == ["function_call"] and answer.status == "completed", answer
    call = answer.output[0]
    assert call.name == "get_weather" and json.loads(call.arguments) == {"city": "Paris"} and call.call_id, call
    with client.responses.stream(**ask) as stream:
        kinds = [event.type.removeprefix("response.") for event in stream]
        final = stream.get_final_response().output[0]
    assert kinds[2] == "output_item.added" and kinds[3] == "function_call_arguments.delta", kinds
    assert kinds[-3:] == ["function_call_arguments.done", "output_item.done", "completed"], kinds
    assert (final.name, final.arguments) == (call.name, call.arguments), final
    told = [*ask["input"], call, {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}]
    assert client.responses.create(**{**ask, "input": told}).usage.input_tokens > answer.usage.input_tokens
    assert client.responses.create(**ask, tool_choice="none").output[0].type == "message"
    add = {"type": "function", "name": "add_numbers"}
    for choice in ("required", add, {"type": "allowed_tools", "mode": "required", "tools": [add]}):
        forced = client.responses.create(model=MODEL, input=TEXT, tools=TOOLS, temperature=0, max_output_tokens=200,
                                         tool_choice=choice, parallel_tool_calls=False)
        assert [item.type for item in forced.output] == ["function_call"], forced
        assert choice == "required" or forced.output[0].name == "add_numbers", forced


def check_counts(client, answer):
    assert client.responses.input_tokens.count(model=MODEL, input=TEXT).input_tokens == answer.usage.input_tokens
    more = client.responses.input_tokens.count(model=MODEL, input=TEXT, tools=TOOLS)
    assert more.object == "response.input_tokens" and more.input_tokens > answer.usage.input_tokens + 50, more


def check_errors(client, openai):
    def refused(kind, param, **arguments):
        try:
            client.responses.create(**{"model": MODEL, "input": TEXT, **arguments})
        except kind as e:
            assert e.param == param and e.message, e
            return
        raise AssertionError(f"{arguments} was not refused")

    refused(openai.BadRequestError, "input", input=[])
    refused(openai.BadRequestError, "max_output_tokens", max_output_tokens=0)
    refused(openai.BadRequestError, "tools[1]", tools=[{"type": "web_search"}, {"type": "function"}])
    refused(openai.BadRequestError, "conversation", conversation="conv_7")
    refused(openai.BadRequestError, "previous_response_id", previous_response_id="resp_7")
    refused(openai.BadRequestError, "input[0].content[0]", input=[
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}])
    refused(openai.NotFoundError, "model", model="gpt-unknown")


async def check_many_at_once(openai, url):
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    answers = await asyncio.gather(*(client.responses.create(model=MODEL, input=TEXT, temperature=0)
                                     for _ in range(6)))
    assert all(a.output_text == ANSWER for a in answers), answers
    await client.close()


def check_all(url):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120)
    answer = check_answers(client)
    check_going_on(client, answer)
    check_streams(client, answer)
    check_forms(client)
    check_functions(client)
    check_counts(client, answer)
    check_errors(client, openai)
    asyncio.run(check_many_at_once(openai, url))
    print(f"openai {openai.__version__}: all well")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv)
    server = Server(options.shoal, options.model)
    try:
        check_all(server.url)
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"


if __name__ == "__main__":
    main()
