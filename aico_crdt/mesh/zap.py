"""Who may connect: our own handler of ZAP, the ZeroMQ Authentication Protocol (rfc.zeromq.org/spec/27).

CURVE proves the server's key only; without a handler every client is let in (docs/hazards.md, 14). One handler serves
one Context, so every mesh node has a Context of its own. It never dies and answers everything: a question it does not
understand, and a callback that fails, are refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import zmq

from aico_crdt.logs import logger
from aico_crdt.mesh.sockets import Pump
from aico_crdt.trust.identity import z85

ENDPOINT: Final = "inproc://zeromq.zap.01"
DOMAIN: Final = b"aico-crdt"
_VERSION: Final = b"1.0"
_KEY_BYTES: Final = 32
_PARTS: Final = 8
"""routing id of the asking socket, delimiter, version, request id, domain, address, identity, mechanism; then the
credentials, for CURVE one key."""

log = logger(__name__)


class ZapHandler:
    """Admits the CURVE clients for whose public key `admits` is true. Lives on the loop it was made on."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admits: Callable[[str], bool]) -> None:
        """`admits` gets the key as 40 characters of Z85. Make the handler before any socket binds.

        Raises:
            zmq.ZMQError: the Context has a handler already.
        """
        socket = context.socket(zmq.ROUTER)
        socket.bind(ENDPOINT)
        self._admits = admits
        self._pump = Pump(socket, self._answer)

    def close(self) -> None:
        """Ends; sockets of a domain then let nobody in."""
        self._pump.close()

    def _answer(self, parts: list[bytes]) -> None:
        if len(parts) < 4:
            log.warning("zap: a request of %d parts", len(parts))
            return  # without a request id there is nothing to answer to
        key = self._key(parts)
        admitted = key is not None and self._is_admitted(key)
        status = [b"200", b"OK", key.encode()] if admitted and key else [b"400", b"not admitted", b""]
        self._pump.send([parts[0], b"", _VERSION, parts[3], *status, b""])

    def _key(self, parts: list[bytes]) -> str | None:
        if len(parts) != _PARTS + 1 or parts[2] != _VERSION or parts[4] != DOMAIN or parts[7] != b"CURVE":
            log.warning("zap: refused a request that is not ours")
            return None
        return z85(parts[8]) if len(parts[8]) == _KEY_BYTES else None

    def _is_admitted(self, key: str) -> bool:
        try:
            admitted = self._admits(key) is True
        except Exception:  # whatever is wrong with the answer, the door stays shut and the handler alive
            log.exception("zap: the check of a key failed; refused")
            return False
        if not admitted:
            log.info("zap: refused key %s", key)
        return admitted
