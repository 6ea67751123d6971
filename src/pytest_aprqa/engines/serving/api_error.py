"""What a client is told when its request is refused or fails, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.engines.engine import ContextOverflow, InvalidRequest, NoChatTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = {400: "invalid_request_error", 404: "not_found_error", 503: "overloaded_error"}


class ApiError(Exception):
    """A refusal or a failure with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON: `error` with message, type, param and code."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(self),
                "type": _KINDS.get(self.status, default),
                "param": self.param,
                "code": self.code,
            }
        }


def refusal_of(error: InvalidRequest) -> ApiError:
    """What the client is told of a request that the model cannot be asked."""
    code = None
    if isinstance(error, ContextOverflow):
        code = "context_length_exceeded"
    elif isinstance(error, NoChatTemplate):
        code = "no_chat_template"
    return ApiError(400, str(error), code=code)
