"""A real MCP server on stdio: a shop whose order book is a file. ``python mcp_shop.py BOOK``."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

shop = MCPServer("shop")
book = Path(sys.argv[1])


@shop.tool()
def order(what: str, cups: int = 1) -> str:
    """Order something."""
    with book.open("a") as lines:
        lines.write(f"{cups} {what}\n")
    return f"ordered {cups} {what}"


@shop.tool()
def refund(what: str) -> str:
    """Give the money back."""
    raise ToolError(f"{what} cannot be returned")


if __name__ == "__main__":
    shop.run("stdio")
