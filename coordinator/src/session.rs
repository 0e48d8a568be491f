//! One executor's session as engine and call see it: orders out, why it is over, what is leased in it.
use crate::config::BuildLimits;
use model::{BootId, ContentId, ExecutorName, PathFacts, Platform, StorePath, TaskId};
use scheduler::LeaseKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for a connection; an executor that is further behind loses its session, and states what it believes.
pub const ORDERS_QUEUED_MAX: usize = 1_024;

/// `host:port` where an executor serves what it holds.
pub type DataAddress = Arc<str>;

/// What an executor is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Run a task.
    Lease(Box<LeaseOrder>),
    /// End a lease.
    Cancel(LeaseKey),
    /// A report arrived.
    Acknowledge(LeaseKey),
    /// What a task that comes next needs.
    Prefetch(PrefetchOrder),
    /// Nothing that only it holds is needed.
    MayLeave,
    /// Nobody counts on these any more.
    MayDrop {
        /// Of the question.
        number: u64,
        /// What may go.
        contents: Vec<ContentId>,
    },
}

/// Permission to run one task once, with all that it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseOrder {
    /// Its name.
    pub lease: LeaseKey,
    /// Which task.
    pub task: TaskId,
    /// What is built, ATerm.
    pub text: Arc<[u8]>,
    /// Its path, when paths were put into the task's derivation.
    pub resolved_path: Option<StorePath>,
    /// On which platform.
    pub platform: Platform,
    /// The whole closure of the inputs, dependencies first.
    pub inputs: Vec<OrderedInput>,
    /// W3C trace context.
    pub trace: HashMap<String, String>,
    /// Limits of the build.
    pub limits: BuildLimits,
}

/// What may be fetched before a lease needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrefetchOrder {
    /// References first.
    pub inputs: Vec<OrderedInput>,
    /// W3C trace context.
    pub trace: HashMap<String, String>,
}

/// One path of a lease's input closure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderedInput {
    /// Which.
    pub id: ContentId,
    /// What is known about its bytes.
    pub facts: PathFacts,
    /// Where its bytes are, best first.
    pub sources: Vec<Source>,
}

/// Where bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// At an executor.
    Executor {
        /// The name that its certificate must carry.
        name: ExecutorName,
        /// Where it serves.
        address: DataAddress,
    },
    /// In the content store.
    ContentStore,
}

/// Why a session is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The same executor opened another one.
    Replaced,
    /// It was silent for too long.
    Lost,
    /// It does not take its orders.
    Slow,
    /// Another process of this name lives there.
    Rival(DataAddress),
}

/// The engine's end of a session.
#[derive(Debug)]
pub struct Session {
    /// Tells it from others of the same executor.
    pub number: u64,
    /// The name in the certificate.
    pub executor: ExecutorName,
    /// Which process it is.
    pub boot: BootId,
    /// Where it connects from.
    pub host: Option<IpAddr>,
    /// Where it serves what it holds.
    pub data_address: DataAddress,
    /// Orders for the connection.
    pub orders: mpsc::Sender<Order>,
    /// Ends the connection.
    pub end: oneshot::Sender<End>,
}
