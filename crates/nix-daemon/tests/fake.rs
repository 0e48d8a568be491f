//! The client against the daemon in memory: every operation, both ways at once, refusals, unfinished operations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix_daemon::testing::{Behaviour, FakeDaemon};
use nix_daemon::{Connection, Error, Options, PathInfo, Trust};
use std::future::Future;
use tokio::io::DuplexStream;

const HELLO: &str = "/nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello";
const USER: &str = "/nix/store/c426lska1dcs57a969vcsihm5ddwlbmd-r.txt";

type Client = Connection<DuplexStream>;

/// Runs a client and the daemon side by side, over a pipe that holds little.
async fn against<T, F: Future<Output = T>>(daemon: &FakeDaemon, client: impl FnOnce(Client) -> F) -> T {
    let (near, far) = tokio::io::duplex(1024);
    let serving = daemon.serve(far);
    let running = async move { client(Connection::greet(near).await.unwrap()).await };
    let (result, ()) = tokio::join!(running, serving);
    result
}

/// A NAR of one regular file.
fn nar(contents: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut put = |word: &[u8]| {
        nar.extend_from_slice(&(word.len() as u64).to_le_bytes());
        nar.extend_from_slice(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    };
    for word in ["nix-archive-1", "(", "type", "regular", "contents"] {
        put(word.as_bytes());
    }
    put(contents);
    put(b")");
    nar
}

#[tokio::test]
async fn greets_every_version() {
    for (version, trust) in [
        (0x122, Trust::Unknown),
        (0x123, Trust::NotTrusted),
        (0x125, Trust::NotTrusted),
        (0x126, Trust::NotTrusted),
        (0x127, Trust::NotTrusted),
    ] {
        let daemon = FakeDaemon::new(Behaviour { version, ..Behaviour::default() });
        against(&daemon, async |mut client| {
            assert_eq!(client.version(), version.min(0x126));
            assert_eq!(client.nix_version(), "2.fake");
            assert_eq!(client.trust(), trust);
            assert!(!client.is_valid_path(HELLO).await.unwrap());
        })
        .await;
    }
}

#[tokio::test]
async fn refuses_an_old_daemon() {
    let daemon = FakeDaemon::new(Behaviour { version: 0x121, ..Behaviour::default() });
    let (near, far) = tokio::io::duplex(1024);
    let (refused, ()) = tokio::join!(Connection::greet(near), daemon.serve(far));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("1.33") && text.contains("1.34 or later"), "{text}");
}

#[tokio::test]
async fn small_operations_one_after_another() {
    let daemon = FakeDaemon::default();
    let info = daemon.insert(HELLO, &[], nar(b"hello"));
    against(&daemon, async |mut client| {
        client.set_options(&Options { keep_going: true, ..Options::default() }).await.unwrap();
        assert!(client.is_valid_path(HELLO).await.unwrap());
        assert_eq!(client.query_valid_paths(&[USER, HELLO, HELLO]).await.unwrap(), [HELLO]);
        assert_eq!(client.query_path_info(HELLO).await.unwrap(), Some(info));
        assert_eq!(client.query_path_info(USER).await.unwrap(), None);
        // The 1 at the end of these must not begin the next reply.
        client.add_temp_root(USER).await.unwrap();
        client.add_indirect_root("/home/user/result").await.unwrap();
        let outputs = client.query_derivation_output_map(&format!("{HELLO}.drv")).await.unwrap();
        assert_eq!(outputs["out"].as_deref(), Some(HELLO));
    })
    .await;
    assert_eq!(daemon.store().temporary_roots, [USER]);
    assert_eq!(daemon.store().indirect_roots, ["/home/user/result"]);
}

