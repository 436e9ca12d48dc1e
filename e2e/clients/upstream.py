"""A client that the conformance suite runs: it adds the suite's server to a gateway and uses it from before that.

    python upstream.py MANIFESTS GATEWAY KEY MODE SERVER

MANIFESTS is the directory that the gateway at GATEWAY watches, KEY the user's, MODE how the SDK finds the revision
("auto" or "legacy"); the suite appends SERVER, the URL of the server it plays, and names the scenario in its
environment. Ends with an error if something that has to work does not.
"""

import asyncio
import json
import os
import pathlib
import sys
import time
import urllib.request

import httpx2 as httpx
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

manifests, gateway, key, mode, server = sys.argv[1:]
scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))

NAME = "suite"
DEADLINE = 15

# What no server may offer and a gateway that offers it all the same would forward.
INVALID = [
    "invalid_empty_header",
    "invalid_object_header",
    "invalid_array_header",
    "invalid_null_header",
    "invalid_duplicate_same_case",
    "invalid_duplicate_diff_case",
    "invalid_space_in_name",
    "invalid_colon_in_name",
    "invalid_non_ascii_name",
    "invalid_control_char_name",
]


def add_server():
    """Writes the manifest at once and waits until the gateway has read it."""
    manifest = {
        "apiVersion": "fairway.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"url": server, "transport": "StreamableHttp"},
    }
    draft = pathlib.Path(manifests, f".{NAME}.draft")
    draft.write_text(json.dumps(manifest))
    draft.rename(pathlib.Path(manifests, f"{NAME}.yaml"))
    wait_backends([NAME])


def remove_server():
    """Takes it away again: a gateway would keep its stream open, and the suite waits until nobody is connected."""
    pathlib.Path(manifests, f"{NAME}.yaml").unlink()
    wait_backends([])


def wait_backends(backends):
    last = None
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        last = json.load(urllib.request.urlopen(f"{gateway}/health", timeout=DEADLINE))
        if last.get("backends") == backends:
            return
        time.sleep(0.02)
    raise TimeoutError(f"the gateway serves {last}, not {backends}")


async def fill_in(_, form):
    """Accepts a form with what it has filled in, as a person does who is content; without defaults, with yes."""
    fields = form.requested_schema.get("properties", {})
    content = {name: field.get("default", True) for name, field in fields.items()}
    return types.ElicitResult(action="accept", content=content)


async def use(client):
    if scenario == "http-custom-headers":
        for call in context["toolCalls"]:
            await client.call_tool(call["name"], call["arguments"])
        return
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    if scenario == "tools_call":
        await client.call_tool("add_numbers", {"a": 5, "b": 3})
    elif scenario == "json-schema-2020-12-preservation":
        schema = tools["json_schema_2020_12_tool"].input_schema
        await client.call_tool("json_schema_echo", {"schema": schema})
    elif scenario == "http-invalid-tool-headers":
        await client.call_tool("valid_tool", {"region": "here"})
        for name in INVALID:
            assert name not in tools, name
            await call_refused(client, name)
    elif scenario == "http-standard-headers":
        await client.call_tool("test_headers", {})
        prompts = (await client.list_prompts()).prompts
        await client.get_prompt(prompts[0].name)
        resources = (await client.list_resources()).resources
        await client.read_resource(str(resources[0].uri))
    elif scenario not in ("initialize", "request-metadata", "json-schema-ref-no-deref"):
        for name in tools:
            await client.call_tool(name, {})


async def call_refused(client, name):
    try:
        result = await client.call_tool(name, {"value": "x"})
    except Exception:
        return
    assert result.is_error, f"{name} was called"


async def main():
    add_server()
    http = httpx.AsyncClient(headers={"X-Api-Key": key}, timeout=httpx.Timeout(DEADLINE))
    transport = streamable_http_client(f"{gateway}/mcp/{NAME}", http_client=http)
    async with Client(transport, mode=mode, elicitation_callback=fill_in, cache=None) as client:
        await use(client)
    remove_server()


asyncio.run(main())
