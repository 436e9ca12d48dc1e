// Holds sessions of the official TypeScript SDK for a test that speaks JSON lines, as sessions.py does: its text says
// what is read and written.
//
//     node sessions.mjs DIRECTORY LINE '{"mode": "auto" | "legacy" | "2026-07-28", "targets": [TARGET, …]}'
//
// DIRECTORY is where `node_modules` is, LINE is 1 (`@modelcontextprotocol/sdk`) or 2 (`@modelcontextprotocol/client`).

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [directory, line, text] = process.argv.slice(2);
const options = JSON.parse(text);
const require = createRequire(`${directory}/`);
const sdk = line === "1" ? lineOne() : require("@modelcontextprotocol/client");

// Milliseconds before a client listens again, as Claude Code waits.
const RELISTEN = 1000;

const LIST_CHANGED = "notifications/tools/list_changed";
const UPDATED = "notifications/resources/updated";
const ELICIT = "elicitation/create";

function lineOne() {
  const { SSEClientTransport } = require("@modelcontextprotocol/sdk/client/sse.js");
  const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const types = require("@modelcontextprotocol/sdk/types.js");
  return { SSEClientTransport, StreamableHTTPClientTransport, Client, ...types };
}

function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function reason(error) {
  const code = typeof error?.code === "number" ? error.code : null;
  return { message: String(error?.message ?? error), code };
}

function transport(target) {
  const Transport = target.transport === "sse" ? sdk.SSEClientTransport : sdk.StreamableHTTPClientTransport;
  return new Transport(new URL(target.url), { requestInit: { headers: target.headers } });
}

class Session {
  constructor(number, target) {
    this.number = number;
    this.target = target;
    this.closing = false;
  }

  event(name, details) {
    say({ event: name, session: this.number, ...details });
  }

  async open() {
    const mode = options.mode.startsWith("20") ? { pin: options.mode } : options.mode;
    const capabilities = options.user ? { elicitation: {} } : {};
    const client = new sdk.Client({ name: "sessions", version: "1" }, { versionNegotiation: { mode }, capabilities });
    this.client = client;
    const changed = () => this.event("list_changed", {});
    client.setNotificationHandler(line === "1" ? sdk.ToolListChangedNotificationSchema : LIST_CHANGED, changed);
    const updated = ({ params }) => this.event("updated", { uri: params.uri });
    client.setNotificationHandler(line === "1" ? sdk.ResourceUpdatedNotificationSchema : UPDATED, updated);
    if (options.user) {
      const answer = (request) => this.ask(request.params);
      client.setRequestHandler(line === "1" ? sdk.ElicitRequestSchema : ELICIT, answer);
    }
    client.onerror = (error) => this.event("fault", reason(error));
    client.onclose = () => this.closing || this.event("lost", { message: "the connection closed" });
    const connection = transport(this.target);
    // Line 1 tells nobody but its transport.
    let protocol;
    const setProtocolVersion = connection.setProtocolVersion.bind(connection);
    connection.setProtocolVersion = (version) => setProtocolVersion((protocol = version));
    try {
      await client.connect(connection);
      protocol = client.getNegotiatedProtocolVersion?.() ?? protocol;
      if (protocol >= "2026-07-28") {
        await this.listen();
      }
      this.event("open", { protocol });
    } catch (error) {
      console.error(error);
      this.closing = true;
      this.event("lost", reason(error));
    }
  }

  async ask(question) {
    const text = await new Promise((resolve) => {
      this.answer = resolve;
      this.event("asked", {});
    });
    const fields = Object.keys(question.requestedSchema.properties);
    return { action: "accept", content: Object.fromEntries(fields.map((name) => [name, text])) };
  }

  async listen() {
    const subscription = await this.client.listen({ toolsListChanged: true });
    subscription.closed.then(() => this.listenAgain());
  }

  // The SDK leaves it to its user to listen again when the stream ends. What changed in between nobody tells.
  listenAgain() {
    if (this.closing) {
      return;
    }
    const again = async () => {
      try {
        await this.listen();
        this.event("list_changed", {});
      } catch (error) {
        this.event("fault", reason(error));
        this.listenAgain();
      }
    };
    setTimeout(again, RELISTEN);
  }

  async perform(command) {
    if (command.do === "close") {
      this.closing = true;
      await this.client.close();
      return {};
    }
    if (command.do === "list") {
      const { tools } = await this.client.listTools();
      return tools.map((tool) => tool.name).sort();
    }
    if (command.do === "subscribe") {
      return await this.client.subscribeResource({ uri: command.uri });
    }
    if (command.do === "answer") {
      this.answer(command.text);
      return {};
    }
    return command.cancel ? await this.cancelledCall(command) : await this.call(command, {});
  }

  async call(command, callOptions) {
    if (command.progress) {
      callOptions.onprogress = ({ progress, message }) => this.event("progress", { progress, message });
    }
    const call = { name: command.name, arguments: command.arguments };
    const result =
      line === "1"
        ? await this.client.callTool(call, undefined, callOptions)
        : await this.client.callTool(call, callOptions);
    const texts = result.content.filter((block) => block.type === "text").map((block) => block.text);
    let text = texts.join("\n");
    if (command.digest) {
      text = `${text.length} ${createHash("sha256").update(text).digest("hex")}`;
    }
    return { text, is_error: Boolean(result.isError) };
  }

  // Says how the call ended after it was cancelled; an answer is the end of one that was not.
  async cancelledCall(command) {
    const controller = new AbortController();
    const callOptions = { signal: controller.signal, onprogress: () => controller.abort("a test wants it no more") };
    try {
      const { text } = await this.call({ ...command, progress: false }, callOptions);
      return { text: `ended by itself: ${text}`, is_error: true };
    } catch (error) {
      if (!controller.signal.aborted) {
        throw error;
      }
      return { text: "cancelled", is_error: false };
    }
  }
}

const sessions = options.targets.map((target, number) => new Session(number, target));
const opened = sessions.map((session) => session.open());
for await (const text of createInterface({ input: process.stdin })) {
  const command = JSON.parse(text);
  const session = sessions[command.session];
  opened[command.session]
    .then(() => session.perform(command))
    .then((ok) => say({ id: command.id, ok }))
    .catch((error) => say({ id: command.id, error: reason(error) }));
}
for (const session of sessions) {
  session.closing = true;
  await session.client?.close().catch(() => {});
}
process.exit(0);
