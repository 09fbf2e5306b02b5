"""The common script with langchain-openai. Arguments: base URL, key. Prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found]

from tests.clients.script import CITY_SCHEMA, LOOK, QUESTION, WEATHER

BASE_URL, KEY = sys.argv[1:]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": WEATHER}}]


def chat(model: str, key: str = KEY, **more: Any) -> Any:
    return ChatOpenAI(model=model, base_url=BASE_URL, api_key=key, max_retries=0, timeout=20, **more)


def calls(message: Any) -> list[dict[str, Any]]:
    return [{"id": call["id"], "name": call["name"], "input": call["args"]} for call in message.tool_calls]


def whole(chunks: Any) -> Any:
    """The sum of a stream's chunks, as LangChain adds them."""
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


def failure(model: str, key: str = KEY) -> dict[str, Any] | None:
    try:
        chat(model, key).invoke(QUESTION)
    except openai.APIStatusError as error:
        # LangChain wraps some in classes of its own, below those of the SDK.
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("openai"))
        return {"name": name, "status": error.status_code}
    return None


def main() -> None:
    first = chat("say").invoke(QUESTION)
    answered = chat("parallel-tools").bind_tools(TOOLS).invoke(QUESTION)
    results = [ToolMessage("21", tool_call_id=call["id"]) for call in answered.tool_calls]
    told_back = chat("say").bind_tools(TOOLS).invoke([HumanMessage(QUESTION), answered, *results])
    structured = chat("json").with_structured_output(
        {"title": "city", **CITY_SCHEMA}, method="json_schema", strict=True
    )
    # Its count of tokens would fetch a vocabulary from the internet.
    embeddings = OpenAIEmbeddings(
        model="embedding", base_url=BASE_URL, api_key=KEY, max_retries=0, check_embedding_ctx_length=False
    )
    seen = {
        "chat": first.content,
        "chat_tokens": first.usage_metadata["total_tokens"],
        "tools": calls(chat("tools").bind_tools(TOOLS).invoke(QUESTION)),
        "parallel_tools": calls(answered),
        "after_tools": told_back.content,
        "streamed_tools": calls(whole(chat("streamed-tools").bind_tools(TOOLS).stream(QUESTION))),
        "json": structured.invoke(QUESTION),
        "vision": chat("say").invoke([HumanMessage(LOOK)]).content,
        "stream": whole(chat("stream").stream(QUESTION)).content,
        "stream_tokens": whole(chat("stream", stream_usage=True).stream(QUESTION)).usage_metadata["total_tokens"],
        "embeddings": embeddings.embed_documents(["a", "b"]),
        "errors": {
            "401": failure("say", "sk-nobody"),
            **{status: failure(f"fails-{status}") for status in ("400", "404", "429", "500")},
            "unknown": failure("nobody-serves-this"),
        },
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
