//! Builtins against servers, archives and inputs that mean no good.
use super::*;
use crate::build::run::Ended;
use crate::config::Downloads;
use crate::lease::{LeaseKey, Limits};
use crate::session::uplink::{Outgoing, Uplink};
use crate::tree;
use liblzma::write::XzEncoder;
use model::{Epoch, LeaseId, StorePath};
use nix_formats::derivation::{Method, Output};
use nix_formats::hash::{Hash, HashAlgorithm};
use nix_formats::store_path::StorePath as BaseName;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OUT: &str = "00000000000000000000000000000000-out";
const INPUT: &str = "/nix/store/11111111111111111111111111111111-input";
const KEY: LeaseKey = LeaseKey { id: LeaseId(1), epoch: Epoch(1) };

/// What a server does with one request.
enum Reply {
    Bytes(Vec<u8>),
    /// These bytes, then the same chunk again and again.
    Endless(Vec<u8>),
    /// These bytes, then nothing while the connection lives.
    Stall(Vec<u8>),
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn status(line: &str, more: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!("HTTP/1.1 {line}\r\n{more}Content-Length: {length}\r\n\r\n{body}").into_bytes())
}

/// A server whose answers depend on path and number of the request.
async fn serve(
    replies: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (counted, replies) = (count.clone(), Arc::new(replies));
    node::task::spawn("test-server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (replies, number) = (replies.clone(), counted.fetch_add(1, Ordering::SeqCst));
            node::task::spawn(
                "test-reply",
                async move { answer(stream, |path| replies(path, number)).await },
            );
        }
    });
    (address, count)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: impl FnOnce(&str) -> Reply) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    match reply(request.split(' ').nth(1).unwrap_or_default()) {
        Reply::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Reply::Endless(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        }
        Reply::Stall(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
    }
    let _ = stream.shutdown().await;
}

/// One builtin in a directory of its own.
struct Bench {
    directory: tempfile::TempDir,
    downloads: Downloads,
    limits: Limits,
    certificates: Option<std::path::PathBuf>,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("input")).unwrap();
        let downloads = Downloads { bytes_max: 100_000, attempts_max: 3, ..Downloads::default() };
        let (limits, cancel) = (Limits::default(), CancellationToken::new());
        Self { directory, downloads, limits, certificates: None, cancel }
    }

    fn output(&self) -> std::path::PathBuf {
        self.directory.path().join(OUT)
    }

    fn input(&self) -> std::path::PathBuf {
        self.directory.path().join("input")
    }

    /// How it ended, and its log without colours.
    async fn run(&self, builder: &str, attributes: &[(&str, &str)]) -> (Ended, String) {
        let path = BaseName::parse_base_name(OUT).unwrap();
        let hash = Hash::new(HashAlgorithm::Sha256, &[0; 32]).unwrap();
        let derivation = Derivation {
            outputs: BTreeMap::from([("out".into(), Output::Fixed { path, method: Method::Flat, hash })]),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: "builtin".into(),
            builder: builder.into(),
            arguments: Vec::new(),
            environment: attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        let view = View::new([(StorePath::from_validated(INPUT), self.input())]);
        let _ = tree::remove(&self.output());
        let task = Task { derivation, output: self.output(), view, has_network: true };
        let downloader = Downloader::new(self.downloads, self.certificates.as_deref()).unwrap();
        let uplink = Uplink::default();
        let control = Control::new(self.limits, self.cancel.clone(), &uplink, KEY);
        let ended = perform(task, &downloader, control).await.unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let mut log = Vec::new();
        uplink.connect(sender).await;
        uplink.disconnect();
        while let Some(outgoing) = receiver.recv().await {
            if let Outgoing::Progress { log: bytes, .. } = outgoing {
                log.extend_from_slice(&bytes);
            }
        }
        let log = String::from_utf8(log).unwrap();
        (ended, log.replace("\x1b[31;1m", "").replace("\x1b[35;1m", "").replace("\x1b[0m", ""))
    }

    async fn fetch(&self, url: &str) -> (Ended, String) {
        self.run("builtin:fetchurl", &[("url", url)]).await
    }

    /// What was fetched, if that went well without a word.
    async fn fetched(&self, url: &str) -> Vec<u8> {
        let (ended, log) = self.fetch(url).await;
        assert_eq!((ended, log.as_str()), (Ended::Exited(0), ""), "{url}");
        fs::read(self.output()).unwrap()
    }

    /// The reason why a download fails.
    async fn refused(&self, url: &str) -> String {
        let (ended, log) = self.fetch(url).await;
        assert_eq!(ended, Ended::Exited(1), "{url}: {log}");
        let before = format!("error: unable to download '{url}': ");
        let reason = log.split_once(&before).unwrap_or_else(|| panic!("no {before:?} in {log}")).1;
        reason.trim_end().to_owned()
    }
}

