#!/usr/bin/env python3
"""Drive `shoal serve` with the openai package's tools and reasoning: calls, choices, strict functions, budgets, errors.

usage: tools_client.py --shoal BINARY --model FILE --venv DIR
The package is installed into a virtual environment at DIR; without a package index the test is skipped (77)."""
import argparse
import json
import pathlib
import tempfile

from openai_client import ANSWER, QUESTION, Server, into_venv

MODEL = "shoal-demo-q8_0"


def function(name, text, required, **properties):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}


CITY = {"type": "string"}
TOOLS = [function("get_weather", "Get the weather in a city", ["city"], city=CITY),
         function("get_time", "Get the time in a city", ["city"], city=CITY),
         function("add_numbers", "Add two numbers", ["a", "b"], a={"type": "integer"}, b={"type": "integer"})]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
ADDING = [{"role": "user", "content": "Add 75 and 13 with the tool."}]
# The demo's turns, each answer of which begins within reasoning.
THINKING = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor -%}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""


def ask(client, **fields):
    return client.chat.completions.create(**{"model": MODEL, "temperature": 0, "max_tokens": 200, **fields})


def only_call(reply):
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls) == 1, reply
    call = choice.message.tool_calls[0]
    assert call.type == "function" and call.id.startswith("call_"), call
    return call


def check_calls(client):
    for messages, name, arguments in ((WEATHER, "get_weather", {"city": "Paris"}),
                                      (ADDING, "add_numbers", {"a": 75, "b": 13})):
        reply = ask(client, messages=messages, tools=TOOLS)
        call = only_call(reply)
        assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments), call
        assert reply.choices[0].message.content is None, reply
    result = {"role": "tool", "tool_call_id": call.id, "content": "88"}
    reply = ask(client, messages=[*ADDING, reply.choices[0].message, result], tools=TOOLS)
    assert reply.choices[0].message.role == "assistant" and reply.usage.prompt_tokens > 200, reply
    reply = ask(client, messages=QUESTION, tools=TOOLS, tool_choice="none")
    assert reply.choices[0].message.content == ANSWER and reply.choices[0].message.tool_calls is None, reply


def check_streams(client):
    whole = ask(client, messages=ADDING, tools=TOOLS, n=2)
    for index in (0, 1):
        ids, names, text, reasons = [], [], "", []
        for chunk in ask(client, messages=ADDING, tools=TOOLS, n=2, stream=True):
            for choice in (c for c in chunk.choices if c.index == index):
                reasons += [choice.finish_reason] if choice.finish_reason else []
                for call in choice.delta.tool_calls or []:
                    assert call.index == 0, call
                    ids += [call.id] if call.id else []
                    names += [call.function.name] if call.function.name else []
                    text += call.function.arguments
        assert len(ids) == 1 and names == ["add_numbers"] and reasons == ["tool_calls"], (ids, names, reasons)
        assert text == whole.choices[index].message.tool_calls[0].function.arguments, text


def check_helpers(client, openai):
    """The package's own ways: classes become strict functions, and arguments become objects of them."""
    import pydantic

    class AddNumbers(pydantic.BaseModel):
        """Add two numbers"""
        a: int
        b: int

    tools = [openai.pydantic_function_tool(AddNumbers, name="add_numbers", description="Add two numbers")]
    assert tools[0]["function"]["strict"] is True
    reply = client.chat.completions.parse(model=MODEL, messages=ADDING, temperature=0, tools=tools)
    assert only_call(reply).function.parsed_arguments == AddNumbers(a=75, b=13), reply
    with client.chat.completions.stream(model=MODEL, messages=ADDING, temperature=0, tools=tools) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    kinds = [event.type for event in events]
    assert kinds.count("tool_calls.function.arguments.done") == 1, kinds
    assert kinds.count("tool_calls.function.arguments.delta") > 3, kinds
    assert only_call(final).function.parsed_arguments == AddNumbers(a=75, b=13), final


