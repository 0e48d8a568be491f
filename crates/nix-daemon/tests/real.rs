//! The client against real nix-daemons, each in a mount namespace of its own with a private store.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod board;

use board::{Board, Nix};
use nix_daemon::{Connection, Error, Options, PathInfo, Trust};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

async fn read(client: &mut Connection<UnixStream>, path: &str) -> Vec<u8> {
    let mut export = client.nar_from_path(path).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = export.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

async fn import(client: &mut Connection<UnixStream>, info: &PathInfo, nar: &[u8]) -> Result<(), Error> {
    let mut import = client.add_to_store_nar(info).await?;
    for piece in nar.chunks(50_000) {
        import.write(piece).await?;
    }
    import.finish().await
}

/// Everything that the client asks of a daemon, in one connection: a reply read wrongly breaks the next.
async fn every_operation(nix: Nix) {
    let source = Board::start(nix, "");
    let hello = source.add("hello", b"hello\n");
    let big: Vec<u8> = (0..3_000_000_u32).map(|word| word.to_le_bytes()[word as usize % 4]).collect();
    let big = source.add("big", &big);
    let derivation = source.instantiate();
    let mut client = Connection::open(&source.socket).await.unwrap();
    assert!(client.version() >= 0x122, "{:#x}", client.version());
    client.set_options(&Options::default()).await.unwrap();
    assert!(client.is_valid_path(&hello).await.unwrap());
    let absent = hello.replace("-hello", "-absent");
    assert!(!client.is_valid_path(&absent).await.unwrap());
    let mut expected = vec![hello.clone(), big.clone()];
    expected.sort();
    assert_eq!(client.query_valid_paths(&[&hello, &absent, &big]).await.unwrap(), expected);
    assert_eq!(client.query_path_info(&absent).await.unwrap(), None);
    client.add_temp_root(&absent).await.unwrap();
    let outputs = client.query_derivation_output_map(&derivation).await.unwrap();
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["dev", "out"]);
    assert!(outputs["dev"].as_ref().unwrap().ends_with("-two-dev"));
    source.link("result", &hello);
    client.add_indirect_root(source.outside("result").to_str().unwrap()).await.unwrap();
    for path in [&hello, &big, &derivation] {
        let info = client.query_path_info(path).await.unwrap().unwrap();
        let nar = read(&mut client, path).await;
        assert_eq!(nar.len() as u64, info.nar_size);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&nar)), info.nar_sha256);
    }
    let mut spoilt = Connection::open(&source.socket).await.unwrap();
    let refused = spoilt.nar_from_path(&absent).await.unwrap().chunk().await.unwrap_err();
    assert!(refused.nix_message().is_some_and(|message| message.contains("absent")), "{refused}");
    assert!(!spoilt.is_usable());

    // To another board, which trusts nobody: content-addressed paths only.
    let board = Board::start(nix, "");
    let mut other = Connection::open(&board.socket).await.unwrap();
    assert_ne!(other.trust(), Trust::Trusted);
    for path in [&big, &hello] {
        let info = client.query_path_info(path).await.unwrap().unwrap();
        assert!(info.content_address.is_some());
        let nar = read(&mut client, path).await;
        import(&mut other, &info, &nar).await.unwrap();
        assert_eq!(read(&mut other, path).await, nar);
    }
    refusals(&mut other, &client.query_path_info(&hello).await.unwrap().unwrap()).await;
}

/// What a daemon refuses leaves nothing behind and the connection usable.
async fn refusals(client: &mut Connection<UnixStream>, hello: &PathInfo) {
    let nar = read(client, &hello.path).await;
    let unsigned = PathInfo {
        path: hello.path.replace("-hello", "-other"),
        content_address: None,
        signatures: Vec::new(),
        ..hello.clone()
    };
    let absent = unsigned.path.replace("-other", "-third");
    let wrong_hash = PathInfo { nar_sha256: [7; 32], ..unsigned.clone() };
    let dangling = PathInfo { references: vec![absent.clone()], ..unsigned.clone() };
    for (info, nar) in
        [(&unsigned, &nar[..]), (&wrong_hash, &nar), (&dangling, &nar), (&unsigned, &nar[..40])]
    {
        let refused = import(client, info, nar).await.unwrap_err();
        assert!(refused.is_lack_of_signature(), "{refused}");
        assert!(!client.is_valid_path(&info.path).await.unwrap());
    }
    // Nothing but the signature stood in the way of the first: the rest is refused for itself where that is no matter.
    let mut import = client.add_to_store_nar(&unsigned).await.unwrap();
    import.write(&nar[..40]).await.unwrap();
    assert!(!import.abandon().await.unwrap());
    assert!(!client.is_valid_path(&unsigned.path).await.unwrap());
}

/// Without `require-sigs` the daemon checks the bytes, and those alone.
async fn refusals_of_bytes(nix: Nix) {
    let board = Board::start(nix, "require-sigs = false");
    let path = board.add("hello", b"hello\n");
    let mut client = Connection::open(&board.socket).await.unwrap();
    let known = client.query_path_info(&path).await.unwrap().unwrap();
    let nar = read(&mut client, &path).await;
    let good = PathInfo { path: path.replace("-hello", "-copy"), content_address: None, ..known };
    let dangling = PathInfo { references: vec![path.replace("-hello", "-absent")], ..good.clone() };
    let mut flipped = nar.clone();
    flipped[98] ^= 1;
    let longer = [&nar[..], b"more"].concat();
    for (info, nar) in [(&good, &flipped[..]), (&good, &nar[..nar.len() - 8]), (&dangling, &nar)] {
        let refused = import(&mut client, info, nar).await.unwrap_err();
        assert!(refused.nix_message().is_some(), "{refused}");
        assert!(!client.is_valid_path(&info.path).await.unwrap());
    }
    drop(longer);
    import(&mut client, &good, &nar).await.unwrap();
    assert!(client.is_valid_path(&good.path).await.unwrap());
}

#[tokio::test]
async fn nix_of_this_machine() {
    every_operation(Nix::Host).await;
    refusals_of_bytes(Nix::Host).await;
}

#[tokio::test]
async fn nix_2_34() {
    every_operation(Nix::Sid).await;
    refusals_of_bytes(Nix::Sid).await;
}
