"""Holds sessions of the official MCP SDK (line 1 or 2, whichever is installed) for a test that speaks JSON lines.

    python sessions.py '{"mode": "auto" | "legacy" | "2026-07-28", "targets": [TARGET, …]}'

A TARGET is {"url": …, "transport": "http" | "sse", "headers": …}, or {"command": […], "env": …} for a process that is
spoken to over its standard input and output. Opens a session with each and writes {"event": "open", "protocol":
REVISION} for it, with its number in "session". Then every line read, {"id": I, "session": S, "do": …, …}, is answered
by a line with the same id and either "ok" or "error"; commands of one session overlap. They are

    list     the names of the tools
    call     "name", "arguments", "progress" (whether to ask for it), "digest" (whether a hash does for the text),
             "cancel" (whether to cancel it at its first progress)
    subscribe  to the resource "uri"
    answer   what the user was asked, with "text" in each field
    close

What happens by itself is an event: "list_changed", "updated" (a resource), "asked" (the user, if the options have
"user": true), "progress", "fault" (the transport says so) and "lost" (the session ended and nobody closed it).
"""

import asyncio
import contextlib
import hashlib
import json
import sys
import traceback

from mcp import types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

try:
    import httpx2 as httpx
    from mcp import Client
except ImportError:
    import httpx
    from mcp import ClientSession

    Client = None

options = json.loads(sys.argv[1])


def say(message):
    print(json.dumps(message), flush=True)


def transport(target):
    if "command" in target:
        program, *arguments = target["command"]
        return stdio_client(StdioServerParameters(command=program, args=arguments, env=target["env"]))
    headers = target["headers"]
    if target["transport"] == "sse":
        return sse_client(target["url"], headers=headers)
    # The timeouts that the SDK's own client has; httpx would end an idle stream after 5 s.
    client = httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(30, read=300))
    return streamable_http_client(target["url"], http_client=client)


@contextlib.asynccontextmanager
async def connect(target, on_message, on_question):
    """A session of either line, and the revision it speaks."""
    if Client is not None:
        # Without a cache every list is one request.
        client = Client(
            transport(target),
            mode=options["mode"],
            message_handler=on_message,
            elicitation_callback=on_question,
            cache=None,
        )
        async with client:
            yield client, client.protocol_version
        return
    async with transport(target) as (read, write, *_):
        handlers = {"message_handler": on_message, "elicitation_callback": on_question}
        async with ClientSession(read, write, **handlers) as session:
            yield session, (await session.initialize()).protocolVersion


async def cancel_request(session, request_id):
    """Line 1 leaves it to the caller to tell the server; line 2 does when the task ends that waits for the call."""
    params = types.CancelledNotificationParams(requestId=request_id, reason="a test wants it no more")
    notification = types.CancelledNotification(method="notifications/cancelled", params=params)
    await session.send_notification(types.ClientNotification(notification))


