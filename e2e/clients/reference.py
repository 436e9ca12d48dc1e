"""A real MCP server to set clients and gateways against: FastMCP of the official SDK, on both legacy transports.

    python reference.py PORT [PREFIX]

Serves /mcp (Streamable HTTP, with sessions) and /sse on 127.0.0.1. Tools, each with PREFIX before its name:
`add(a, b)`; `wait(path)`, which reports progress every 50 ms and answers once the file exists; `grow(name)`, which
adds a tool of that name and announces it to the session that called.
"""

import asyncio
import pathlib
import sys

import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.lowlevel import NotificationOptions

port, prefix = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
server = FastMCP("reference")
lowlevel = server._mcp_server
initialization_options = lowlevel.create_initialization_options
# FastMCP has no public way to announce that its list changes, and clients ignore what was not announced.
announced = NotificationOptions(tools_changed=True)
lowlevel.create_initialization_options = lambda: initialization_options(announced)


@server.tool(name=prefix + "add")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name=prefix + "wait")
async def wait(path: str, context: Context) -> str:
    """Wait until a file exists."""
    rounds = 0
    while not pathlib.Path(path).exists():
        rounds += 1
        await context.report_progress(rounds, message="waiting")
        await asyncio.sleep(0.05)
    return "it is there"


@server.tool(name=prefix + "grow")
async def grow(name: str, context: Context) -> str:
    """Add a tool that answers "grown"."""
    server.add_tool(lambda: "grown", name=prefix + name, description="Grown.")
    await context.session.send_tool_list_changed()
    return f"{prefix}{name} is there"


app = server.streamable_http_app()
app.router.routes.extend(server.sse_app().routes)
uvicorn.run(app, host="127.0.0.1", port=port, log_level="info", timeout_graceful_shutdown=1)
