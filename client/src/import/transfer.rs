//! One path's way: out of Blobs.Download, through the verifier, into AddToStoreNar.
use super::{Error, Verifier};
use crate::board::Daemon;
use crate::rpc::{CallError, Coordinator};
use crate::ui::Ui;
use nix_daemon::{NarImport, PathInfo};
use node::backoff::Backoff;
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
    match stream(coordinator, &mut import, info, ui).await {
        Ok(()) => import.finish().await.map_err(|error| explain(info, error))?,
        Err(error) => {
            import.abandon().await?;
            return Err(error);
        }
    }
    ui.path_ends(&info.id.path);
    Ok(())
}

async fn stream(
    coordinator: &Coordinator,
    import: &mut NarImport<'_, UnixStream>,
    info: &SignedPathInfo,
    ui: &Ui,
) -> Result<(), Error> {
    let path = &info.id.path;
    let mismatch = |mismatch| Error::Mismatch { path: path.clone(), mismatch };
    let mut verifier = Verifier::new(&info.facts);
    let mut backoff = Backoff::for_connections();
    loop {
        let before = verifier.received();
        let broken: CallError = match coordinator.download(path, before).await {
            Err(error) => error,
            Ok(mut download) => loop {
                match download.chunk().await {
                    Ok(Some(chunk)) => {
                        let size = chunk.len() as u64;
                        import.write(&verifier.push(chunk).map_err(mismatch)?).await?;
                        ui.bytes_moved(size);
                    }
                    Ok(None) => {
                        import.write(&verifier.finish().map_err(mismatch)?).await?;
                        return Ok(());
                    }
                    Err(error) => break error,
                }
            },
        };
        if !broken.is_link_lost() {
            return Err(broken.into());
        }
        if verifier.received() > before {
            backoff.reset();
        }
        ui.link_lost(&broken);
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

fn path_info(info: &SignedPathInfo) -> PathInfo {
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
