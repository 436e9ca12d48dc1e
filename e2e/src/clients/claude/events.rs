//! What `--output-format stream-json` says, as far as the tests ask.

use serde_json::Value;

use crate::clients::model::ToolResult;

/// What a run starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// The names of all tools of MCP servers, sorted.
    pub tools: Vec<String>,
    /// Each server's name and status, `connected` if all is well.
    pub servers: Vec<(String, String)>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The run starts.
    Init(Init),
    /// A tool answered.
    Result(ToolResult),
    /// The run ends with this text.
    End(String),
}

/// All that happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What it started with.
    pub init: Option<Init>,
    /// What the tools answered, the oldest first.
    pub results: Vec<ToolResult>,
    /// What the model said at the end.
    pub text: Option<String>,
}

impl Event {
    /// Reads a line; most mean nothing here.
    pub fn parse(line: &str) -> Vec<Self> {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            return Vec::new();
        };
        match (line["type"].as_str(), line["subtype"].as_str()) {
            (Some("system"), Some("init")) => vec![Self::Init(Init::parse(&line))],
            (Some("user"), _) => {
                let blocks = line["message"]["content"].as_array().into_iter().flatten();
                blocks.filter_map(ToolResult::parse).map(Self::Result).collect()
            }
            (Some("result"), _) => {
                vec![Self::End(line["result"].as_str().unwrap_or_default().to_owned())]
            }
            _ => Vec::new(),
        }
    }
}

impl Init {
    fn parse(line: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |name: &str| line[name].as_array().cloned().unwrap_or_default();
        let mut tools: Vec<String> = list("tools").iter().map(text).collect();
        tools.retain(|tool| tool.starts_with("mcp__"));
        tools.sort_unstable();
        let server = |server: &Value| (text(&server["name"]), text(&server["status"]));

        Self { tools, servers: list("mcp_servers").iter().map(server).collect() }
    }
}

impl Outcome {
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Init(init) => self.init = Some(init),
            Event::Result(result) => self.results.push(result),
            Event::End(text) => self.text = Some(text),
        }
    }
}
