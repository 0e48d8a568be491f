//! One path on its way in: out of the cluster, into the daemon.
use super::{Error, Fetch};
use crate::board::Daemon;
use crate::rpc::Coordinator;
use crate::ui::Ui;
use nix_daemon::{NarImport, PathInfo};
use proto::convert::SignedPathInfo;
use tokio::net::UnixStream;

/// Imports one path. A broken link is waited for inside the daemon's operation, and the download goes on where it broke.
#[tracing::instrument(name = "import", skip_all, fields(path = %info.id.path, bytes = info.facts.nar_size))]
pub(super) async fn transfer(
    coordinator: &Coordinator,
    daemon: &mut Daemon,
    info: &SignedPathInfo,
    ui: &Ui,
) -> Result<(), Error> {
    ui.path_begins(&info.id.path, info.facts.nar_size);
    let mut import = daemon.add_to_store_nar(&path_info(info)).await?;
    match stream(Fetch::new(coordinator, info, ui), &mut import).await {
        Ok(()) => import.finish().await.map_err(|error| explain(info, error))?,
        Err(error) => {
            import.abandon().await?;
            return Err(error);
        }
    }
    ui.path_ends(&info.id.path);
    Ok(())
}

async fn stream(mut fetch: Fetch<'_>, import: &mut NarImport<'_, UnixStream>) -> Result<(), Error> {
    while let Some(bytes) = fetch.next().await? {
        import.write(&bytes).await?;
    }
    Ok(())
}

/// In the daemon's words.
pub fn path_info(info: &SignedPathInfo) -> PathInfo {
    PathInfo {
        path: info.id.path.to_string(),
        deriver: info.facts.deriver.as_ref().map(ToString::to_string),
        nar_sha256: info.facts.nar_sha256,
        nar_size: info.facts.nar_size,
        references: info.facts.references.iter().map(ToString::to_string).collect(),
        signatures: info.signatures.clone(),
        content_address: info.facts.content_address.clone(),
    }
}

fn explain(info: &SignedPathInfo, error: nix_daemon::Error) -> Error {
    if !error.is_lack_of_signature() {
        return error.into();
    }
    let key_name = |signature: &String| signature.split(':').next().unwrap_or(signature).to_owned();
    let mut keys: Vec<String> = info.signatures.iter().map(key_name).collect();
    if keys.is_empty() {
        keys.push("nobody".to_owned());
    }
    Error::NotTrusted { path: info.id.path.clone(), keys, source: error }
}
