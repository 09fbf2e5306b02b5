"""Everything that can go wrong for a caller, and how each wire dialect says it.

    GatewayError                    carries status, type, param, code, headers
    ├── InvalidRequest         400  the body or a parameter is wrong
    │   └── PayloadTooLarge    413
    ├── Unauthenticated        401  no key, a bad key, an expired key, a blocked key
    │   └── KeyNotFound        401  token_not_found_in_db
    ├── Forbidden              403  the key is good, the action is not allowed
    │   └── ModelAccessDenied  403  key_model_access_denied
    ├── NotFound               404
    ├── Conflict               409
    ├── BudgetExceeded         422  (status is a setting)
    ├── TooManyRequests        429
    ├── UpstreamError               what a provider did, with the contract's status for it
    └── ServiceUnavailable     503  our own database or cache is away; Retry-After says when to come back
    PlainDenial                     the framework-shaped `{"detail": …}` of some routes
    ValidationFailed           422  `{"detail": [{"type", "loc", "msg"}]}`

Shapes of bodies, as clients parse them: E1 `{"error": {"message", "type", "param", "code"}}` with `code` a string,
E2 `{"detail": …}`, E3 a list under `detail`. The dialects of Anthropic and Gemini come with their routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class GatewayError(Exception):
    """An error that the caller may read. `message` never holds a secret, a header or a stack."""

    status = 500
    type = "internal_server_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        self.param = param
        self.code = code or str(self.status)
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The OpenAI-dialect envelope (E1)."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class PayloadTooLarge(InvalidRequest):
    status = 413


class Unauthenticated(GatewayError):
    """401. The contract writes the *string* "None" as `param` of plain authentication errors."""

    status = 401
    type = "auth_error"

    def __init__(self, message: str, *, param: str | None = "None", **fields: Any) -> None:
        super().__init__(message, param=param, **fields)


class KeyNotFound(Unauthenticated):
    type = "token_not_found_in_db"


class Forbidden(GatewayError):
    status = 403
    type = "auth_error"


class ModelAccessDenied(Forbidden):
    type = "key_model_access_denied"


class NotFound(GatewayError):
    status = 404
    type = "not_found_error"


class Conflict(GatewayError):
    status = 409
    type = "bad_request_error"


class BudgetExceeded(GatewayError):
    status = 422
    type = "budget_exceeded"


class TooManyRequests(GatewayError):
    status = 429
    type = "throttling_error"


class UpstreamError(GatewayError):
    """A provider's failure under the contract's status. `is_retryable`: another deployment may succeed.

    `error_class` is the name under which SDK users know it, as RateLimitError.
    `retry_after`: seconds that the provider asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        is_retryable: bool = False,
        error_class: str = "APIError",
        retry_after: float | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.is_retryable = is_retryable
        self.error_class = error_class
        self.retry_after = retry_after


class ServiceUnavailable(GatewayError):
    status = 503
    type = "service_unavailable_error"

    def __init__(self, message: str, *, retry_after_seconds: int = 2, **fields: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_seconds)}, **fields)


class PlainDenial(GatewayError):
    """E2: `{"detail": text}` or, where the contract nests it, `{"detail": {"error": text}}`."""

    def __init__(self, message: str, *, status: int, is_nested: bool = False, **fields: Any) -> None:
        super().__init__(message, status=status, **fields)
        self.is_nested = is_nested

    def body(self) -> dict[str, Any]:
        return {"detail": {"error": self.message} if self.is_nested else self.message}


class ValidationFailed(GatewayError):
    """E3: every wrong field at once, each `(location, message)` or `(location, message, type)`."""

    status = 422
    type = "validation_error"

    def __init__(self, problems: Sequence[tuple[str, str] | tuple[str, str, str]], *, source: str = "body") -> None:
        super().__init__("; ".join(f"{problem[0]}: {problem[1]}" for problem in problems))
        self.problems = [
            {
                "type": problem[2] if len(problem) == 3 else "value_error",
                "loc": [source, *problem[0].split(".")] if problem[0] else [source],
                "msg": problem[1],
            }
            for problem in problems
        ]

    def body(self) -> dict[str, Any]:
        return {"detail": self.problems}