#[tokio::test]
async fn files_come_over_http_through_redirects_and_after_failures_that_pass() {
    let bench = Bench::new();
    let (address, count) = serve(|path, number| match path {
        "/file" => Reply::Bytes(ok(b"hello")),
        "/moved" => status("302 Found", "Location: /again?x=1\r\n", "gone"),
        "/again?x=1" => status("307 Temporary Redirect", "Location: file\r\n", ""),
        "/busy" if number < 7 => status("503 Service Unavailable", "", "later"),
        "/busy" => Reply::Bytes(ok(b"at last")),
        "/chunks" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        ),
        "/old" => Reply::Bytes(b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()),
        "/longer" => Reply::Bytes([ok(b"exact"), b"and more".to_vec()].concat()),
        _ => status("404 Not Found", "", "no such\x1b[2J thing\n"),
    })
    .await;
    let url = |path: &str| format!("http://{address}/{path}");
    assert_eq!(bench.fetched(&url("file")).await, b"hello");
    assert_eq!(bench.fetched(&url("moved")).await, b"hello");
    assert_eq!(bench.fetched(&url("chunks")).await, b"abcde");
    let before = count.load(Ordering::SeqCst);
    assert_eq!(before, 5);
    let (ended, log) = bench.fetch(&url("busy")).await;
    assert_eq!(ended, Ended::Exited(0), "{log}");
    assert!(log.starts_with("warning: unable to download 'http://127.0.0.1:"), "{log}");
    assert!(log.ends_with(" ms (attempt 2/3)\n"), "{log}");
    assert_eq!(fs::read(bench.output()).unwrap(), b"at last");
    assert_eq!(bench.fetched(&url("old")).await, b"until the end");
    assert_eq!(bench.fetched(&url("longer")).await, b"exact");
    let before = count.load(Ordering::SeqCst);
    assert_eq!(bench.refused(&url("none")).await, "HTTP error 404\n\nresponse body:\n\nno such[2J thing");
    assert_eq!(count.load(Ordering::SeqCst), before + 1, "what is not there is asked for once");
}

#[tokio::test]
async fn hostile_servers_cost_a_bounded_effort() {
    let bench = Bench::new();
    let (address, count) = serve(|path, _| match path {
        "/loop" => status("302 Found", "Location: /loop\r\n", ""),
        "/endless" => Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        "/huge" => Reply::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
        "/cut" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec()),
        "/to-file" => status("302 Found", "Location: file:///etc/passwd\r\n", ""),
        "/headers" => Reply::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
        "/refusal" => Reply::Endless(b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec()),
        "/nonsense" => Reply::Bytes(b"\x00\x01\x02\r\n\r\n".to_vec()),
        _ => Reply::Bytes(Vec::new()),
    })
    .await;
    let url = |path: &str| format!("http://{address}/{path}");
    for (path, words, requests) in [
        ("loop", "too many redirects (at most 10 are followed)", 11),
        ("endless", "it is larger than 100000 bytes", 1),
        ("huge", "it is larger than 100000 bytes", 1),
        ("cut", "end of file before message length reached", 3),
        ("to-file", "", 1),
        ("headers", "", 3),
        ("refusal", "HTTP error 403", 1),
        ("nonsense", "", 3),
        ("nothing", "", 3),
    ] {
        let before = count.load(Ordering::SeqCst);
        let reason = bench.refused(&url(path)).await;
        assert!(reason.contains(words) && !reason.is_empty(), "{path}: {reason}");
        assert!(reason.len() < 2000, "{path}: {} bytes", reason.len());
        assert_eq!(count.load(Ordering::SeqCst) - before, requests, "{path}: {reason}");
        let left = fs::read(bench.output()).unwrap_or_default();
        assert!(left.len() <= 100_000, "{path}");
    }
}

