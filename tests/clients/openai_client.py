"""The common script with the openai package of Python. Arguments: base URL, key. Prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

from tests.clients.script import CITY_SCHEMA, LOOK, QUESTION, WEATHER

BASE_URL, KEY = sys.argv[1:]
CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": WEATHER}}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY_SCHEMA}}


def chat(model: str, **more: Any) -> Any:
    return CLIENT.chat.completions.create(**{"model": model, "messages": MESSAGES, **more})


def calls(message: Any) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "name": call.function.name, "input": json.loads(call.function.arguments)}
        for call in message.tool_calls
    ]


def streamed(**more: Any) -> tuple[str, int | None]:
    text, tokens = "", None
    for chunk in chat("stream", stream=True, **more):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return text, tokens


def streamed_calls() -> list[dict[str, Any]]:
    with CLIENT.chat.completions.stream(model="streamed-tools", messages=MESSAGES, tools=TOOLS) as stream:
        return calls(stream.get_final_completion().choices[0].message)


def failure(model: str, key: str = KEY) -> dict[str, Any] | None:
    try:
        openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0).chat.completions.create(
            model=model, messages=MESSAGES
        )
    except openai.APIStatusError as error:
        return {"name": type(error).__name__, "status": error.status_code}
    return None


def main() -> None:
    first = chat("say")
    answered = chat("parallel-tools", tools=TOOLS).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in answered.tool_calls]
    told_back = chat("say", tools=TOOLS, messages=[*MESSAGES, answered.model_dump(exclude_none=True), *results])
    vectors = CLIENT.embeddings.create(model="embedding", input=["a", "b"])
    seen = {
        "chat": first.choices[0].message.content,
        "chat_tokens": first.usage.total_tokens,
        "tools": calls(chat("tools", tools=TOOLS).choices[0].message),
        "parallel_tools": calls(answered),
        "after_tools": told_back.choices[0].message.content,
        "streamed_tools": streamed_calls(),
        "json": json.loads(chat("json", response_format=FORMAT).choices[0].message.content),
        "vision": chat("say", messages=[{"role": "user", "content": LOOK}]).choices[0].message.content,
        "stream": streamed()[0],
        "stream_tokens": streamed(stream_options={"include_usage": True})[1],
        "embeddings": [row.embedding for row in vectors.data],
        "errors": {
            "401": failure("say", "sk-nobody"),
            **{status: failure(f"fails-{status}") for status in ("400", "404", "429", "500")},
            "unknown": failure("nobody-serves-this"),
        },
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
