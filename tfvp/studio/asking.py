"""What the page sends: JSON, files and numbers, no larger than they may be."""

import json
import math

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from tfvp.errors import UserError
from tfvp.studio import limits


class TooLarge(Exception):
    """More was sent than is taken."""


async def json_of(request: Request) -> dict:
    """The object that a request carries.

    Raises:
        UserError: it carries something else.
    """
    try:
        asked = json.loads(await _body(request, 2**16))
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise UserError("the request is not a JSON object")
    return asked


async def _body(request, most):
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise TooLarge("The request is too large.")
    return body


async def form_of(request: Request) -> FormData:
    """The fields of an upload, which may be `limits.UPLOAD_BYTES` long and a little more for the other fields.

    Raises:
        TooLarge: it is longer.
        UserError: it is no form.
    """
    most = limits.UPLOAD_BYTES + 2**16
    sentence = f"The file is larger than {limits.UPLOAD_BYTES // 2**20} MB; cut it shorter or make it smaller."

    async def limited():
        length = 0
        async for part in request.stream():
            length += len(part)
            if length <= most:
                yield part
            elif length > 2 * most:  # whoever sends on after so much does not wait for an answer
                raise TooLarge(sentence)
        if length > most:
            raise TooLarge(sentence)

    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise UserError("the request is not a form with a file")
    try:
        parser = MultiPartParser(request.headers, limited(), max_files=1, max_fields=4, max_part_size=2**12)
        return await parser.parse()
    except MultiPartException as error:
        raise UserError(f"the upload cannot be read ({error.message}); try again") from None
    except ClientDisconnect:
        raise UserError("the upload was broken off") from None


def integer(asked: dict, name: str, least: int, default: int | None = None) -> int:
    """An integer of a request.

    Raises:
        UserError: it is missing, or no integer from `least` on.
    """
    value = asked.get(name, default)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**53:
        raise UserError(f"{name} must be a whole number from {least} on, not {value!r}")
    return value
