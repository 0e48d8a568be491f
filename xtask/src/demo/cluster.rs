//! The demo's hosts and programs: a board with an empty store, a coordinator, two executors without Nix.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::certs;
use crate::command::{capture, command};
use crate::demo::Place;
use crate::demo::host::{Host, Service, Spec};
use crate::demo::jaeger::{self, Jaeger};

/// The user that runs the client on the board.
pub const BOARD_USER: u32 = 1000;
/// Where the board sees the graph.
pub const GRAPH: &str = "/demo/graph.nix";

const EXECUTOR_USER: u32 = 990;
const EXECUTORS: &[&str] = &["executor1", "executor2"];
/// A link of its own between this machine and the board, in the block that no network hands out.
const LINK: &str = "elsewhere0";
const OUTSIDE: &str = "169.254.77.1";
const INSIDE: &str = "169.254.77.2";
/// Where the programs find their configuration and keys.
const ETC: &str = "/etc/elsewhere";
/// The client's, on the board.
pub const CLIENT_CONFIG: &str = "/etc/elsewhere/client.toml";
const SPAN_FILE: &str = "/tmp/spans.jsonl";
const CONTROL_PORT: u16 = 7420;
const DATA_PORT: u16 = 7421;
/// Where Jaeger receives.
pub const OTLP_PORT: u16 = 4317;
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The board: its host, its daemon, its link.
pub struct Board {
    /// Its host.
    pub host: Host,
    _daemon: Service,
}

impl Board {
    /// An empty store behind a daemon that trusts only the cluster's key; it builds nothing itself.
    pub fn start(cache: &Cache, place: &Place) -> Result<Self> {
        certs::run(&certs::Request {
            out: place.certificates.clone(),
            coordinator: "coordinator".into(),
            board: vec!["board".into()],
            executor: EXECUTORS.iter().map(|name| (*name).to_string()).collect(),
            admin: vec!["admin".into()],
            expired: Vec::new(),
            address: vec![format!("coordinator={OUTSIDE}")],
            key_name: "demo-1".into(),
        })?;
        let shows = vec![
            (place.programs.clone(), "/opt/elsewhere"),
            (crate::repository().join("deploy/demo"), "/demo"),
            (cache.path("sources"), "/var/cache/elsewhere/sources"),
        ];
        let root = cache.path("roots/sid");
        let host = Host::start(&place.hosts, Spec { name: "board", root, shows, network: true })?;
        link(&host)?;
        let key = fs::read_to_string(place.certificates.join("nix.pub"))?;
        let configuration = format!(
            "build-users-group = nixbld\nrequire-sigs = true\nmax-jobs = 0\nsubstituters =\n\
             trusted-public-keys = {key}\ntrusted-users = root\nallowed-users = *\n"
        );
        host.write("/etc/nix/nix.conf", configuration.as_bytes(), 0o644, 0)?;
        host.run(&["sh", "-c", "echo board:x:1000:1000::/home/board:/bin/sh >>/etc/passwd; echo board:x:1000: >>/etc/group; install -d -o 1000 -g 1000 /home/board"])?;
        let mut daemon =
            host.service(0, &[], &["nix-daemon", "--daemon"], &place.logs.join("nix-daemon.log"))?;
        let socket = host.outside("/nix/var/nix/daemon-socket/socket");
        daemon.wait_until(Duration::from_secs(30), "its socket is there", || socket.exists())?;
        Ok(Self { host, _daemon: daemon })
    }

    /// This machine's end of the board's link.
    pub fn outside_address(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([169, 254, 77, 1], port))
    }

    /// Bytes that the board's interface has received and sent.
    pub fn traffic(&self) -> Result<(u64, u64)> {
        let read = |counter: &str| -> Result<u64> {
            // Seen from this machine's end: what it sent, the board received.
            let path = format!("/sys/class/net/{LINK}/statistics/{counter}");
            fs::read_to_string(&path)
                .with_context(|| format!("read {path}"))?
                .trim()
                .parse()
                .context("read a counter")
        };
        Ok((read("tx_bytes")?, read("rx_bytes")?))
    }

    /// Everything that is valid in its store, with the sizes of the NARs in bytes.
    pub fn valid_paths(&self) -> Result<Vec<(String, u64)>> {
        let list = ["nix", "--extra-experimental-features", "nix-command", "path-info", "--all", "--size"];
        let listed = self.host.run(&list)?;
        let parse = |line: &str| -> Option<(String, u64)> {
            let (path, size) = line.split_once(char::is_whitespace)?;
            Some((path.to_string(), size.trim().parse().ok()?))
        };
        listed
            .lines()
            .map(|line| parse(line).with_context(|| format!("read '{line}' of nix path-info")))
            .collect()
    }

    /// Compares a path and everything below it with the hashes in the board's database.
    pub fn verify(&self, path: &str) -> Result<Vec<String>> {
        let closure: Vec<String> =
            self.host.run(&["nix-store", "-qR", path])?.lines().map(str::to_string).collect();
        let mut argv = vec!["nix-store", "--verify-path"];
        argv.extend(closure.iter().map(String::as_str));
        self.host.run(&argv)?;
        Ok(closure)
    }
}

