//! The server as rmcp wants it: each request goes to the module that has the feature.
#![expect(deprecated, reason = "logging and resources/subscribe are what is served here")]

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
        CompleteResult, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult,
        Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
        ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ServerCapabilities, ServerConfig, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
        UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
    task_manager::TaskManager,
};

use crate::{
    audience::{Audience, Change},
    completion,
    era::{self, Era},
    input::{self, Call, Outcome},
    prompts, resources,
    seal::Seal,
    session::Session,
    tools,
};

/// The server as one session, or one request of the modern era, sees it.
#[derive(Clone)]
pub(crate) struct Conformance {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
}

/// What all sessions and requests have in common.
pub(crate) struct Shared {
    era: Era,
    audience: Audience,
    pub(crate) seal: Seal,
    pub(crate) tasks: TaskManager,
    tools: AtomicU64,
    prompts: AtomicU64,
    resources: AtomicU64,
}

impl Shared {
    pub(crate) fn new(era: Era) -> Result<Self> {
        Ok(Self {
            era,
            audience: Audience::default(),
            seal: Seal::new()?,
            tasks: TaskManager::new(),
            tools: AtomicU64::new(1),
            prompts: AtomicU64::new(1),
            resources: AtomicU64::new(1),
        })
    }
}

impl Conformance {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: Arc::new(Session::new()) }
    }

    /// Changes a list, so that it differs, and tells of it.
    pub(crate) async fn change(&self, change: Change) -> String {
        let list = match &change {
            Change::Tools => Some(&self.shared.tools),
            Change::Prompts => Some(&self.shared.prompts),
            Change::Resources => Some(&self.shared.resources),
            Change::Resource(_) => None,
        };
        if let Some(version) = list {
            version.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.audience.announce(&change).await;
        "Everyone who wants to know was told.".to_owned()
    }
}

impl ServerHandler for Conformance {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        if self.shared.era == Era::Legacy {
            capabilities.extensions = None;
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("Fixtures for the conformance suite.")
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(self.shared.era.versions())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if self.session.meet(context.peer) {
            self.shared.audience.join(&self.session);
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let version = self.shared.tools.load(Ordering::Relaxed);
        Ok(tools::list(version, era::is_modern(&context)))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = Call {
            name: request.name.into_owned(),
            arguments: request.arguments.unwrap_or_default(),
            responses: request.input_responses.unwrap_or_default(),
            state: request.request_state,
        };
        tools::call(self, call, &context).await
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(prompts::list(self.shared.prompts.load(Ordering::Relaxed)))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let call = Call {
            name: request.name,
            arguments: request.arguments.unwrap_or_default(),
            responses: request.input_responses.unwrap_or_default(),
            state: request.request_state,
        };
        let Some(flow) = input::prompt(&call.name) else {
            return prompts::get(&call.name, &call.arguments).map(Into::into);
        };
        Ok(match input::run(flow, call, &self.shared.seal, &context).await? {
            Outcome::Complete(result) => result.into(),
            Outcome::InputRequired(questions) => questions.into(),
        })
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        completion::complete(&request)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(resources::list(self.shared.resources.load(Ordering::Relaxed)))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&request.uri).map(Into::into)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session.watch(request.uri)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session.unwatch(&request.uri);
        Ok(())
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if era::is_modern(&context) {
            return Err(ErrorData::method_not_found::<rmcp::model::SetLevelRequestMethod>());
        }
        self.session.set_level(request.level);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.shared.audience.attend(&context).await;
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.shared.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.tasks.cancel_task(&request.task_id)
    }
}

/// How long a list or a resource may be kept: a change is told anyway.
pub(crate) const TTL_MS: u64 = 60_000;
