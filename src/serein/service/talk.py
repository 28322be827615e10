"""What goes over a WebSocket: messages of a bounded size in, JSON out to who takes it."""

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from serein.service.config import MEBIBYTE
from serein.service.problems import Problem


class ClientDisconnected(Exception):
    """The client is gone, or takes no answers."""


class MessageSocket:
    """A WebSocket, and what goes over it; says what it cannot do by a ``Problem``."""

    def __init__(self, socket: WebSocket, max_bytes: int, timeout: float) -> None:
        """Take a socket that was accepted.

        Args:
            socket: of the client.
            max_bytes: bytes of a message.
            timeout: seconds in which the client must take an answer.
        """
        self._socket, self._most, self._patience = socket, max_bytes, timeout

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            Left: there is none.
            Problem: it is too large.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnected
        content: bytes | str | None = message.get("bytes")
        if content is None:
            content = str(message["text"])
        if len(content) > self._most:
            raise Problem(
                413,
                f"a message is larger than {self._most / MEBIBYTE:g} MB, the most that is taken at "
                "once. Send smaller blocks, such as of 20 ms.",
            )
        return content

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message.

        Raises:
            Left: nobody takes it.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._socket.send_text(json.dumps({"type": kind, **fields}))
        except (TimeoutError, WebSocketDisconnect):
            raise ClientDisconnected from None