/// A pair of interfaces, one end in the board's network.
fn link(board: &Host) -> Result<()> {
    let pid = board.pid().to_string();
    // Left over if an earlier demo's machine was stopped hard.
    let _ = capture(&mut command("ip", &["link", "delete", LINK]));
    for arguments in [
        &["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &pid][..],
        &["address", "add", &format!("{OUTSIDE}/30"), "dev", LINK],
        &["link", "set", LINK, "up"],
    ] {
        capture(&mut command("ip", arguments))?;
    }
    board.run(&["ip", "address", "add", &format!("{INSIDE}/30"), "dev", "eth0"])?;
    board.run(&["ip", "link", "set", "eth0", "up"])?;
    Ok(())
}

/// Coordinator and executors.
pub struct Cluster {
    // Before the hosts: a service ends before the host that it runs on.
    services: Vec<Service>,
    hosts: Vec<Host>,
    collector: Option<SocketAddr>,
}

impl Cluster {
    /// Starts them, and waits until the coordinator listens.
    pub fn start(cache: &Cache, place: &Place, board: &Board, jaeger: Option<&Jaeger>) -> Result<Self> {
        let mut cluster = Self {
            services: Vec::new(),
            hosts: Vec::new(),
            collector: jaeger.map(|_| board.outside_address(OTLP_PORT)),
        };
        let listen = board.outside_address(CONTROL_PORT);
        let coordinator = format!(
            "listen = \"{listen}\"\nstate_dir = \"/var/lib/elsewhere\"\nsigning_key = \"{ETC}/nix.key\"\n{}",
            tls()
        );
        cluster.add(cache, place, "coordinator", "elsewhere-coordinator", &coordinator)?;
        let ready = || std::net::TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_ok();
        cluster.services[0].wait_until(Duration::from_secs(30), "it listens", ready)?;
        for (number, name) in EXECUTORS.iter().enumerate() {
            let port = jaeger::free_port(DATA_PORT + u16::try_from(number)?)?;
            let executor = format!(
                "coordinator = \"{listen}\"\ndata_listen = \"{port}\"\ndata_advertise = \"{port}\"\nslots = 2\n{}\
                 [emulation.aarch64-linux]\nqemu = \"/opt/qemu-aarch64\"\n",
                tls()
            );
            cluster.add(cache, place, name, "elsewhere-executor", &executor)?;
        }
        for (path, mode) in [("ca.pem", 0o644), ("board.pem", 0o644), ("board.key", 0o600)] {
            board.host.write(
                &format!("{ETC}/{path}"),
                &fs::read(place.certificates.join(path))?,
                mode,
                BOARD_USER,
            )?;
        }
        let client = format!("coordinator = \"{listen}\"\n{}", tls().replace("/own.", "/board."));
        board.host.write(CLIENT_CONFIG, client.as_bytes(), 0o644, BOARD_USER)?;
        Ok(cluster)
    }

    /// One host with one program, which runs as an ordinary user with subordinate ids.
    fn add(&mut self, cache: &Cache, place: &Place, name: &str, program: &str, config: &str) -> Result<()> {
        let shows = vec![
            (place.programs.clone(), "/opt/elsewhere"),
            (cache.path("qemu/qemu-aarch64"), "/opt/qemu-aarch64"),
        ];
        let root = cache.path("roots/bookworm-executor");
        let host = Host::start(&place.hosts, Spec { name, root, shows, network: false })?;
        for (from, to, mode) in [
            ("ca.pem".to_string(), "ca.pem", 0o644),
            (format!("{name}.pem"), "own.pem", 0o644),
            (format!("{name}.key"), "own.key", 0o600),
            ("nix.key".to_string(), "nix.key", 0o600),
        ] {
            // Only the coordinator signs.
            if to != "nix.key" || program == "elsewhere-coordinator" {
                let bytes = fs::read(place.certificates.join(from))?;
                host.write(&format!("{ETC}/{to}"), &bytes, mode, EXECUTOR_USER)?;
            }
        }
        host.write(&format!("{ETC}/config.toml"), config.as_bytes(), 0o644, EXECUTOR_USER)?;
        host.run(&["chown", "990:990", "/var/lib/elsewhere"])?;
        let environment = self.environment();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (program, config) = (format!("/opt/elsewhere/{program}"), format!("{ETC}/config.toml"));
        let log = place.logs.join(format!("{name}.log"));
        self.services.push(host.service(
            EXECUTOR_USER,
            &environment,
            &[&program, "--config", &config],
            &log,
        )?);
        self.hosts.push(host);
        Ok(())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment =
            vec![("HOME", "/tmp".to_string()), ("ELSEWHERE_SPAN_FILE", SPAN_FILE.to_string())];
        environment.extend(
            self.collector.map(|address| ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))),
        );
        environment
    }

    /// What the client needs beside its configuration.
    pub fn client_environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.environment();
        environment.extend([("NIX_REMOTE", "daemon".to_string()), ("USER", "board".to_string())]);
        environment.retain(|(name, _)| *name != "HOME");
        environment.push(("HOME", "/home/board".to_string()));
        environment
    }

    /// The files that the programs write their spans to, as this machine sees them.
    pub fn span_files(&self, board: &Board) -> Vec<(String, PathBuf)> {
        let hosts = self.hosts.iter().chain([&board.host]);
        hosts.map(|host| (host.name().to_string(), host.outside(SPAN_FILE))).collect()
    }

    /// Shows the ends of all logs.
    pub fn explain(&self) {
        self.services.iter().for_each(|service| println!("{}", service.tail()));
    }

    /// Executors first, so that nobody waits for them; each says goodbye by itself.
    pub fn stop(mut self) -> Result<()> {
        while let Some(service) = self.services.pop() {
            service.stop(STOP_LIMIT)?;
        }
        Ok(())
    }
}

fn tls() -> String {
    format!("[tls]\nauthority = \"{ETC}/ca.pem\"\ncertificate = \"{ETC}/own.pem\"\nkey = \"{ETC}/own.key\"\n")
}
