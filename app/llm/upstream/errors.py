"""Failures of calls to providers as the errors that clients of the OpenAI SDK know: by status, and of the transport."""

from __future__ import annotations

from collections.abc import Mapping

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...protocols.error_answers import error_answer
from ...protocols.json_fields import error_detail

# What a connection to a provider raises.
TRANSPORT_PROBLEMS = (OSError, TimeoutError)

# Status of the provider -> (error class that SDK users know, our status, type, whether another deployment may succeed).
_ERRORS_BY_STATUS: dict[int, tuple[str, int, str, bool]] = {
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
_CONTEXT_WINDOW_PHRASES = ("context_length_exceeded", "maximum context length", "context window", "prompt is too long")
_CONTENT_POLICY_PHRASES = ("content_policy_violation", "content_filter", "safety system", "content management policy")


def status_error(status: int, body: bytes, headers: Mapping[str, str], deployment: Deployment) -> UpstreamError:
    """A provider's error response under the class, status and type that clients of LiteLLM know it by."""
    name, mapped_status, type, is_retryable = _ERRORS_BY_STATUS.get(
        status, ("APIError", status, "internal_server_error", status >= 500)
    )
    if 300 <= status < 400 or status < 200 or mapped_status > 599:
        name, mapped_status, type, is_retryable = "APIError", 502, "internal_server_error", True
    text = deployment.dialect.error_message(body) or f"the provider answered {status}"
    param = None
    if status == 400:
        name, param = _error_class_of_400(name, error_detail(body, "code") or "", text), error_detail(body, "param")
    retry_after = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    forwarded = {"Retry-After": retry_after} if retry_after and is_plain(retry_after) else {}
    return UpstreamError(
        _error_message(name, deployment, text),
        status=mapped_status,
        type=type,
        param=param,
        is_retryable=is_retryable,
        error_class=name,
        retry_after=_parse_retry_after(retry_after),
        headers=forwarded,
    )


def refuse_error_answer(
    body: bytes, answer_field: str, answer_headers: Mapping[str, str], deployment: Deployment
) -> None:
    """Raises UpstreamError for a body that is an error though its status was a success.

    `answer_headers`: as `Answer.headers` names them. `answer_field`: see error_answers.py.
    """
    error = error_answer(body, answer_field)
    if error is not None:
        retry_after = answer_headers.get("llm_provider-retry-after")
        raise status_error(error.status, error.body, {"retry-after": retry_after} if retry_after else {}, deployment)


def _parse_retry_after(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds; None for the form with a date, which is rare: the configured cooldown then applies."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def is_plain(value: str) -> bool:
    """Whether a header value can be forwarded. One that cannot would fail a response that is already paid for."""
    return value.isascii() and value.isprintable()


def _error_class_of_400(name: str, code: str, text: str) -> str:
    lowered = f"{code} {text}".lower()
    if any(phrase in lowered for phrase in _CONTEXT_WINDOW_PHRASES):
        return "ContextWindowExceededError"
    if any(phrase in lowered for phrase in _CONTENT_POLICY_PHRASES):
        return "ContentPolicyViolationError"
    return name


def transport_error(problem: BaseException, deployment: Deployment | None = None) -> UpstreamError:
    """No response, a truncated one, or silence. Without a deployment: of a pass-through call, never retried."""
    if isinstance(problem, TimeoutError):
        name, status, type, text = "Timeout", 408, "invalid_request_error", "the provider did not answer in time"
    else:
        name, status, type = "APIConnectionError", 500, "internal_server_error"
        text = "the connection to the provider failed"
    return UpstreamError(
        _error_message(name, deployment, text) if deployment is not None else f"litellm.{name}: {name}: {text}",
        status=status,
        type=type,
        is_retryable=deployment is not None,
        error_class=name,
    )


def invalid_answer_error(deployment: Deployment) -> UpstreamError:
    """A success status with a body that is not valid in the dialect."""
    text = "the provider's answer is not valid JSON"
    message = _error_message("InternalServerError", deployment, text)
    return UpstreamError(message, status=500, is_retryable=True, error_class="InternalServerError")


def empty_answer_error(deployment: Deployment) -> UpstreamError:
    """A success status with an empty body or stream."""
    message = _error_message("InternalServerError", deployment, "the provider's answer is empty")
    return UpstreamError(message, status=500, is_retryable=True, error_class="InternalServerError")


def _error_message(name: str, deployment: Deployment, text: str) -> str:
    provider = deployment.provider.name
    return f"litellm.{name}: {name}: {provider[:1].upper()}{provider[1:]}Exception - {deployment.redacted(text)}"
