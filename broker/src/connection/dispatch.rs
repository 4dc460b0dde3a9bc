//! From a frame to a typed call and back.

use super::server::Peer;
use crate::api::Api;
use crate::metrics as names;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::frame::{decode_header, encode_header};
use headwater_protocol::messages::cluster::{HelloRequest, MetadataRequest};
use headwater_protocol::messages::log::{DescribeLogRequest, VerifyLogRequest};
use headwater_protocol::messages::module::{
    DeleteModuleRequest, DescribeModuleRequest, ListModulesRequest, UploadModuleRequest,
};
use headwater_protocol::messages::processor::{
    DeleteProcessorRequest, DeployProcessorRequest, DescribeProcessorRequest, EndShadowRequest, ListProcessorsRequest,
    ProcessorLogsRequest, RollbackProcessorRequest, SetProcessorPausedRequest,
};
use headwater_protocol::messages::records::{
    Acks, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
};
use headwater_protocol::messages::topic::{
    AlterTopicRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
};
use headwater_protocol::messages::{ApiKey, Reply, Request};
use headwater_transport::{BudgetPermit, Frame, FrameTag};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A frame to send.
pub(crate) struct Answer {
    /// Repeats the request's.
    pub(crate) tag: FrameTag,
    /// A [`Reply`], encoded.
    pub(crate) header: Vec<u8>,
    /// Raw batches.
    pub(crate) body: Vec<Bytes>,
    /// The body's share of the broker's memory for answers, until it is sent.
    pub(crate) permit: Option<BudgetPermit>,
}

/// What a request will be answered with; `None` for one that wants no answer.
pub(crate) type Answering = BoxFuture<'static, Option<Answer>>;

/// Begins a request: what has to happen in the stream's order (appending) has happened when this returns.
pub(crate) fn dispatch(api: &Arc<Api>, peer: &Arc<Peer>, frame: Frame) -> Answering {
    let tag = FrameTag::from(&frame.prefix);
    let refuse = |code, message: String| ready(answer::<()>(tag, Err(ApiError::new(code, message)), Vec::new()));
    let Some(key) = ApiKey::from_number(tag.api) else {
        return refuse(ErrorCode::UnsupportedVersion, format!("this broker has no api {}", tag.api));
    };
    let version_is_known = ApiKey::SUPPORTED
        .iter()
        .any(|(known, lowest, highest)| *known == key && (*lowest..=*highest).contains(&tag.version));
    if !version_is_known {
        return refuse(ErrorCode::UnsupportedVersion, format!("this broker has no version {} of {key:?}", tag.version));
    }
    if key != ApiKey::Hello && !peer.greeted.load(Ordering::Acquire) {
        return refuse(ErrorCode::InvalidRequest, "the first request of a connection must be hello".to_owned());
    }
    metrics::counter!(names::REQUESTS, "api" => format!("{key:?}")).increment(1);
    route(api, peer, key, tag, frame)
}

fn route(api: &Arc<Api>, peer: &Arc<Peer>, key: ApiKey, tag: FrameTag, frame: Frame) -> Answering {
    let call = Call { api, peer, tag, frame };
    match key {
        ApiKey::Hello => call.hello(),
        ApiKey::Produce => call.produce(),
        ApiKey::Fetch => call.fetch(),
        ApiKey::UploadModule => call.upload_module(),
        ApiKey::ListOffsets => call.simple(async |api, request: ListOffsetsRequest| api.list_offsets(request).await),
        ApiKey::Metadata => call.simple(async |api, request: MetadataRequest| api.metadata(request).await),
        ApiKey::InitProducerId => call.simple(async |api, _: InitProducerIdRequest| api.init_producer_id().await),
        ApiKey::CreateTopics => call.simple(async |api, request: CreateTopicsRequest| api.create_topics(request).await),
        ApiKey::DeleteTopics => call.simple(async |api, request: DeleteTopicsRequest| api.delete_topics(request).await),
        ApiKey::AlterTopic => call.simple(async |api, request: AlterTopicRequest| api.alter_topic(request).await),
        ApiKey::DeleteRecords => {
            call.simple(async |api, request: DeleteRecordsRequest| api.delete_records(request).await)
        }
        ApiKey::DescribeLog => call.simple(async |api, request: DescribeLogRequest| api.describe_log(request).await),
        ApiKey::VerifyLog => call.simple(async |api, request: VerifyLogRequest| api.verify_log(request).await),
        ApiKey::DescribeLogDirs => {
            call.simple(async |api, request: DescribeLogDirsRequest| api.describe_log_dirs(request).await)
        }
        ApiKey::ListModules => call.simple(async |api, _: ListModulesRequest| api.list_modules().await),
        ApiKey::DescribeModule => {
            call.simple(async |api, request: DescribeModuleRequest| api.describe_module(request).await)
        }
        ApiKey::DeleteModule => call.simple(async |api, request: DeleteModuleRequest| api.delete_module(request).await),
        ApiKey::DeployProcessor => {
            call.simple(async |api, request: DeployProcessorRequest| api.deploy_processor(request).await)
        }
        ApiKey::ListProcessors => call.simple(async |api, _: ListProcessorsRequest| api.list_processors().await),
        ApiKey::DescribeProcessor => {
            call.simple(async |api, request: DescribeProcessorRequest| api.describe_processor(request).await)
        }
        ApiKey::RollbackProcessor => {
            call.simple(async |api, request: RollbackProcessorRequest| api.rollback_processor(request).await)
        }
        ApiKey::EndShadow => call.simple(async |api, request: EndShadowRequest| api.end_shadow(request).await),
        ApiKey::SetProcessorPaused => {
            call.simple(async |api, request: SetProcessorPausedRequest| api.set_processor_paused(request).await)
        }
        ApiKey::DeleteProcessor => {
            call.simple(async |api, request: DeleteProcessorRequest| api.delete_processor(request).await)
        }
        ApiKey::ProcessorLogs => {
            call.simple(async |api, request: ProcessorLogsRequest| api.processor_logs(request).await)
        }
    }
}