#[tokio::test]
async fn silence_time_and_cancellation_end_a_download() {
    let mut bench = Bench::new();
    let (address, _) = serve(|path, _| match path {
        "/silent" => Reply::Stall(Vec::new()),
        _ => Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
    })
    .await;
    bench.limits = Limits { max_silent_s: Some(1), ..Limits::default() };
    for path in ["silent", "stalls"] {
        let (ended, _) = bench.fetch(&format!("http://{address}/{path}")).await;
        assert_eq!(ended, Ended::SilentTooLong { limit_s: 1 }, "{path}");
    }
    bench.limits = Limits { timeout_s: Some(1), ..Limits::default() };
    let (ended, _) = bench.fetch(&format!("http://{address}/stalls")).await;
    assert_eq!(ended, Ended::TimedOut { limit_s: 1 });
    bench.limits = Limits::default();
    let cancel = bench.cancel.clone();
    node::task::spawn("test-cancel", async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    let (ended, _) = bench.fetch(&format!("http://{address}/stalls")).await;
    assert_eq!(ended, Ended::Cancelled);
    // The executor's own patience with a server that sends nothing.
    bench.cancel = CancellationToken::new();
    bench.downloads = Downloads { stalled_timeout_s: 1, attempts_max: 1, ..bench.downloads };
    let reason = bench.refused(&format!("http://{address}/stalls")).await;
    assert_eq!(reason, "the server does not answer");
}

#[tokio::test]
async fn https_servers_are_verified() {
    let mut bench = Bench::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/file", listener.local_addr().unwrap().port());
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    node::task::spawn("test-server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, |_| Reply::Bytes(ok(b"secret"))).await;
            }
        }
    });
    let reason = bench.refused(&url).await;
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "who is not trusted is not asked again");
    let authorities = bench.directory.path().join("authorities.pem");
    fs::write(&authorities, made.cert.pem()).unwrap();
    bench.certificates = Some(authorities);
    assert_eq!(bench.fetched(&url).await, b"secret");
}

