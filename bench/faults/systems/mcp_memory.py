"""The official MCP memory server: every client starts one of its own (stdio), all on one file.

A record is an entity with one observation. An edit adds the new observation, then deletes the old: if it is
interrupted, both are there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.faults.child import Child
from bench.faults.system import Gone, Process, Reading, Refused
from bench.faults.systems import node
from bench.faults.systems.folders import Folders

PACKAGE = "@modelcontextprotocol/server-memory"
PROTOCOL = "2025-06-18"


class McpMemory(Folders):
    name = "mcp-memory"
    several = True
    talks = False

    def __init__(self, root: Path, *, copied: bool = False) -> None:
        self.version = node.installed(PACKAGE)
        super().__init__(root, lambda home, skew_ms: _open(home, root / "log", skew_ms), copied=copied)


class McpMemoryCopied(McpMemory):
    name = "mcp-memory+copies"

    def __init__(self, root: Path) -> None:
        super().__init__(root, copied=True)


def _open(home: Path, log: Path, skew_ms: int) -> Process:
    environment = {"MEMORY_FILE_PATH": str(home / "memory.jsonl"), **node.clock(skew_ms)}
    server = node.MODULES / PACKAGE / "dist" / "index.js"
    return Client(Child(node.command(server), log, env=environment))


class Client:
    """An MCP client of one server over stdio: JSON-RPC 2.0, a message a line."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._ids = itertools.count(1)
        who = {"name": "fault-harness", "version": "1"}
        try:
            self._call("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": who})
            child.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
        except (Refused, Gone):
            child.kill()
            raise

    def write(self, name: str, value: str) -> None:
        made = self._tool("create_entities", entities=[_entity(name, value)])
        if not made["entities"]:
            raise Refused("an entity of that name exists")

    def edit(self, name: str, value: str) -> Sequence[str]:
        found = self._tool("open_nodes", names=[name])["entities"]
        if not found:
            raise Refused("no such entity")
        old: list[str] = found[0]["observations"]
        self._tool("add_observations", observations=[{"entityName": name, "contents": [value]}])
        self._tool("delete_observations", deletions=[{"entityName": name, "observations": old}])
        return old

    def forget(self, name: str) -> None:
        self._tool("delete_entities", entityNames=[name])

    def read_all(self) -> Reading:
        entities = self._tool("read_graph")["entities"]
        return {entity["name"]: tuple(reversed(entity["observations"])) for entity in entities}

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.close()

    def _tool(self, tool: str, **arguments: Any) -> Any:
        result = self._call("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise Refused(result["content"][0]["text"])
        return result["structuredContent"]

    def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        answer = self._child.exchange(request)
        if "error" in answer:
            raise Refused(json.dumps(answer["error"]))
        return answer["result"]


def _entity(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "entityType": "memory", "observations": [value]}
