"""A real MCP server to set clients and gateways against, on the official SDK (line 1 or 2, whichever is installed).

    python reference.py PORT [PREFIX]

Serves /mcp (Streamable HTTP, with sessions; line 2 also 2026-07-28) and /sse on 127.0.0.1. Tools, each with PREFIX
before its name: `add(a, b)`; `wait(path)`, which reports progress every 50 ms and answers once the file exists;
`grow(name)`, which adds a tool of that name and announces it to the session that called and to all who subscribed;
`shrink(name)`, which removes it; `big(size)`, which answers so many digits; `fail(message)`, which fails.
"""

import asyncio
import pathlib
import sys

import uvicorn
from mcp.server.lowlevel import NotificationOptions

try:
    from mcp.server.mcpserver import Context, MCPServer
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

port, prefix = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
server = MCPServer("reference")
lowlevel = getattr(server, "_lowlevel_server", None) or server._mcp_server
initialization_options = lowlevel.create_initialization_options
# There is no public way to announce that the list changes, and clients ignore what was not announced.
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


async def announce(context):
    await context.session.send_tool_list_changed()
    if hasattr(context, "notify_tools_changed"):
        await context.notify_tools_changed()


@server.tool(name=prefix + "grow")
async def grow(name: str, context: Context) -> str:
    """Add a tool that answers "grown"."""
    server.add_tool(lambda: "grown", name=prefix + name, description="Grown.")
    await announce(context)
    return f"{prefix}{name} is there"


@server.tool(name=prefix + "shrink")
async def shrink(name: str, context: Context) -> str:
    """Remove a tool that was added."""
    server.remove_tool(prefix + name)
    await announce(context)
    return f"{prefix}{name} is gone"


@server.tool(name=prefix + "big", structured_output=False)
def big(size: int) -> str:
    """Answer with so many digits."""
    return ("0123456789" * (size // 10 + 1))[:size]


@server.tool(name=prefix + "fail")
def fail(message: str) -> str:
    """Fail with a message."""
    raise ValueError(message)


app = server.streamable_http_app()
app.router.routes.extend(server.sse_app().routes)
uvicorn.run(app, host="127.0.0.1", port=port, log_level="info", timeout_graceful_shutdown=1)
