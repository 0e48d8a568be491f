//! `build`, `attach`, `cancel`: from arguments to a followed plan.
use super::follow::{Ended, follow};
use super::session::Session;
use super::{BuildArguments, follow};
use crate::board::Daemon;
use crate::exit::OTHER;
use crate::instantiate::{Roots, instantiate};
use crate::remember::Remembered;
use crate::submit::Terms;
use crate::wanted::{Item, Target, link_names, request};
use crate::{links, submit};
use anyhow::{Context, bail};
use model::{PlanId, StorePath};
use proto::convert::store_path;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Builds what the arguments name.
pub(super) async fn build(session: &Session, arguments: BuildArguments) -> anyhow::Result<u8> {
    let log = arguments.log;
    let (targets, _roots) = targets(session, &arguments).await?;
    let wanted = items(session, &targets).await?;
    let links = links(&arguments, &wanted)?;
    if let Some(paths) = valid_paths(session, &wanted).await? {
        return finish(session, &paths, &links).await;
    }
    let coordinator = session.config.coordinator.clone();
    if let Some(known) = session.plans.find_same(&coordinator, &wanted) {
        let plan = known.plan;
        if arguments.detach {
            session.ui.result(&plan.to_string())?;
            return Ok(0);
        }
        session.ui.note(&format!("plan {plan} is under way for the same outputs: following it"));
        match follow_to_end(session, &Remembered { links: links.clone(), ..known }, log).await? {
            Some(code) => return Ok(code),
            None => {
                session.ui.note(&format!("the cluster knows no plan {plan} any more: handing it over again"))
            }
        }
    }
    let admitted = submit::submit(
        &session.coordinator,
        &session.board,
        &request(&wanted),
        Terms::default(),
        &session.ui,
    )
    .await?;
    let remembered = Remembered { plan: admitted.plan, coordinator, wanted, links };
    session.plans.remember(&remembered)?;
    session.ui.admitted(&admitted);
    if arguments.detach {
        session.ui.result(&admitted.plan.to_string())?;
        return Ok(0);
    }
    match follow_to_end(session, &remembered, log).await? {
        Some(code) => Ok(code),
        None => bail!("the cluster has forgotten plan {} that it had just admitted", admitted.plan),
    }
}

/// Follows a plan that was left running.
pub(super) async fn attach(session: &Session, plan: &str, log: bool) -> anyhow::Result<u8> {
    let remembered = session.plans.find(parse_plan(plan)?)?;
    match follow_to_end(session, &remembered, log).await? {
        Some(code) => Ok(code),
        None => bail!("the cluster knows no plan {plan}; build it again"),
    }
}

/// Ends a plan at the cluster.
pub(super) async fn cancel(session: &Session, plan: &str) -> anyhow::Result<u8> {
    let plan = parse_plan(plan)?;
    let was_running = session.coordinator.cancel(plan).await?;
    session.plans.forget(plan)?;
    session.ui.note(if was_running { "cancelled" } else { "it had ended already" });
    Ok(0)
}

fn parse_plan(plan: &str) -> anyhow::Result<PlanId> {
    PlanId::parse(plan).with_context(|| format!("`{plan}` is not a plan: those have 32 hexadecimal digits"))
}

/// Derivations among the arguments as they are; Nix files through nix-instantiate, all in one go.
async fn targets(
    session: &Session,
    arguments: &BuildArguments,
) -> anyhow::Result<(Vec<Target>, Option<Roots>)> {
    let is_derivation = |argument: &OsString| argument.to_str().is_some_and(Target::is_meant_by);
    let (derivations, files): (Vec<_>, Vec<_>) =
        arguments.arguments.iter().partition(|word| is_derivation(word));
    let mut targets = Vec::new();
    for argument in derivations {
        let argument = argument.to_string_lossy();
        let full =
            std::path::absolute(&*argument).map_or(argument.to_string(), |path| path.display().to_string());
        targets.push(Target::parse(&full)?);
    }
    if files.is_empty() && !targets.is_empty() {
        return Ok((targets, None));
    }
    let mut words: Vec<OsString> = Vec::new();
    let mut option = |flag: &str, values: &[OsString], width: usize| {
        for value in values.chunks(width) {
            words.push(OsStr::new(flag).to_owned());
            words.extend_from_slice(value);
        }
    };
    option("--arg", &arguments.arg, 2);
    option("--argstr", &arguments.argstr, 2);
    option("--option", &arguments.option, 2);
    option("-I", &arguments.include, 1);
    option("-A", &arguments.attributes, 1);
    match files.as_slice() {
        [] => words.push("./default.nix".into()),
        files => words.extend(files.iter().map(|file| (*file).clone())),
    }
    let (instantiated, roots) = instantiate(&words, &session.config.state_home).await?;
    targets.extend(instantiated);
    Ok((targets, Some(roots)))
}

