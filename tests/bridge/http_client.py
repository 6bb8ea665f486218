"""A client of the bridge, and its answers."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        def no_constant(name):
            raise AssertionError(f"{name} on the wire")

        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(self.body, parse_constant=no_constant)

    @property
    def error(self) -> tuple[int, str, str]:
        """The status and the error, whose shape is held to."""
        body = self.json
        assert list(body) == ["error"]
        assert sorted(body["error"]) == ["code", "message"]
        assert all(isinstance(text, str) and text for text in body["error"].values())
        return self.status, body["error"]["code"], body["error"]["message"]


class Client:
    def __init__(self, port: int) -> None:
        from twisted.internet import reactor
        from twisted.web.client import HTTPConnectionPool

        self.port = port
        self._pool = HTTPConnectionPool(reactor, persistent=False)

    def ask(self, method: str, path: str, **settings: Any) -> Any:
        """The Deferred of a response, whose cancellation closes the connection."""
        import treq

        return treq.request(method, f"http://127.0.0.1:{self.port}{path}", pool=self._pool, timeout=30, **settings)

    async def request(self, method: str, path: str, **settings: Any) -> Answer:
        import treq

        response = await self.ask(method, path, **settings)
        body = await treq.content(response)
        headers = {name.decode().lower(): values[0].decode() for name, values in response.headers.getAllRawHeaders()}
        return Answer(response.code, headers, body)

    async def get(self, path: str, **settings: Any) -> Answer:
        return await self.request("GET", path, **settings)

    async def post(self, path: str, body: Any, **settings: Any) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request("POST", path, data=raw, **settings)
