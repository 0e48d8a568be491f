//! Builtin builders: offered when one of them has just fetched a file.
use crate::blocking::blocking;
use crate::builtin::view::View;
use crate::builtin::{Control, Downloader, Task, perform};
use crate::config::Config;
use crate::lease::{LeaseKey, Limits};
use crate::session::uplink::Uplink;
use crate::tree;
use model::{Capability, Epoch, LeaseId, Offer, Platform, StorePath, Withheld};
use nix_formats::derivation::{Derivation, Method, Output};
use nix_formats::hash::{Hash, HashAlgorithm};
use nix_formats::store_path::StorePath as BaseName;
use node::exit::chain;
use std::collections::BTreeMap;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// The input of the proof; no real path has this hash.
const INPUT: &str = "/nix/store/00000000000000000000000000000000-self-test";
const CONTENTS: &[u8] = b"fetched";
/// How long the proof may take, in seconds.
const TIMEOUT_S: u64 = 20;

/// Offers builtin builders, or says why not. `directory` may be removed and made anew.
pub async fn offer(config: &Config, directory: &Path, capability: &mut Capability) {
    let platform = Platform::Builtin;
    if !config.platforms.builtin {
        let reason = "switched off in the configuration".to_owned();
        return capability.withheld.push(Withheld { platform, reason });
    }
    let certificates = config.certificates();
    let proven = match Downloader::new(config.downloads, certificates.as_deref()) {
        Ok(downloader) => prove(&downloader, directory).await.map(|()| downloader.authorities()),
        Err(error) => Err(chain(&error)),
    };
    let https = |count: usize| match (&certificates, count) {
        (Some(path), 1..) => format!("https by the {count} authorities of {}", path.display()),
        _ => "no https: set `certificates` to a file of certificate authorities".to_owned(),
    };
    match proven {
        Ok(count) => {
            let detail = format!("fetchurl (http, file, {}), buildenv", https(count));
            capability.offers.push(Offer { platform, detail });
        }
        Err(reason) => capability.withheld.push(Withheld { platform, reason }),
    }
}

async fn prove(downloader: &Downloader, directory: &Path) -> Result<(), String> {
    let made = directory.to_owned();
    let prepared = blocking(move || {
        tree::remove(&made).map_err(std::io::Error::other)?;
        std::fs::create_dir_all(&made)?;
        std::fs::write(made.join("input"), CONTENTS)
    });
    prepared.await.map_err(|error| format!("cannot prepare the self-test of builtins: {error}"))?;
    let task = task(directory).ok_or("the self-test of builtins has no task")?;
    let key = LeaseKey { id: LeaseId(0), epoch: Epoch(0) };
    let uplink = Uplink::default();
    let limits = Limits { timeout_s: Some(TIMEOUT_S), ..Limits::default() };
    let control = Control::new(limits, CancellationToken::new(), &uplink, key);
    let performed = perform(task, downloader, control).await;
    let fetched = std::fs::read(directory.join("output")).unwrap_or_default();
    let removed = directory.to_owned();
    if let Err(error) = blocking(move || tree::remove(&removed)).await {
        tracing::warn!(error = chain(&error), "the self-test's directory stays");
    }
    match performed {
        Ok(_) if fetched == CONTENTS => Ok(()),
        Ok(ended) => Err(format!("the self-test of builtins ended with {ended:?} and fetched other bytes")),
        Err(failure) => Err(failure.message),
    }
}

/// A derivation that fetches the input.
fn task(directory: &Path) -> Option<Task> {
    let path = BaseName::parse_base_name(INPUT.rsplit('/').next()?).ok()?;
    let hash = Hash::new(HashAlgorithm::Sha256, &[0; 32])?;
    let derivation = Derivation {
        outputs: BTreeMap::from([("out".into(), Output::Fixed { path, method: Method::Flat, hash })]),
        input_derivations: BTreeMap::new(),
        input_sources: std::collections::BTreeSet::new(),
        system: model::capability::BUILTIN.into(),
        builder: b"builtin:fetchurl".to_vec(),
        arguments: Vec::new(),
        environment: BTreeMap::from([(b"url".to_vec(), format!("file://{INPUT}").into_bytes())]),
    };
    let view = View::new([(StorePath::from_validated(INPUT), directory.join("input"))]);
    Some(Task { derivation, output: directory.join("output"), view, has_network: true })
}
