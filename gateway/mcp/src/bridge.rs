//! The bridge between the two eras: what each message becomes. Documentation only.
//!
//! *Legacy* is 2024-11-05 to 2025-11-25, *modern* is 2026-07-28. Between two of the same era messages
//! pass as they are, apart from ids, progress tokens, prefixed names and mapped URIs. Unknown methods,
//! fields, capabilities, extensions and kinds of results pass in every cell.
//!
//! # A legacy client and a modern server
//!
//! | the client sends | the server gets | the client gets |
//! |---|---|---|
//! | `initialize` | nothing, or `server/discover` | our answer: a legacy revision and, at the URL of one server, that server's capabilities |
//! | `notifications/initialized` | nothing | – |
//! | `ping` | nothing | `{}` |
//! | any other request | the same with the client's version, capabilities and info in `_meta` ([`envelope_edits`]) and the headers that repeat it ([`header`]) | the result without `resultType` ([`to_legacy`]); `ttlMs` and `cacheScope` stay, legacy clients ignore them |
//! | `tools/call` of a tool with `x-mcp-header` | the same with `Mcp-Param-*` ([`ParamHeaders`]); on -32020 the list is read again and the call sent once more | its result, or that error |
//! | a call that is answered `input_required` | the call again with `inputResponses` and the state ([`retry_edits`]), at most ten times | a request for each entry on the call's own stream ([`input::request`]), then the result |
//! | `logging/setLevel` | nothing; later requests carry it as `logLevel` | `{}`, and log messages of its calls |
//! | `resources/subscribe`, `resources/unsubscribe` | a `subscriptions/listen` that names the URI, or no longer | `{}`, and `notifications/resources/updated` |
//! | nothing: its stream is open | a `subscriptions/listen` | list changes, without `subscriptionId` |
//! | `notifications/cancelled` | the end of the call's stream | nothing more for the call |
//! | `notifications/roots/list_changed` | nothing: servers ask anew each time | – |
//! | `notifications/progress` for a request of the server | nothing: there is no such request | – |
//! | a result or error of its own | part of the next try | – |
//! | `completion/complete`, lists, `prompts/get`, `resources/read` | as any other request | as any other result |
//! | its disconnect | nothing: legacy clients cancel with a message | – |
//!
//! # A modern client and a legacy server
//!
//! | the client sends | the server gets | the client gets |
//! |---|---|---|
//! | `server/discover` | nothing (`initialize` once a session) | our versions, the server's capabilities, its info and instructions |
//! | any other request | the same without the envelope's members of `_meta` ([`strip_edits`]), in a session that declared the client's capabilities | the result with `resultType`, `serverInfo` and, where required, `ttlMs` and `cacheScope` ([`to_modern`]; [`modern_additions`] beyond what is held whole) |
//! | a call during which the server sends `elicitation/create`, `sampling/createMessage` or `roots/list` | the call stays open; the client's next try answers the server's requests by their ids | an `input_required` result ([`input_required`]) with a sealed state that names the open call |
//! | a call that is answered -32042 | the call again, once the client comes back | an `input_required` result with the URLs ([`url_elicitations`]) |
//! | a request with `logLevel` | `logging/setLevel` before it, where the client has a session of its own there and the level differs | log messages of that level and above on the request's own stream; without `logLevel` none |
//! | `subscriptions/listen` | `resources/subscribe` for each URI; for lists nothing: they are announced anyway | the acknowledgment ([`acknowledged`]), then notifications with its id ([`stamp`]) |
//! | its disconnect | `notifications/cancelled` | – |
//! | `ping`, `logging/setLevel`, `resources/subscribe`, `initialize` in a modern envelope | nothing | 404 and -32601: the modern era has none of these |
//!
//! Errors keep code, message and data, but for the codes that a modern client must not get
//! ([`modern_error`]): -32002 becomes -32602, -32042 without the capability for URLs becomes -32021, and
//! codes that 2026-07-28 reserves become -32603.
//!
//! # Two of one era
//!
//! | | two legacy ones | two modern ones |
//! |---|---|---|
//! | requests of the server | pass with ids of our own, on the stream of the call they belong to | there are none |
//! | `input_required` | there is none | passes, state and all, byte for byte |
//! | log messages | pass, from the client's level up | pass on the request's own stream |
//! | list changes, updates | pass on the client's stream | pass on its `subscriptions/listen`, under its own id |
//! | tasks | of 2025-11-25: pass, ids mapped | of the extension: pass, ids mapped, and to who listens for them |
//! | `cacheScope` | there is none | `private` where the answer depends on who asks |
//!
//! # What cannot be
//!
//! | what | why | what the client is told |
//! |---|---|---|
//! | tasks across eras | in 2025-11-25 the client decides that a call becomes a task and waits in `tasks/result`; in the extension the server decides and clients poll (SEP-2663). A client that does not know the kind cannot follow it. | a server that has the other kind answers calls at once; `task` in the params is ignored, as the revision without it asks |
//! | a legacy server's request while its client has no call open there, for a modern client | modern servers may ask only in the answer to a request (basic/patterns/mrtr) | nothing; the server gets -32601. While calls are open the latest is taken to be meant |
//! | a question of over 64 KiB of a modern server, for a legacy client | what is larger passes through unless it asks. Its `resultType` may stand last: an answer whose result has `inputRequests`, or nothing that tells, is put together, up to 4 MiB | up to there what it is asked; beyond, or if the `resultType` comes after 64 KiB of other members, an error that says so. Over Streamable HTTP the answer breaks off if a part of it was passed on |
//! | input in the midst of `completion/complete` or a list, for a modern client | only `tools/call`, `prompts/get` and `resources/read` may answer `input_required` | the result, if the server can do without: its request is answered with -32601 |
//! | an error in place of input, for a modern server | `inputResponses` holds results only | for elicitation, `{"action":"cancel"}` stands in; for others the call fails with an error that has the client's code |
//! | progress between two tries | each try is a request of its own, with its own token | progress of each try while it lasts |
//! | resuming a stream with `Last-Event-ID`, for a modern client | removed in 2026-07-28: a broken stream is a lost request | the header is ignored; the client asks again |
//! | `notifications/elicitation/complete`, for a modern client | removed in 2026-07-28 | nothing; it comes back by itself |
//!
//! [`ParamHeaders`]: crate::header::ParamHeaders
//! [`acknowledged`]: crate::subscription::acknowledged
//! [`envelope_edits`]: crate::modern::envelope_edits
//! [`header`]: crate::header
//! [`input::request`]: crate::input::request
//! [`input_required`]: crate::input::input_required
//! [`modern_additions`]: crate::result::modern_additions
//! [`modern_error`]: crate::error::modern_error
//! [`retry_edits`]: crate::input::retry_edits
//! [`stamp`]: crate::subscription::stamp
//! [`strip_edits`]: crate::modern::strip_edits
//! [`to_legacy`]: crate::result::to_legacy
//! [`to_modern`]: crate::result::to_modern
//! [`url_elicitations`]: crate::input::url_elicitations
