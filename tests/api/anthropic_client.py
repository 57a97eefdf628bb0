#!/usr/bin/env python3
"""Drive `shoal serve` with the unmodified anthropic package: messages, streams, forms, tools, counts, errors.

usage: anthropic_client.py --shoal BINARY --model FILE --venv DIR
The package is installed into a virtual environment at DIR; without a package index, or where that has no such
package, the test is skipped (77)."""
import argparse
import asyncio

from openai_client import ANSWER, QUESTION, Server, into_venv

COLD = {"extra_body": {"temperature": 0}}  # newer packages have no parameter of that name
GREEDY = {**COLD, "max_tokens": 64}
MODEL = "shoal-demo-q8_0"


def check_messages(client):
    message = client.messages.create(model=MODEL, messages=QUESTION, **GREEDY)
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant", message
    assert [block.type for block in message.content] == ["text"] and message.content[0].text == ANSWER, message
    assert message.stop_reason == "end_turn" and message.stop_sequence is None and message.model == MODEL, message
    assert message.usage.input_tokens > 5 and message.usage.output_tokens > 5, message.usage
    assert message._request_id, "no request-id header"
    again = [*QUESTION, message.to_param(), {"role": "user", "content": [{"type": "text", "text": "And of Italy?"}]}]
    assert client.messages.create(model=MODEL, messages=again, system="Be brief.", **GREEDY).content, again
    cut = client.messages.create(model=MODEL, messages=QUESTION, max_tokens=3, **COLD)
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 3, cut
    stopped = client.messages.create(model=MODEL, messages=QUESTION, stop_sequences=["of Fra", "zzz"], **GREEDY)
    assert stopped.content[0].text == "The capital " and stopped.stop_sequence == "of Fra", stopped
    assert stopped.stop_reason == "stop_sequence", stopped
    begun = [*QUESTION, {"role": "assistant", "content": ANSWER[:-7]}]
    assert client.messages.create(model=MODEL, messages=begun, **GREEDY).content[0].text == ANSWER[-7:], begun
    much = client.messages.create(model=MODEL, messages=QUESTION, max_tokens=20000, timeout=60, **COLD)
    assert much.content[0].text == ANSWER, much


def check_streams(client):
    kinds = [event.type for event in client.messages.create(model=MODEL, messages=QUESTION, stream=True, **GREEDY)]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) > 7, kinds
    with client.messages.stream(model=MODEL, messages=QUESTION, **GREEDY) as stream:
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    whole = client.messages.create(model=MODEL, messages=QUESTION, **GREEDY)
    assert final.content[0].text == ANSWER and final.stop_reason == "end_turn", final
    assert (final.usage.input_tokens, final.usage.output_tokens) == (whole.usage.input_tokens,
                                                                    whole.usage.output_tokens), final.usage


def check_forms(client):
    import pydantic

    class Town(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        people: int

    schema = Town.model_json_schema()
    schema["additionalProperties"] = False
    message = client.messages.create(model=MODEL, messages=QUESTION, max_tokens=200, **COLD,
                                     output_config={"format": {"type": "json_schema", "schema": schema}})
    Town.model_validate_json(message.content[0].text)


def tool(name, description, **properties):
    return {"name": name, "description": description,
            "input_schema": {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()},
                             "required": list(properties)}}


TOOLS = [tool("get_weather", "Get the weather in a city", city="string"),
         tool("get_time", "Get the time in a city", city="string"),
         tool("add_numbers", "Add two numbers", a="integer", b="integer")]


def check_tools(client):
    """The model has learnt to call these."""
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    ask = {"model": MODEL, "messages": asked, "tools": TOOLS, **GREEDY}
    message = client.messages.create(**ask)
    assert message.stop_reason == "tool_use" and [b.type for b in message.content] == ["tool_use"], message
    use = message.content[0]
    assert use.name == "get_weather" and use.input == {"city": "Paris"} and use.id, use
    with client.messages.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "input_json" in kinds and final.content[0].input == use.input, (kinds, final)
    assert final.stop_reason == "tool_use" and final.usage.output_tokens == message.usage.output_tokens, final
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "18 degrees"}]}
    told = [*asked, message.to_param(), {"role": "user", "content": [result]}]
    assert client.messages.create(**{**ask, "messages": told}).usage.input_tokens > message.usage.input_tokens
    for choice in ({"type": "any"}, {"type": "tool", "name": "add_numbers"}):
        forced = client.messages.create(model=MODEL, messages=QUESTION, tools=TOOLS, max_tokens=200, **COLD,
                                        tool_choice={**choice, "disable_parallel_tool_use": True})
        assert forced.stop_reason == "tool_use" and len(forced.content) == 1, forced
        assert forced.content[0].name == choice.get("name", forced.content[0].name), forced
    assert {type(value) for value in forced.content[0].input.values()} == {int}, forced
    free = client.messages.create(**ask, tool_choice={"type": "none"})
    assert free.stop_reason == "end_turn" and free.content[0].type == "text", free


def check_counts(client):
    count = client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
    assert count == client.messages.create(model=MODEL, messages=QUESTION, **GREEDY).usage.input_tokens, count
    assert client.messages.count_tokens(model=MODEL, messages=QUESTION, system="Be brief.").input_tokens > count


def check_errors(client, anthropic):
    def refused(kind, part, **arguments):
        try:
            client.messages.create(**{"model": MODEL, "messages": QUESTION, **GREEDY, **arguments})
        except anthropic.APIStatusError as e:
            assert isinstance(e, kind) and e.body["type"] == "error" and part in e.body["error"]["message"], e.body
            assert e.request_id, "no request-id header"
            return
        raise AssertionError(f"{arguments} was not refused")

    refused(anthropic.BadRequestError, "temperature", extra_body={"temperature": 3})
    refused(anthropic.BadRequestError, "max_tokens", max_tokens=0)
    refused(anthropic.BadRequestError, "messages", messages=[])
    refused(anthropic.BadRequestError, "prompt is too long: ", messages=[{"role": "user", "content": "a b " * 5000}])
    refused(anthropic.NotFoundError, "claude-unknown", model="claude-unknown")
    refused(anthropic.BadRequestError, "tools[0]", tools=[{"type": "web_search_20250305", "name": "web_search"}])


async def check_many_at_once(anthropic, url):
    client = anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0)
    replies = await asyncio.gather(*(client.messages.create(model=MODEL, messages=QUESTION, **GREEDY)
                                     for _ in range(6)))
    assert all(r.content[0].text == ANSWER for r in replies), replies
    await client.close()


def check_all(url):
    import anthropic
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=120)
    check_messages(client)
    check_streams(client)
    check_forms(client)
    check_tools(client)
    check_counts(client)
    check_errors(client, anthropic)
    asyncio.run(check_many_at_once(anthropic, url))
    print(f"anthropic {anthropic.__version__}: all well")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv, "anthropic")
    server = Server(options.shoal, options.model)
    try:
        check_all(server.url.removesuffix("/v1"))
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"


if __name__ == "__main__":
    main()
