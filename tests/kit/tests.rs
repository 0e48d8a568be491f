//! The kit's own tests: a host is isolated, joined to others, and leaves nothing behind; a board has an empty store.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    BOARD_USER, Bind, Board, BoardSpec, FOREIGN, HostSpec, Interpreter, Jaeger, Lab, Oracle, OracleSpec,
    User, run, wait_until,
};

fn host(lab: &Lab, name: &str) -> Result<tests::Host> {
    let root = lab.cache().product("roots/bookworm-executor")?;
    lab.host(HostSpec { name: name.into(), root, ..HostSpec::default() })
}

#[test]
fn hosts_are_apart_and_joined() {
    run("kit-hosts", |lab| {
        let (one, two) = (host(lab, "one")?, host(lab, "two")?);
        one.know(&[&two])?;
        let named = one.exec(User::Root, &["hostname"], &[])?.success()?;
        ensure!(named == "one", "host name {named}");
        let who = one
            .exec(User::Id(990), &["sh", "-c", "id -u; id -G; grep CapEff /proc/self/status"], &[])?
            .success()?;
        ensure!(who == "990\n990\nCapEff:\t0000000000000000", "an ordinary user is {who}");
        let before = two.traffic()?;
        one.exec(User::Root, &["busybox", "ping", "-c", "1", "-W", "5", "two"], &[])?.success()?;
        let after = two.traffic()?;
        ensure!(after.received_bytes > before.received_bytes, "no bytes counted");
        two.set_link(false)?;
        let gone = one.exec(User::Root, &["busybox", "ping", "-c", "1", "-W", "1", "two"], &[])?;
        ensure!(!gone.status.success(), "a host answers without its cable");
        let nix = one.exec(User::Root, &["sh", "-c", "command -v nix-store; ls /nix"], &[])?;
        ensure!(nix.stdout.is_empty(), "Nix on an executor: {}", nix.stdout);
        Ok(())
    });
}

#[test]
fn an_ordinary_user_can_make_a_sandbox_in_a_host() {
    run("kit-sandbox", |lab| {
        let one = host(lab, "one")?;
        let inside = "mount -t proc proc /proc && unshare -n true && echo made";
        let argv = ["unshare", "-Urmpf", "--propagation", "private", "sh", "-c", inside];
        let said = one.exec(User::Id(990), &argv, &[])?.success()?;
        ensure!(said == "made", "{said}");
        Ok(())
    });
}

#[test]
fn nothing_stays_behind() {
    run("kit-end", |lab| {
        let one = host(lab, "one")?;
        let mut sleeper = one.service(User::Root, "sleeper", &["sleep", "1000"], &[])?;
        let pid = sleeper.pid()?;
        let directory = lab.directory().join("one");
        ensure!(Path::new(&format!("/proc/{pid}")).exists() && directory.exists(), "it did not start");
        drop(one);
        ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "a process outlives its host");
        ensure!(!directory.exists(), "a host's directory stays");
        Ok(())
    });
}

#[test]
fn processes_are_signalled_and_waited_for() {
    run("kit-process", |lab| {
        let one = host(lab, "one")?;
        let script = "trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = one.service(User::Id(990), "trap", &["sh", "-c", script], &[])?;
        wait_until("the trap", Duration::from_secs(10), || Ok(process.log()?.contains("up").then_some(())))?;
        process.signal("TERM")?;
        let status = process.wait(Duration::from_secs(10))?;
        ensure!(status.code() == Some(3) && process.log()?.contains("caught"), "{status}");
        Ok(())
    });
}

#[test]
fn a_board_holds_derivations_and_sources_only() {
    run("kit-board", |lab| {
        let board = Board::start(lab, BoardSpec { name: "board".into(), ..BoardSpec::default() })?;
        ensure!(board.store().all()?.is_empty(), "a new board's store is not empty");
        let file =
            r#"derivation { name = "a"; system = "x86_64-linux"; builder = builtins.toFile "b" "x"; }"#;
        board.host.write("/home/board/a.nix", file, 0o644, BOARD_USER)?;
        let made = board.store().instantiate("/home/board/a.nix", &[], &[])?;
        let derivation = made.first().context("no derivation")?;
        ensure!(derivation.ends_with("-a.drv"), "{derivation}");
        let all = board.store().all()?;
        ensure!(all.len() == 2, "derivation and source: {all:?}");
        let built = board.store().realise(Duration::from_secs(60), std::slice::from_ref(derivation))?;
        ensure!(!built.status.success(), "a board builds by itself");
        Ok(())
    });
}

#[test]
fn the_oracle_is_real_nix_that_emulates() {
    run("kit-oracle", |lab| {
        let file = lab.cache().product("qemu/qemu-aarch64")?;
        let interpreters = vec![Interpreter { foreign: &FOREIGN[0], file }];
        let bind = |source, target: &str| Bind { source, target: target.into(), writable: false };
        let graphs = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
        let sources = lab.cache().product("sources")?;
        let binds = vec![bind(graphs, "/graphs"), bind(sources, "/var/cache/elsewhere/sources")];
        let oracle = Oracle::start(
            lab,
            OracleSpec { name: "oracle".into(), interpreters, binds, ..OracleSpec::default() },
        )?;
        let made = oracle.store().instantiate("/graphs/graphs.nix", &["ordinary", "failing"], &[])?;
        let build =
            |one: &String| oracle.store().realise(Duration::from_secs(120), std::slice::from_ref(one));
        let path = build(&made[0])?.success()?;
        let text = std::fs::read_to_string(oracle.host().outside(&path))?;
        ensure!(text == "2\n2\n2\n", "it built {text:?}");
        let failed = build(&made[1])?;
        ensure!(failed.status.code() == Some(100), "{}", failed.status);
        Ok(())
    });
}

#[test]
fn jaeger_answers() {
    run("kit-jaeger", |lab| {
        let jaeger = Jaeger::start(lab)?;
        ensure!(jaeger.traces_of("nobody")?.is_empty(), "a new Jaeger has traces");
        ensure!(jaeger.trace("0123456789abcdef0123456789abcdef").is_err(), "it has a trace that nobody sent");
        Ok(())
    });
}