/// A request on its way to its handler.
struct Call<'a> {
    api: &'a Arc<Api>,
    peer: &'a Arc<Peer>,
    tag: FrameTag,
    frame: Frame,
}

impl Call<'_> {
    fn decode<R: Request>(&self) -> Result<R, ApiError> {
        decode_header(&self.frame.header).map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))
    }

    /// A request that may do what it asks for: its header decodes, its sender is allowed to.
    fn admitted<R: Request>(&self) -> Result<R, ApiError> {
        let request = self.decode()?;
        self.api.authorize(&self.peer.principal, R::API)?;
        Ok(request)
    }

    /// A request without a body either way.
    fn simple<R, H, F>(self, handler: H) -> Answering
    where
        R: Request + Send + 'static,
        R::Response: Send,
        H: FnOnce(Arc<Api>, R) -> F,
        F: Future<Output = Result<R::Response, ApiError>> + Send + 'static,
    {
        let tag = self.tag;
        match self.admitted::<R>() {
            Ok(request) => {
                let handling = handler(Arc::clone(self.api), request);
                Box::pin(async move { Some(answer(tag, handling.await, Vec::new())) })
            }
            Err(error) => ready(answer::<R::Response>(tag, Err(error), Vec::new())),
        }
    }

    fn hello(self) -> Answering {
        let answered = self.decode::<HelloRequest>().and_then(|request| self.api.hello(&request));
        if answered.is_ok() {
            self.peer.greeted.store(true, Ordering::Release);
        }
        ready(answer(self.tag, answered, Vec::new()))
    }

    fn produce(self) -> Answering {
        let tag = self.tag;
        let request = match self.admitted::<ProduceRequest>() {
            Ok(request) => request,
            Err(error) => return ready(answer::<()>(tag, Err(error), Vec::new())),
        };
        let wants_answer = request.acks != Acks::None;
        let appending = self.api.produce(request, self.frame.body, self.frame.permit);
        Box::pin(async move {
            let appended = appending.await;
            wants_answer.then(|| answer(tag, appended, Vec::new()))
        })
    }

    fn fetch(self) -> Answering {
        let tag = self.tag;
        let request = match self.admitted::<FetchRequest>() {
            Ok(request) => request,
            Err(error) => return ready(answer::<()>(tag, Err(error), Vec::new())),
        };
        let api = Arc::clone(self.api);
        Box::pin(async move {
            Some(match api.fetch(request).await {
                Ok((response, batches, permit)) => {
                    Answer { permit: Some(permit), ..answer(tag, Ok(response), batches) }
                }
                Err(error) => answer::<()>(tag, Err(error), Vec::new()),
            })
        })
    }

    fn upload_module(self) -> Answering {
        let tag = self.tag;
        let request = match self.admitted::<UploadModuleRequest>() {
            Ok(request) => request,
            Err(error) => return ready(answer::<()>(tag, Err(error), Vec::new())),
        };
        let api = Arc::clone(self.api);
        let Frame { body, permit, .. } = self.frame;
        Box::pin(async move {
            let uploaded = api.upload_module(request, body).await;
            drop(permit);
            Some(answer(tag, uploaded, Vec::new()))
        })
    }
}

/// The api as metrics name it; numbers that nobody knows share one name, for a peer could send any.
fn api_name(number: u16) -> String {
    ApiKey::from_number(number).map_or_else(|| "unknown".to_owned(), |key| format!("{key:?}"))
}

fn ready(answer: Answer) -> Answering {
    Box::pin(std::future::ready(Some(answer)))
}

fn answer<T: Serialize>(tag: FrameTag, reply: Reply<T>, body: Vec<Bytes>) -> Answer {
    if let Err(error) = &reply {
        let code = error.code.to_string();
        metrics::counter!(names::REQUEST_ERRORS, "api" => api_name(tag.api), "code" => code).increment(1);
    }
    match encode_header(&reply) {
        Ok(header) => Answer { tag, header, body, permit: None },
        Err(error) => {
            tracing::error!(api = tag.api, %error, "an answer is too large to be sent");
            let sorry = ApiError::new(ErrorCode::UnknownServerError, format!("the answer can't be sent: {error}"));
            let header = encode_header(&Reply::<()>::Err(sorry)).unwrap_or_default();
            Answer { tag, header, body: Vec::new(), permit: None }
        }
    }
}