def reason(error):
    """An exception as a test wants to read it: the first real one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    known = getattr(error, "error", None)
    return {"message": str(error) or repr(error), "code": getattr(known, "code", None)}


# Seconds before a client listens again, as Claude Code waits.
RELISTEN = 1


class Session:
    def __init__(self, number, target):
        self.number = number
        self.target = target
        self.commands = asyncio.Queue()
        self.answers = asyncio.Queue()

    def event(self, name, **details):
        say({"event": name, "session": self.number, **details})

    async def on_message(self, message):
        if isinstance(message, Exception):
            self.event("fault", **reason(message))
            return
        method = getattr(getattr(message, "root", message), "method", None)
        if method == "notifications/tools/list_changed":
            self.event("list_changed")
        if method == "notifications/resources/updated":
            self.event("updated", uri=str(getattr(message, "root", message).params.uri))

    async def on_question(self, context, params):
        self.event("asked")
        text = await self.answers.get()
        schema = getattr(params, "requested_schema", None) or params.requestedSchema
        return types.ElicitResult(action="accept", content={name: text for name in schema["properties"]})

    async def live(self):
        """The session's whole life: the SDK wants it opened, used and closed by one task."""
        on_question = self.on_question if options.get("user") else None
        try:
            async with connect(self.target, self.on_message, on_question) as (client, protocol), asyncio.TaskGroup() as tasks:
                listener = await self.listen(client, protocol, tasks)
                self.event("open", protocol=protocol)
                while (command := await self.commands.get())["do"] != "close":
                    tasks.create_task(self.answer(client, command))
                if listener is not None:
                    listener.cancel()
            say({"id": command["id"], "ok": {}})
        except BaseException as error:
            traceback.print_exception(error)
            self.event("lost", **reason(error))
            while (command := await self.commands.get())["do"] != "close":
                say({"id": command["id"], "error": reason(error)})

    async def listen(self, client, protocol, tasks):
        """From 2026-07-28 on changes come only to those who ask."""
        if protocol < "2026-07-28":
            return None
        ready = asyncio.Event()

        async def events():
            # The SDK leaves it to its user to listen again when the stream ends.
            while True:
                try:
                    async with client.listen(tools_list_changed=True) as subscription:
                        if ready.is_set():
                            # What changed in between nobody tells.
                            self.event("list_changed")
                        ready.set()
                        async for _ in subscription:
                            self.event("list_changed")
                except Exception as error:
                    if not ready.is_set():
                        raise
                    self.event("fault", **reason(error))
                await asyncio.sleep(RELISTEN)

        task = tasks.create_task(events())
        await ready.wait()
        return task

    async def answer(self, client, command):
        try:
            say({"id": command["id"], "ok": await self.perform(client, command)})
        except Exception as error:
            say({"id": command["id"], "error": reason(error)})
        except asyncio.CancelledError:
            say({"id": command["id"], "error": {"message": "the session ended under the call", "code": None}})
            raise

    async def perform(self, client, command):
        if command["do"] == "list":
            return sorted(tool.name for tool in (await client.list_tools()).tools)
        if command["do"] == "subscribe":
            await client.subscribe_resource(command["uri"])
            return {}
        if command["do"] == "answer":
            self.answers.put_nowait(command["text"])
            return {}
        if command.get("cancel"):
            return await self.cancelled_call(client, command)

        async def on_progress(progress, total, message):
            self.event("progress", progress=progress, message=message)

        on_progress = on_progress if command["progress"] else None
        name, arguments = command["name"], command["arguments"]
        result = await client.call_tool(name, arguments, progress_callback=on_progress)
        text = "\n".join(block.text for block in result.content if block.type == "text")
        is_error = result.is_error if Client is not None else result.isError
        if command.get("digest"):
            text = f"{len(text)} {hashlib.sha256(text.encode()).hexdigest()}"
        return {"text": text, "is_error": bool(is_error)}

    async def cancelled_call(self, client, command):
        """Says how the call ended after it was cancelled; an answer is the end of one that was not."""
        begun = asyncio.Event()

        async def on_progress(progress, total, message):
            begun.set()

        request_id = getattr(client, "_request_id", None)
        call = client.call_tool(command["name"], command["arguments"], progress_callback=on_progress)
        call = asyncio.ensure_future(call)
        progressed = asyncio.ensure_future(begun.wait())
        await asyncio.wait([call, progressed], return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            progressed.cancel()
            return {"text": f"ended by itself: {call.exception() or call.result()}", "is_error": True}
        if request_id is not None:
            await cancel_request(client, request_id)
        call.cancel()
        await asyncio.wait([call])
        return {"text": "cancelled", "is_error": False}


async def main():
    sessions = [Session(number, target) for number, target in enumerate(options["targets"])]
    async with asyncio.TaskGroup() as tasks:
        for session in sessions:
            tasks.create_task(session.live())
        lines = asyncio.StreamReader(limit=2**26)
        protocol = asyncio.StreamReaderProtocol(lines)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        async for line in lines:
            command = json.loads(line)
            sessions[command["session"]].commands.put_nowait(command)
        for session in sessions:
            session.commands.put_nowait({"id": None, "do": "close"})


asyncio.run(main())