#[tokio::test]
async fn file_urls_reach_inputs_and_nothing_else() {
    let bench = Bench::new();
    let secret = bench.directory.path().join("secret");
    fs::write(&secret, "of the executor").unwrap();
    fs::write(bench.input().join("a file"), "of the input").unwrap();
    fs::create_dir(bench.input().join("directory")).unwrap();
    symlink("a file", bench.input().join("link")).unwrap();
    symlink(&secret, bench.input().join("escape")).unwrap();
    for url in [format!("file://{INPUT}/a%20file"), format!("file://localhost{INPUT}/directory/../link")] {
        assert_eq!(bench.fetched(&url).await, b"of the input");
    }
    for url in [
        "file:///etc/passwd".to_owned(),
        format!("file://{}", secret.display()),
        format!("file://{INPUT}/escape"),
        format!("file://{INPUT}/../../../etc/passwd"),
        format!("file://{INPUT}/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
        format!("file://{INPUT}/none"),
        format!("file://{INPUT}/directory"),
        format!("file://elsewhere{INPUT}/link"),
        "ftp://localhost/x".to_owned(),
        "no url".to_owned(),
    ] {
        bench.refused(&url).await;
        assert!(!bench.output().exists(), "{url}");
    }
    fs::write(bench.input().join("large"), vec![0; 100_001]).unwrap();
    let reason = bench.refused(&format!("file://{INPUT}/large")).await;
    assert!(reason.contains("downloads.bytes_max"), "{reason}");
    bench.cancel.cancel();
    assert_eq!(bench.fetch(&format!("file://{INPUT}/link")).await.0, Ended::Cancelled);
}

#[tokio::test]
async fn archives_are_unpacked_plain_and_from_xz() {
    let bench = Bench::new();
    let tree_in = bench.directory.path().join("tree");
    fs::create_dir(&tree_in).unwrap();
    fs::write(tree_in.join("file"), vec![b'a'; 50_000]).unwrap();
    symlink("/etc/passwd", tree_in.join("link")).unwrap();
    let nar = |path: &Path| {
        let mut nar = Vec::new();
        let pushed = &mut |chunk: &[u8]| {
            nar.extend_from_slice(chunk);
            Ok(())
        };
        tree::dump(path, pushed).unwrap();
        nar
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let archive = nar(&tree_in);
    let (bomb, zeros) = (xz(&vec![0; 1 << 20]), tree_in.join("zeros"));
    fs::write(&zeros, vec![0; 1 << 20]).unwrap();
    let link = nar(&tree_in.join("link"));
    for (name, bytes) in [
        ("plain", archive.clone()),
        ("good.nar.xz", xz(&archive)),
        ("trailing", [archive.clone(), b"more".to_vec()].concat()),
        ("cut", archive[..archive.len() - 100].to_vec()),
        ("cut.xz", xz(&archive)[..40].to_vec()),
        ("not.xz", archive.clone()),
        ("bomb.xz", bomb),
        ("large.xz", xz(&nar(&zeros))),
        ("link", link),
        ("empty", Vec::new()),
    ] {
        fs::write(bench.input().join(name), bytes).unwrap();
    }
    let unpack = async |name: &str, more: &[(&str, &str)]| {
        let url = format!("file://{INPUT}/{name}");
        let attributes = [&[("url", url.as_str()), ("unpack", "1")], more].concat();
        bench.run("builtin:fetchurl", &attributes).await
    };
    for name in ["plain", "good.nar.xz"] {
        assert_eq!(unpack(name, &[]).await, (Ended::Exited(0), String::new()), "{name}");
        assert_eq!(fs::read(bench.output().join("file")).unwrap().len(), 50_000);
        assert_eq!(fs::read_link(bench.output().join("link")).unwrap(), Path::new("/etc/passwd"));
    }
    for name in ["cut", "cut.xz", "not.xz", "bomb.xz", "large.xz", "empty"] {
        let (ended, log) = unpack(name, &[]).await;
        assert_eq!(ended, Ended::Exited(1), "{name}: {log}");
        assert!(log.contains("cannot unpack"), "{name}: {log}");
    }
    // Its mode is not changed: that of what it leads to would be.
    let (ended, log) = unpack("link", &[("executable", "1")]).await;
    assert_eq!((ended, log.as_str()), (Ended::Exited(1), "error: cannot make a symlink executable\n"));
    let url = format!("file://{INPUT}/plain");
    let (ended, _) = bench.run("builtin:fetchurl", &[("url", &url), ("executable", "1")]).await;
    assert_eq!(ended, Ended::Exited(0));
    assert_eq!(fs::metadata(bench.output()).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn what_is_no_builtin_fails_as_nix_says_it() {
    let bench = Bench::new();
    for (builder, attributes, expected) in [
        ("builtin:no-such", &[][..], "error: unsupported builtin builder 'no-such'\n"),
        ("builtin:fetchurl", &[], "error: attribute 'url' missing\n"),
        ("builtin:buildenv", &[], "error: attribute 'derivations' missing\n"),
        ("builtin:buildenv", &[("derivations", "true 5")], "error: attribute 'derivations' is malformed\n"),
    ] {
        assert_eq!(bench.run(builder, attributes).await, (Ended::Exited(1), expected.to_owned()));
    }
    let (ended, log) = bench.run("builtin:unpack-channel", &[]).await;
    assert!(ended == Ended::Exited(1) && log.contains("is not among those"), "{log}");
}

#[tokio::test]
async fn environments_that_never_end_are_given_up() {
    let bench = Bench::new();
    for name in ["one", "two"] {
        let package = bench.input().join(name);
        fs::create_dir(&package).unwrap();
        symlink(".", package.join("self")).unwrap();
    }
    let derivations = format!("true 5 1 {INPUT}/one true 5 1 {INPUT}/two");
    let (ended, log) = bench.run("builtin:buildenv", &[("derivations", &derivations)]).await;
    assert_eq!(ended, Ended::Exited(1));
    assert!(log.contains("levels"), "{log}");
    // A warning for each of many dangling links: the log's limit holds.
    let mut bench = Bench::new();
    for number in 0..1000 {
        symlink("nowhere", bench.input().join(format!("dangling-{number}"))).unwrap();
    }
    bench.limits = Limits { log_bytes_max: Some(10_000), ..Limits::default() };
    let derivations = format!("true 5 1 {INPUT}");
    let (ended, _) = bench.run("builtin:buildenv", &[("derivations", &derivations)]).await;
    assert_eq!(ended, Ended::LogTooLong { limit_bytes: 10_000 });
}
