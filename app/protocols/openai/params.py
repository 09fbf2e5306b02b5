"""Which parameters of the OpenAI dialect a model takes, by what it is for."""

from __future__ import annotations

CHAT_PARAMS: tuple[str, ...] = tuple(
    (
        "frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n presence_penalty seed "
        "stop stream stream_options temperature top_p tools tool_choice parallel_tool_calls response_format user"
    ).split()
)

_BY_MODE: dict[str, str] = {
    "embedding": "dimensions encoding_format user",
    "image_generation": (
        "background moderation n output_compression output_format partial_images quality response_format size stream "
        "style user"
    ),
    "audio_speech": "instructions response_format speed stream_format voice",
    "audio_transcription": (
        "chunking_strategy include language prompt response_format stream temperature timestamp_granularities"
    ),
    "moderation": "",
    "rerank": "max_tokens_per_doc rank_fields return_documents top_n",
}


def params_of_mode(mode: str) -> tuple[str, ...]:
    """For a mode of the contract, as `embedding`; what has none of its own takes those of a chat."""
    return tuple(_BY_MODE[mode].split()) if mode in _BY_MODE else CHAT_PARAMS