/// Outputs and their paths, as the derivations say.
async fn items(session: &Session, targets: &[Target]) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for target in targets {
        let derivation = session.board.derivation(&target.derivation).await?;
        let available: Vec<String> = derivation.outputs.keys().cloned().collect();
        for output in target.select(&available)? {
            let path = derivation.outputs.get(&output).and_then(|output| output.path());
            let path = path.map(full_path).transpose()?;
            items.push(Item { derivation: target.derivation.clone(), output, path });
        }
    }
    if items.is_empty() {
        bail!("there is nothing to build");
    }
    Ok(items)
}

fn full_path(path: &nix_formats::store_path::StorePath) -> anyhow::Result<StorePath> {
    let full = nix_formats::store_path::StoreDir::default().display(path);
    store_path("path", &full).map_err(|error| anyhow::anyhow!("{full}: {}", error.problem))
}

fn links(arguments: &BuildArguments, wanted: &[Item]) -> anyhow::Result<Vec<PathBuf>> {
    if arguments.no_out_link {
        return Ok(Vec::new());
    }
    let base = std::path::absolute(&arguments.out_link).context("find the working directory")?;
    let base = base.to_str().context("the path of the link is not UTF-8")?;
    Ok(link_names(base, wanted).into_iter().map(PathBuf::from).collect())
}

/// The paths of what is wanted, if all of it is valid.
async fn valid_paths(session: &Session, wanted: &[Item]) -> anyhow::Result<Option<Vec<StorePath>>> {
    let mut daemon = session.board.connect().await?;
    let mut paths = Vec::with_capacity(wanted.len());
    for item in wanted {
        let path = match &item.path {
            Some(path) => path.clone(),
            None => match realised(&mut daemon, item).await? {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        if !daemon.is_valid_path(path.as_str()).await? {
            return Ok(None);
        }
        paths.push(path);
    }
    Ok(Some(paths))
}

/// What the board's own Nix knows an output to be whose path its derivation does not say.
async fn realised(daemon: &mut Daemon, item: &Item) -> anyhow::Result<Option<StorePath>> {
    match daemon.query_derivation_output_map(item.derivation.as_str()).await {
        Ok(outputs) => {
            let path = outputs.get(&item.output).and_then(Option::as_deref);
            let path = path.map(|path| store_path("path", path)).transpose();
            path.map_err(|error| anyhow::anyhow!("nix-daemon: {}", error.problem))
        }
        // It need not have the feature to receive what the cluster makes.
        Err(nix_daemon::Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The exit code; nothing when the cluster does not know the plan.
async fn follow_to_end(session: &Session, remembered: &Remembered, log: bool) -> anyhow::Result<Option<u8>> {
    let plan = remembered.plan;
    let (code, importer) = match follow(session, remembered, log).await? {
        Ended::Unknown => {
            session.plans.forget(plan)?;
            return Ok(None);
        }
        Ended::Detached => {
            session.ui.note(&format!("left; `elsewhere attach {plan}` follows the plan again"));
            return Ok(Some(OTHER));
        }
        Ended::Cancelled => {
            session.ui.error(&follow::Interrupted);
            (OTHER, None)
        }
        Ended::Failed(code) => (code, None),
        Ended::Imported(importer, paths) => {
            (finish(session, &paths, &remembered.links).await?, Some(importer))
        }
    };
    session.plans.forget(plan)?;
    // Until here it kept what was imported from being collected: now the links do.
    drop(importer);
    Ok(Some(code))
}

/// Links and prints what is valid.
async fn finish(session: &Session, paths: &[StorePath], links: &[PathBuf]) -> anyhow::Result<u8> {
    if !links.is_empty() {
        let mut daemon = session.board.connect().await?;
        for (path, link) in paths.iter().zip(links) {
            links::link(&mut daemon, link, path).await?;
        }
    }
    session.ui.paths(paths.iter())?;
    Ok(0)
}