async fn read(client: &mut Client, path: &str) -> Result<Vec<u8>, Error> {
    let mut export = client.nar_from_path(path).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = export.chunk().await? {
        assert!(!chunk.is_empty() && chunk.len() <= nix_daemon::CHUNK_BYTES_MAX);
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_nar_goes_out_and_the_next_operation_follows() {
    let daemon = FakeDaemon::default();
    let big = nar(&vec![7; 300_001]);
    daemon.insert(HELLO, &[], big.clone());
    against(&daemon, async |mut client| {
        assert!(read(&mut client, HELLO).await.unwrap() == big);
        let refused = read(&mut client, USER).await.unwrap_err();
        assert_eq!(refused.nix_message(), Some(format!("path '{USER}' is not valid").as_str()));
        assert!(client.is_valid_path(HELLO).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_nar_left_unread_makes_the_connection_unusable() {
    let daemon = FakeDaemon::default();
    let big = nar(&vec![7; 300_001]);
    daemon.insert(HELLO, &[], big.clone());
    against(&daemon, async |mut client| {
        let mut export = client.nar_from_path(HELLO).await.unwrap();
        export.chunk().await.unwrap().unwrap();
        drop(export);
        let refused = client.is_valid_path(HELLO).await.unwrap_err();
        assert!(matches!(refused, Error::Unfinished { .. }), "{refused}");
    })
    .await;
}

/// Path information that is true of a NAR.
fn true_info(path: &str, references: &[&str], nar: &[u8]) -> PathInfo {
    let mut info = FakeDaemon::default().insert(path, references, nar.to_vec());
    info.signatures = vec!["key:sig".to_owned()];
    info
}

async fn import(client: &mut Client, info: &PathInfo, nar: &[u8]) -> Result<(), Error> {
    let mut import = client.add_to_store_nar(info).await?;
    for piece in nar.chunks(100_000) {
        import.write(piece).await?;
    }
    import.finish().await
}

#[tokio::test]
async fn a_nar_goes_in_while_the_daemon_talks() {
    // The pipe holds 1 KiB: without reading while writing, both sides would wait for ever.
    let daemon = FakeDaemon::new(Behaviour { log_bytes_per_frame: 20_000, ..Behaviour::default() });
    let big = nar(&vec![7; 1_000_003]);
    let info = true_info(HELLO, &[], &big);
    against(&daemon, async |mut client| {
        import(&mut client, &info, &big).await.unwrap();
        assert_eq!(client.take_log().len(), 21);
        assert!(client.is_valid_path(HELLO).await.unwrap());
    })
    .await;
    assert!(daemon.store().paths[HELLO].1 == big);
}

#[tokio::test]
async fn refusals_name_the_reason_and_leave_the_connection_usable() {
    let good = nar(b"hello");
    let info = true_info(HELLO, &[], &good);
    let unsigned = PathInfo { signatures: Vec::new(), ..info.clone() };
    let dangling = PathInfo { references: vec![USER.to_owned()], ..info.clone() };
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let table = [
        (&unsigned, good.as_slice(), false, "lacks a signature"),
        (&dangling, &good, false, "is not valid"),
        (&info, &flipped, false, "hash mismatch"),
        (&info, &good[..50], false, "hash mismatch"),
        (&info, &good, true, "no room"),
    ];
    for (info, nar, refuse_early, expected) in table {
        let required_key = Some("key".to_owned());
        let daemon = FakeDaemon::new(Behaviour { required_key, refuse_early, ..Behaviour::default() });
        against(&daemon, async |mut client| {
            let refused = import(&mut client, info, nar).await.unwrap_err();
            let message = refused.nix_message().unwrap();
            assert!(message.contains(expected), "{message}");
            assert_eq!(refused.is_lack_of_signature(), expected.contains("signature"));
            assert!(!client.is_valid_path(HELLO).await.unwrap());
        })
        .await;
    }
}

#[tokio::test]
async fn an_abandoned_nar_is_not_registered() {
    let daemon = FakeDaemon::default();
    let good = nar(b"hello");
    let info = true_info(HELLO, &[], &good);
    against(&daemon, async |mut client| {
        let mut import = client.add_to_store_nar(&info).await.unwrap();
        import.write(&good[..60]).await.unwrap();
        assert!(!import.abandon().await.unwrap());
        assert!(!client.is_valid_path(HELLO).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_an_error_of_the_stream() {
    let (near, far) = tokio::io::duplex(1024);
    let daemon = FakeDaemon::default();
    let client = async {
        let mut client = Connection::greet(near).await.unwrap();
        client.is_valid_path(HELLO).await.unwrap();
        client
    };
    let mut client = tokio::select! {
        client = client => client,
        () = daemon.serve(far) => panic!("the daemon ended first"),
    };
    let lost = client.is_valid_path(HELLO).await.unwrap_err();
    assert!(matches!(lost, Error::Stream { .. }), "{lost}");
}
