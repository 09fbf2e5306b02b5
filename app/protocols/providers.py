"""Providers as data rows: who speaks which dialect, at which address, with which credential.

To add a provider whose dialect we speak (dialects.py), add a row; most speak OpenAI's. `base_variable` names the
environment variable that moves its address, `key_variable` the one that holds its key; the key of the environment is
sent to the provider's own address only. A provider whose models people write without its name has a row in `_FAMILIES`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `base` None: a deployment must name its `api_base`.

    `is_any_server`: the name stands for other servers of its dialect too, each with a path of its own.
    `is_pass_through_only`: we do not speak its dialect; its deployments lend their credential to pass-through.
    """

    name: str
    base: str | None
    key_variable: str | None
    base_variable: str | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer "
    dialect: str = "openai"
    is_pass_through_only: bool = False
    is_any_server: bool = False

    def with_path(self, address: str) -> str:
        """An address that was given for it, with the path of its API where that is missing.

        People write `http://host:11434` for Ollama, whose API in this dialect stands below `/v1`.
        """
        address = address.rstrip("/")
        own = urlsplit(self.base or "")
        path = own.path.rstrip("/")
        if not path or (self.is_any_server and urlsplit(address).hostname != own.hostname):
            return address
        if urlsplit(address).path in ("", "/"):
            return f"{address}{path}"
        # One of the provider's other APIs, whose address people copy.
        return (
            f"{address.removesuffix('/api')}{path}"
            if self.name.startswith("ollama") and address.endswith("/api")
            else address
        )

    def auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {self.auth_header: f"{self.auth_scheme}{api_key}"} if api_key else {}


def _relayed(
    name: str,
    base: str | None,
    key_variable: str | None = None,
    base_variable: str | None = None,
    header: str = "Authorization",
) -> Provider:
    scheme = "Bearer " if header == "Authorization" else ""
    return Provider(name, base, key_variable, base_variable, header, scheme, is_pass_through_only=True)


PROVIDERS: dict[str, Provider] = {
    row.name: row
    for row in (
        Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_API_BASE", is_any_server=True),
        Provider("azure", None, "AZURE_API_KEY", "AZURE_API_BASE", "api-key", "", dialect="azure"),
        Provider("ollama", "http://localhost:11434/v1", None, "OLLAMA_API_BASE"),
        Provider("ollama_chat", "http://localhost:11434/v1", None, "OLLAMA_API_BASE"),
        Provider("vllm", None, "HOSTED_VLLM_API_KEY", "HOSTED_VLLM_API_BASE"),
        Provider("hosted_vllm", None, "HOSTED_VLLM_API_KEY", "HOSTED_VLLM_API_BASE"),
        Provider("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        Provider("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        Provider("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        Provider("together_ai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
        Provider("together", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
        Provider("fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
        Provider("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
        Provider("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        Provider("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
        Provider("litellm_proxy", None, "LITELLM_PROXY_API_KEY", "LITELLM_PROXY_API_BASE"),
        _relayed("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "ANTHROPIC_API_BASE", "x-api-key"),
        _relayed(
            "gemini",
            "https://generativelanguage.googleapis.com",
            "GEMINI_API_KEY",
            "GEMINI_API_BASE",
            "x-goog-api-key",
        ),
        _relayed("vertex_ai", "https://aiplatform.googleapis.com"),
        _relayed("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        _relayed("azure_ai", None, "AZURE_API_KEY", "AZURE_API_BASE", "api-key"),
        _relayed("cohere", "https://api.cohere.com", "COHERE_API_KEY"),
        Provider("openai_like", None, "OPENAI_LIKE_API_KEY", "OPENAI_LIKE_API_BASE"),
    )
}


# Provider -> how the names of its own models begin, for models that are written without a provider.
_FAMILIES = {
    "openai": (
        r"(ft:)?(gpt|chatgpt|o\d|text-embedding-(3|ada)|text-(ada|babbage|curie|davinci)|davinci|babbage|tts|whisper"
        r"|dall-e|omni-moderation|text-moderation|computer-use|codex|sora)\b.*"
    ),
    "anthropic": r"claude-.+",
    "gemini": r"(gemini|gemma|learnlm|imagen|veo|text-embedding-00\d|embedding-00\d)\b.*",
    "cohere": r"(command|c4ai|aya|embed-(english|multilingual|v\d)|rerank)\b.*",
    "mistral": r"((open-)?(mistral|mixtral|codestral|ministral|magistral|devstral|pixtral|voxtral))\b.*",
    "deepseek": r"deepseek-(chat|reasoner|coder)",
    "xai": r"grok-.+",
}
_FAMILY_PATTERNS = {name: re.compile(pattern) for name, pattern in _FAMILIES.items()}
_WILDCARD = "*"


def split_model(model: str, custom_provider: str | None = None, *, has_address: bool = False) -> tuple[Provider, str]:
    """`provider/model` as a provider row and the provider's own model name.

    A model without a provider is of the one whose names begin so: its key must not go to another company. Where the
    deployment `has_address` of its own, that says where it goes, and it speaks OpenAI's dialect.

    Raises ValueError for a provider that we do not have, and for a name that could be anybody's.
    """
    if custom_provider is not None:
        if custom_provider not in PROVIDERS:
            raise ValueError(f"custom_llm_provider {custom_provider!r} is not a provider that we have; {_known()}")
        return PROVIDERS[custom_provider], model.removeprefix(f"{custom_provider}/")
    prefix, slash, rest = model.partition("/")
    if slash:
        if prefix not in PROVIDERS:
            raise ValueError(f"{prefix!r} in {model!r} is not a provider that we have; {_known()}")
        return PROVIDERS[prefix], rest
    if has_address or model == _WILDCARD:
        return PROVIDERS["openai"], model
    family = family_of(model)
    if family is None:
        raise ValueError(
            f"{model!r} is no model name that we know a provider of; write provider/model, as openai/{model}"
        )
    return family, model


def family_of(model: str) -> Provider | None:
    """The provider that gives its own models such names, None for a name that could be anybody's."""
    names = (name for name, pattern in _FAMILY_PATTERNS.items() if pattern.fullmatch(model))
    return next((PROVIDERS[name] for name in names), None)


def _known() -> str:
    return "use one of " + ", ".join(PROVIDERS)
