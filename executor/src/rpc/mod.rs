//! Where the wire is: messages, the Blobs service and its client, results on disk. No decisions.

pub mod blobs;
pub mod download;
pub mod messages;
pub mod peers;
pub mod results;
pub mod server;