def check_choices(client):
    """At a temperature that makes nonsense of everything else."""
    hot = {"temperature": 1.8, "messages": QUESTION, "tools": TOOLS, "max_tokens": 150}
    needed = {t["function"]["name"]: set(t["function"]["parameters"]["required"]) for t in TOOLS}
    for seed in range(2):
        reply = ask(client, **hot, seed=seed, tool_choice="required", parallel_tool_calls=False)
        if reply.choices[0].finish_reason != "length":
            call = only_call(reply)
            assert set(json.loads(call.function.arguments)) == needed[call.function.name], call
        named = {"type": "function", "function": {"name": "add_numbers"}}
        call = only_call(ask(client, **hot, seed=seed, tool_choice=named, parallel_tool_calls=False))
        values = json.loads(call.function.arguments)
        assert call.function.name == "add_numbers" and all(type(values[k]) is int for k in "ab"), call
    either = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}
    for seed in range(2):
        reply = ask(client, **hot, seed=seed, response_format=either).choices[0]
        if reply.finish_reason == "stop":
            assert json.loads(reply.message.content) in (True, False), reply


def check_strict(client):
    """The model calls by itself, and can say nothing but what the schema allows."""
    tool = function("get_weather", "Get the weather in a city", ["city", "unit"], city={"enum": ["Oslo", "Rome"]},
                    unit={"enum": ["C", "F"]})
    tool["function"]["strict"] = True
    for temperature in (0, 1.2):
        call = only_call(ask(client, messages=WEATHER, tools=[tool], temperature=temperature, seed=3))
        values = json.loads(call.function.arguments)
        assert values["city"] in ("Oslo", "Rome") and values["unit"] in ("C", "F"), call


def check_errors(client, openai):
    def refused(param, **fields):
        try:
            ask(client, **{"messages": WEATHER, "tools": TOOLS, **fields})
        except openai.BadRequestError as e:
            assert e.param == param and e.message, (e.param, e.message)
            return
        raise AssertionError(f"{fields} was not refused")

    refused("tool_choice", tool_choice={"type": "function", "function": {"name": "get_news"}})
    refused("tool_choice", tool_choice="required", tools=[])
    refused("tools", tools=[{"type": "function"}])
    refused("tools", tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"not": {}}}}}}])
    refused("reasoning_effort", extra_body={"reasoning_effort": 5})


def check_reasoning(client):
    """With a template that always lets the model think; what it thinks is of no use, but it is told from the answer."""
    for budget in (0, 7):
        reply = ask(client, messages=QUESTION, extra_body={"thinking_token_budget": budget})
        message = reply.choices[0].message
        thought = reply.usage.completion_tokens_details.reasoning_tokens
        assert thought == budget + 1, reply.usage # and the end
        assert (message.reasoning_content if budget else None) == getattr(message, "reasoning", None), message
        assert "<think>" not in message.content and "</think>" not in message.content, message
    assert not hasattr(ask(client, messages=QUESTION, reasoning_effort="none").choices[0].message, "reasoning")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    reply = ask(client, messages=QUESTION, response_format=form, extra_body={"reasoning_budget": 5})
    assert type(json.loads(reply.choices[0].message.content)) is int and reply.choices[0].message.reasoning, reply
    thought, text = "", ""
    for chunk in ask(client, messages=QUESTION, stream=True, extra_body={"reasoning_budget": 5}):
        delta = chunk.choices[0].delta
        assert not (delta.content and getattr(delta, "reasoning", None)), chunk
        thought += getattr(delta, "reasoning_content", None) or ""
        assert not thought or not text or not getattr(delta, "reasoning", None), chunk # it comes first
        text += delta.content or ""
    assert thought and text, (thought, text)


def run(options, check, *more):
    import openai
    server = Server(options.shoal, options.model, *more)
    try:
        check(openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=120), openai)
    finally:
        status = server.stop()
    assert status == 0, f"shoal serve ended with {status}"
    print(f"openai {openai.__version__}: all well")


def check_all(client, openai):
    check_calls(client)
    check_streams(client)
    check_helpers(client, openai)
    check_choices(client)
    check_strict(client)
    check_errors(client, openai)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv)
    run(options, check_all)
    with tempfile.TemporaryDirectory() as folder:
        template = pathlib.Path(folder) / "thinking.jinja"
        template.write_text(THINKING)
        run(options, lambda client, _: check_reasoning(client), "--chat-template", str(template))


if __name__ == "__main__":
    main()
