"""The model server behind this one: sends requests to it, and turns its failures into answers.

Its key is sent in a header, and never shown, logged, or left in an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from erase_core.llm.address import Address
from erase_core.llm.model_list import context_length_in
from erase_core.llm.server_options import ServerOptions, key_from
from erase_core.server.errors import ApiError

__all__ = ["Upstream", "kept_headers"]

# Most seconds to wait for the list of models, which is not essential.
PATIENCE = 5.0
KEPT = ("retry-after", "retry-after-ms", "x-request-id")
KEPT_PREFIX = "x-ratelimit-"
UNREACHABLE = "The model server behind this one cannot be reached."
GARBAGE = "The model server behind this one answered with something that is not an answer to a chat."


class Upstream:
    """An OpenAI-compatible server.

    Parameters
    ----------
    base_url : str
    options : ServerOptions
        Of these, `timeout`, `context_length` and `api_key_env` count. Nothing is retried: clients do that.

    Raises
    ------
    ParameterError
        The address or the key cannot be used.
    """

    def __init__(self, base_url: str, options: ServerOptions) -> None:
        address = Address.of(base_url)
        key = None if address.credentials is not None else key_from(options.api_key_env)
        authorization = address.authorization or (f"Bearer {key}" if key else None)
        self._url, self._query = address.url, address.query
        self._headers = {"Authorization": authorization} if authorization else {}
        self._timeout = options.timeout
        self._context_length = options.context_length
        self._context_lengths: dict[str, int | None] = {}
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold connections to the server within this context."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(timeout=self._timeout, limits=limits, headers=self._headers) as client:
            self._client = client
            yield

    async def open(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send a request, and return the response without its body. It must be closed.

        Raises
        ------
        ApiError
            502: the server cannot be reached, or refuses this server's key. 504: it is too slow.
        """
        if self._client is None:
            raise RuntimeError("the upstream is not running")
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(
            method, f"{self._url}{path}", params=self._query or None, content=content, headers=headers
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise failure(error, self._timeout) from None
        if not (response.is_success or 400 <= response.status_code < 500 or response.status_code in (503, 504)):
            await response.aclose()
            raise ApiError(502, "upstream_failed", f"The model server behind this one failed ({response.status_code}).")
        if response.status_code in (401, 403, 407):  # its words may quote the key
            await response.aclose()
            raise ApiError(502, "upstream_refused", "The model server behind this one refuses this server's key.")
        return response

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes, dict[str, str]]:
        """Send a request. Return status, body and headers of the response, which is JSON.

        Raises
        ------
        ApiError
            As for `open`, or 502: the body is not JSON.
        """
        try:
            async with asyncio.timeout(self._timeout):
                response = await self.open(method, path, body)
                return response.status_code, await read(response), kept_headers(response)
        except TimeoutError:
            raise too_slow(self._timeout) from None

    async def context_length(self, model: object) -> int | None:
        """Return the context length of a model in tokens: as given, or from the server's list; None if unknown."""
        if self._context_length is not None or not isinstance(model, str):
            return self._context_length
        if model not in self._context_lengths:
            try:
                async with asyncio.timeout(min(self._timeout, PATIENCE)):
                    _, content, _ = await self.call("GET", "/models")
            except (ApiError, TimeoutError):  # the chat itself will show what is wrong
                return None
            if len(self._context_lengths) >= 1000:  # names are the clients'
                self._context_lengths.clear()
            self._context_lengths[model] = context_length_in(json.loads(content), model)
        return self._context_lengths[model]


async def read(response: httpx.Response) -> bytes:
    """Return the body of a response, which must be a JSON object, and close it.

    Raises
    ------
    ApiError
    """
    try:
        content = await response.aread()
        if not isinstance(json.loads(content), dict):
            raise ValueError
    except httpx.HTTPError as error:
        raise failure(error) from None
    except (ValueError, RecursionError):
        if response.is_success:
            raise ApiError(502, "upstream_garbage", GARBAGE) from None
        raise ApiError(
            response.status_code,
            "upstream_refused",
            "The model server behind this one refused the request.",
            headers=kept_headers(response),
        ) from None
    finally:
        await response.aclose()
    return content


def kept_headers(response: httpx.Response) -> dict[str, str]:
    """Return the headers of a response that are passed back. Other characters than ASCII cannot be."""
    found = ((name, value) for name, value in response.headers.items() if f"{name}{value}".isascii())
    return {name: value for name, value in found if name in KEPT or name.startswith(KEPT_PREFIX)}


def failure(error: httpx.HTTPError, timeout: float | None = None) -> ApiError:
    """Return the answer to a failed exchange with the server."""
    if isinstance(error, httpx.TimeoutException):
        return too_slow(timeout)
    if isinstance(error, (httpx.RemoteProtocolError, httpx.DecodingError)):
        return ApiError(502, "upstream_garbage", GARBAGE)
    return ApiError(502, "upstream_unreachable", UNREACHABLE)


def too_slow(timeout: float | None) -> ApiError:
    within = "" if timeout is None else f" within {timeout:g} s"
    return ApiError(504, "upstream_timeout", f"The model server behind this one did not answer{within}.")


def parsed(content: bytes) -> Any:
    """Return decoded JSON; None if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
