"""What goes wrong between here and a provider, in the contract's words: one mapping for statuses, one for transport."""

from __future__ import annotations

from collections.abc import Mapping

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...protocols.json_fields import error_detail, error_message

# What goes wrong between here and there.
TRANSPORT_PROBLEMS = (OSError, TimeoutError)

# Status of the provider -> class that SDK users know, our status, type, may another deployment do better?
_CLASSES: dict[int, tuple[str, int, str, bool]] = {
    400: ("BadRequestError", 400, "invalid_request_error", False),
    401: ("AuthenticationError", 401, "authentication_error", False),
    402: ("APIError", 402, "internal_server_error", False),
    403: ("PermissionDeniedError", 403, "permission_error", False),
    404: ("NotFoundError", 404, "invalid_request_error", False),
    408: ("Timeout", 408, "invalid_request_error", True),
    409: ("APIError", 409, "internal_server_error", True),
    413: ("BadRequestError", 413, "invalid_request_error", False),
    422: ("UnprocessableEntityError", 422, "invalid_request_error", False),
    429: ("RateLimitError", 429, "throttling_error", True),
    500: ("InternalServerError", 500, "internal_server_error", True),
    502: ("BadGatewayError", 502, "internal_server_error", True),
    503: ("ServiceUnavailableError", 503, "internal_server_error", True),
    504: ("Timeout", 408, "invalid_request_error", True),
    529: ("InternalServerError", 500, "internal_server_error", True),
}
_CONTEXT_WORDS = ("context_length_exceeded", "maximum context length", "context window", "prompt is too long")
_POLICY_WORDS = ("content_policy_violation", "content_filter", "safety system", "content management policy")


def status_error(status: int, body: bytes, headers: Mapping[str, str], deployment: Deployment) -> UpstreamError:
    """A provider's refusal under the contract's class, status and type (llm.md §4.10)."""
    name, ours, type, is_retryable = _CLASSES.get(status, ("APIError", status, "internal_server_error", status >= 500))
    if 300 <= status < 400 or status < 200 or ours > 599:
        name, ours, type, is_retryable = "APIError", 502, "internal_server_error", True
    text = error_message(body) or f"the provider answered {status}"
    param = None
    if status == 400:
        name, param = _refined(name, error_detail(body, "code") or "", text), error_detail(body, "param")
    retry_after = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    passed = {"Retry-After": retry_after} if retry_after and is_plain(retry_after) else {}
    return UpstreamError(
        _worded(name, deployment, text),
        status=ours,
        type=type,
        param=param,
        is_retryable=is_retryable,
        error_class=name,
        retry_after=_seconds(retry_after),
        headers=passed,
    )


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` as seconds; the form with a date is rare and says nothing that a cooldown would not."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def is_plain(value: str) -> bool:
    """Whether a header value can be sent on. One that cannot would take the whole answer, already paid for, with it."""
    return value.isascii() and value.isprintable()


def _refined(name: str, code: str, text: str) -> str:
    words = f"{code} {text}".lower()
    if any(word in words for word in _CONTEXT_WORDS):
        return "ContextWindowExceededError"
    if any(word in words for word in _POLICY_WORDS):
        return "ContentPolicyViolationError"
    return name


def transport_error(problem: BaseException, deployment: Deployment | None = None) -> UpstreamError:
    """No answer, half an answer, or silence. Without a deployment: of a relayed call, never tried again."""
    if isinstance(problem, TimeoutError):
        name, status, type, text = "Timeout", 408, "invalid_request_error", "the provider did not answer in time"
    else:
        name, status, type = "APIConnectionError", 500, "internal_server_error"
        text = "the connection to the provider failed"
    return UpstreamError(
        _worded(name, deployment, text) if deployment is not None else f"litellm.{name}: {name}: {text}",
        status=status,
        type=type,
        is_retryable=deployment is not None,
        error_class=name,
    )


def invalid_answer_error(deployment: Deployment) -> UpstreamError:
    """A good status with a body that is not the dialect's."""
    text = "the provider's answer is not valid JSON"
    worded = _worded("InternalServerError", deployment, text)
    return UpstreamError(worded, status=500, is_retryable=True, error_class="InternalServerError")


def empty_error(deployment: Deployment) -> UpstreamError:
    """A good status with nothing behind it."""
    worded = _worded("InternalServerError", deployment, "the provider's answer is empty")
    return UpstreamError(worded, status=500, is_retryable=True, error_class="InternalServerError")


def _worded(name: str, deployment: Deployment, text: str) -> str:
    provider = deployment.provider.name
    return f"litellm.{name}: {name}: {provider[:1].upper()}{provider[1:]}Exception - {deployment.redacted(text)}"
