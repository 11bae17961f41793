"""What is wrong, with its status; each API says it in a shape of its own."""

from __future__ import annotations

#: Characters of a message.
_MOST = 2000


class Refused(Exception):
    """A request that is not done, and why.

    Args:
        status: HTTP's number.
        message: The rule and what was received.
        name: The field that it is about, where there is one.
        headers: Of the answer.
    """

    def __init__(self, status: int, message: str, name: str | None = None, **headers):
        if len(message) > _MOST:  # (what was received may be a megabyte)
            message = f"{message[: _MOST - 300]} ... {message[-250:]}"
        super().__init__(message)
        self.status, self.message = status, message
        self.name = None if name is None else name[:100]
        self.headers = {key.replace("_", "-"): str(x) for key, x in headers.items()}


#: Names of kinds of errors, as OpenAI's API has them, by status.
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
#: The web UI's word for each, where it has one; see `modules/api/api.py`.
_WORDS = {404: "Not Found", 401: "Unauthorized", 422: "Unprocessable Entity"}


def body(path: str, error: Refused) -> dict:
    """The JSON of an error, in the shape of the API that was asked.

    Args:
        path: Of the request.
        error: What is wrong.
    """
    if path.startswith("/v1/"):
        kind = KINDS.get(error.status, "server_error")
        told = {"message": error.message, "type": kind, "param": error.name}
        return {"error": told | {"code": None}}
    if path.startswith(("/sdapi/", "/controlnet/")):
        word = _WORDS.get(error.status, "HTTPException")
        return {"error": word, "detail": error.message, "body": "", "errors": ""}
    told = {"status": error.status, "message": error.message}
    return {"error": told | ({"field": error.name} if error.name else {})}
