//! Outputs that are addressed by their content, and what depends on them: paths, contents, references, derivers and failures are
//! real Nix's, natively and emulated. What their derivations leave open is asked for after the build.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{
    Bind, Board, BoardSpec, Client, Cluster, ClusterSpec, Lab, NixStore, Oracle, OracleSpec, Programs,
    Release, User, run,
};

use crate::failure::{class, of_client, of_nix};
use crate::layout;

/// What a board and the oracle need for such derivations.
const FEATURE: &str = "experimental-features = ca-derivations\n";
const PLAN_LIMIT: Duration = Duration::from_secs(300);
const ONE_LIMIT: Duration = Duration::from_secs(60);
/// What names the derivations that fail.
const BAD: &str = "bad-";

#[test]
fn content_addressed_outputs_are_what_real_nix_makes() {
    run("floating", |lab| {
        let binds = directory(lab)?;
        let mut spec = ClusterSpec::default();
        spec.executors.iter_mut().for_each(|executor| executor.has_shell = true);
        let cluster = Cluster::start(lab, spec)?;
        let spec = BoardSpec {
            name: "board".into(),
            binds: binds.clone(),
            configuration: FEATURE.into(),
            ..BoardSpec::default()
        };
        let board = cluster.board(spec)?;
        let oracle = Oracle::start(
            lab,
            OracleSpec {
                name: "oracle".into(),
                release: Release::Nix2_34,
                interpreters: cluster.interpreters()?,
                binds,
                has_shell: true,
                configuration: FEATURE.into(),
                ..OracleSpec::default()
            },
        )?;
        let mut failed = Vec::new();
        for arch in ["amd64", "arm64"] {
            let cases = cases(&board.store(), arch)?;
            ensure!(cases == self::cases(&oracle.store(), arch)?, "the oracle evaluates something else");
            failed.extend(compare(&cluster.client(&board), &board, &oracle, &cases)?);
        }
        ensure!(failed.is_empty(), "{} differences:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    });
}

#[test]
fn unmodified_nix_gets_from_the_cluster_what_it_would_make() {
    run("floating-nix", |lab| by_unmodified_nix(lab, Release::Nix2_34));
}

#[test]
#[ignore = "tier long: needs the root of an older release"]
fn older_nix_gets_from_the_cluster_what_it_would_make() {
    run("floating-nix-2-26", |lab| by_unmodified_nix(lab, Release::Nix2_26));
}

/// Through `elsewhere nix-stdio`: Nix resolves derivations itself, and asks for what they come to.
fn by_unmodified_nix(lab: &Lab, release: Release) -> Result<()> {
    let binds = directory(lab)?;
    let mut spec = ClusterSpec::default();
    spec.executors.iter_mut().for_each(|executor| executor.has_shell = true);
    let cluster = Cluster::start(lab, spec)?;
    let configuration = format!(
        "{FEATURE}builders = ssh-ng://localhost?remote-program={}%20nix-stdio x86_64-linux,aarch64-linux - 4 1 ca-derivations -\n\
         builders-use-substitutes = true\n",
        Programs::find()?.inside("elsewhere")
    );
    let spec = BoardSpec {
        name: "board".into(),
        release,
        binds: binds.clone(),
        configuration,
        ..Default::default()
    };
    let board = cluster.board(spec)?;
    let spec = OracleSpec {
        name: "oracle".into(),
        release,
        interpreters: cluster.interpreters()?,
        binds,
        has_shell: true,
        configuration: FEATURE.into(),
        ..OracleSpec::default()
    };
    let oracle = Oracle::start(lab, spec)?;
    let mut cases = cases(&board.store(), "amd64")?;
    self::cases(&oracle.store(), "amd64")?;
    cases.extend(
        self::cases(&board.store(), "arm64")?.into_iter().map(|(name, path)| (name + "-arm64", path)),
    );
    self::cases(&oracle.store(), "arm64")?;
    let good: Vec<String> =
        cases.iter().filter(|(name, _)| !name.starts_with(BAD)).map(|(_, path)| path.clone()).collect();
    let started = Instant::now();
    board.store().realise(PLAN_LIMIT, &good)?.success()?;
    println!("{} derivations took Nix and the cluster {:.1} s", good.len(), started.elapsed().as_secs_f64());
    let mut differences = Vec::new();
    for (name, derivation) in &cases {
        let ours = board.store().realise(ONE_LIMIT, std::slice::from_ref(derivation))?;
        let real = oracle.store().realise(ONE_LIMIT, std::slice::from_ref(derivation))?;
        if name.starts_with(BAD) {
            let expected = class(&of_nix(1, &real.stderr).message);
            // What the cluster says is an error of the program that Nix calls, which exits with 1 then.
            let said = ours.stderr.split_once(" on 'ssh-ng://localhost").and_then(|(_, rest)| {
                let (_, said) = rest.split_once("' failed: ")?;
                Some(format!("error: {}", said.split("\nerror: ").next()?))
            });
            let found = class(said.as_deref().unwrap_or("nothing"));
            ensure!(!ours.status.success() && !real.status.success(), "{name} builds");
            if expected != found {
                differences.push(format!("{name}: {expected}, not {found}\n{}", ours.stderr));
            }
            continue;
        }
        let (ours, real) = (lines(&ours.success()?), lines(&real.success()?));
        let (mut found, mut expected) = (board.store().path_infos(&ours)?, oracle.store().path_infos(&real)?);
        if name.starts_with("up") {
            expected.values_mut().chain(found.values_mut()).for_each(|info| info.deriver.clear());
        }
        if found != expected {
            differences.push(format!("{name}\n--- real Nix\n{expected:#?}\n--- cluster\n{found:#?}"));
        }
    }
    println!("{} compared with real Nix {}", cases.len(), oracle.version());
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

fn directory(lab: &Lab) -> Result<Vec<Bind>> {
    let directory = layout::make(lab)?;
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/floating.nix");
    std::fs::copy(own, directory.join("floating.nix"))?;
    Ok(vec![layout::bind(&directory)])
}

fn cases(store: &NixStore<'_>, arch: &str) -> Result<BTreeMap<String, String>> {
    let file = format!("{}/floating.nix", layout::IN_HOSTS);
    store.evaluate(&file, &["--read-write-mode", "--argstr", "arch", arch])
}

/// Builds all that can be built in one plan, then looks at each.
fn compare(
    client: &Client<'_>,
    board: &Board,
    oracle: &Oracle,
    cases: &BTreeMap<String, String>,
) -> Result<Vec<String>> {
    let started = Instant::now();
    let all = |derivation: &String| format!("{derivation}^*");
    let wanted: Vec<String> = cases
        .iter()
        .filter(|(name, _)| !name.starts_with(BAD))
        .map(|(_, derivation)| all(derivation))
        .collect();
    let mut arguments = vec!["build", "--no-out-link"];
    arguments.extend(wanted.iter().map(String::as_str));
    client.run(PLAN_LIMIT, &arguments)?.success()?;
    println!("{} derivations took the cluster {:.1} s", wanted.len(), started.elapsed().as_secs_f64());
    let mut differences = Vec::new();
    for (name, derivation) in cases {
        let ours = client.run(ONE_LIMIT, &["build", "--no-out-link", "--log", &all(derivation)])?;
        let real = oracle.store().realise(ONE_LIMIT, std::slice::from_ref(derivation))?;
        let code = real.status.code().context("nix-store was killed")?;
        let mut differ = |fact: &str, real: String, ours: String| {
            if real != ours {
                differences.push(format!("{name}: {fact}\n--- real Nix\n{real}\n--- cluster\n{ours}"));
            }
        };
        if name.starts_with(BAD) {
            let (real, ours) =
                (of_nix(code, &real.stderr), of_client(ours.status.code().unwrap_or(-1), &ours.stderr));
            ensure!(code != 0, "{name} builds in real Nix");
            differ("exit code", real.exit_code.to_string(), ours.exit_code.to_string());
            differ("class", class(&real.message), class(&ours.message));
            differ("log", without_resolutions(&real.log), ours.log);
            continue;
        }
        ensure!(code == 0, "{name} fails in real Nix:\n{}", real.stderr);
        let (real, ours) = (lines(&real.stdout), lines(&ours.stdout));
        differ("paths", real.join("\n"), ours.join("\n"));
        let (mut expected, mut found) = (oracle.store().path_infos(&real)?, board.store().path_infos(&ours)?);
        if name == "up" {
            // Two derivations make it: whichever comes first, in real Nix as well.
            expected.values_mut().chain(found.values_mut()).for_each(|info| info.deriver.clear());
        }
        differ("what is registered", format!("{expected:#?}"), format!("{found:#?}"));
        let administrator = NixStore { user: User::Root, ..board.store() };
        administrator.verify(&ours).with_context(|| format!("{name} on the board"))?;
        // The board's own Nix, which builds nothing itself, knows the result.
        let known = board.store().realise(ONE_LIMIT, std::slice::from_ref(derivation))?;
        differ("known to the board's Nix", real.join("\n"), lines(&known.stdout).join("\n"));
    }
    println!("{} compared with real Nix {}", cases.len(), oracle.version());
    Ok(differences)
}

/// Real Nix says in passing what derivations come to.
fn without_resolutions(log: &str) -> String {
    let lines = log.lines().filter(|line| !line.starts_with("resolved derivation: '"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Real Nix names outputs in the order of their paths.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
