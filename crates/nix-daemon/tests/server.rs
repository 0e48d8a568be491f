//! The server's side: our own client understands it, and whatever a client sends, it ends with a request or an error.

use bytes::Bytes;
use nix_daemon::{BuildResult, BuildStatus, Connection, PathInfo, Reply, Request, Server, ServerError};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

const PATH: &str = "/nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello";
const OTHER: &str = "/nix/store/c426lska1dcs57a969vcsihm5ddwlbmd-r.txt";

type OverPipe = Server<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

async fn serve(far: DuplexStream) -> Result<OverPipe, ServerError> {
    let (reader, writer) = tokio::io::split(far);
    Server::greet(reader, writer, "elsewhere test").await
}

fn info() -> PathInfo {
    PathInfo {
        path: PATH.into(),
        deriver: None,
        nar_sha256: [7; 32],
        nar_size: 112,
        references: vec![OTHER.into()],
        signatures: vec!["k:s".into()],
        content_address: None,
    }
}

/// `nix-archive-1` with an empty file.
fn nar() -> Vec<u8> {
    let mut nar = Vec::new();
    for word in ["nix-archive-1", "(", "type", "regular", "contents", "", ")"] {
        nar.extend_from_slice(&(word.len() as u64).to_le_bytes());
        nar.extend_from_slice(word.as_bytes());
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

/// Nix 2.8.
#[tokio::test]
async fn a_client_that_says_its_version_last_is_greeted() {
    let (mut near, far) = tokio::io::duplex(256);
    let greeting = async move {
        near.write_u64_le(0x6e69_7863).await.unwrap();
        assert_eq!(near.read_u64_le().await.unwrap(), 0x6478_696f);
        assert_eq!(near.read_u64_le().await.unwrap(), 0x126);
        for number in [0x122, 0, 0] {
            near.write_u64_le(number).await.unwrap();
        }
        // The name of the software, and the end of the greeting.
        let mut rest = [0; 8 + 16 + 8];
        near.read_exact(&mut rest).await.unwrap();
        assert!(rest.windows(14).any(|name| name == b"elsewhere test"));
    };
    let (served, ()) = tokio::join!(serve(far), greeting);
    served.unwrap();
}

#[tokio::test]
async fn a_client_asks_and_fetches() {
    let (near, far) = tokio::io::duplex(256);
    let serving = async {
        let mut server = serve(far).await?;
        let mut seen = Vec::new();
        while let Some(request) = server.request().await? {
            match &request {
                Request::IsValidPath(path) => server.reply(Reply::Boolean(path == PATH)).await?,
                Request::QueryPathInfo(path) => {
                    server.reply(Reply::PathInfo((path == PATH).then(info))).await?;
                }
                Request::QueryValidPaths(paths) => server.reply(Reply::Paths(paths.clone())).await?,
                Request::NarFromPath(_) => {
                    server.note("on its way").await?;
                    server.reply(Reply::NarBegins).await?;
                    for part in nar().chunks(20) {
                        server.nar(&Bytes::copy_from_slice(part)).await?;
                    }
                    server.nar_ends().await?;
                }
                Request::Keep(_) => server.reply(Reply::Done).await?,
                _ => {
                    server.refuse("not that").await?;
                    return Ok(seen);
                }
            }
            seen.push(request);
        }
        Ok::<_, ServerError>(seen)
    };
    let asking = async move {
        let mut client = Connection::greet(near).await.unwrap();
        assert_eq!((client.version(), client.nix_version()), (0x126, "elsewhere test"));
        assert!(client.is_valid_path(PATH).await.unwrap() && !client.is_valid_path(OTHER).await.unwrap());
        assert_eq!(client.query_path_info(PATH).await.unwrap(), Some(info()));
        assert_eq!(client.query_path_info(OTHER).await.unwrap(), None);
        assert_eq!(client.query_valid_paths(&[PATH, OTHER]).await.unwrap(), [OTHER, PATH]);
        client.add_temp_root(PATH).await.unwrap();
        let mut export = client.nar_from_path(PATH).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = export.chunk().await.unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes, nar());
        assert_eq!(client.take_log(), ["on its way\n"]);
        // What follows an operation that is not served cannot be told from the next one: it is the last.
        let refused = client.add_indirect_root("/nix/store/link").await.unwrap_err();
        assert!(refused.nix_message().is_some_and(|message| message.contains("not that")), "{refused}");
    };
    let (seen, ()) = tokio::join!(serving, asking);
    assert_eq!(seen.unwrap().len(), 7);
}

/// A greeting of 1.34, without features; what follows is a client's.
fn greeting() -> Vec<u8> {
    [0x6e69_7863_u64, 0x122, 0, 0].into_iter().flat_map(u64::to_le_bytes).collect()
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let operation = proptest::sample::select(vec![1_u64, 10, 19, 26, 31, 36, 38, 39, 43, 44]);
    let text = |text: String| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let word = prop_oneof![
        4 => operation.prop_map(|code| code.to_le_bytes().to_vec()),
        5 => (0_u64..20).prop_map(|small| small.to_le_bytes().to_vec()),
        1 => any::<u64>().prop_map(|number| number.to_le_bytes().to_vec()),
        3 => Just(text(PATH.to_owned())),
        2 => "[a-z/\u{1b}é]{0,20}".prop_map(text),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn whatever_a_client_sends_ends(bytes in words(), cut in any::<prop::sample::Index>()) {
        let mut all = [greeting(), bytes].concat();
        all.truncate(cut.index(all.len() + 1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            near.write_all(&all).await.unwrap();
            near.shutdown().await.unwrap();
            if let Ok(mut server) = serve(far).await {
                while let Ok(Some(request)) = server.request().await {
                    if matches!(request, Request::Other(_)) {
                        break;
                    }
                    let _sent = server.refuse("no").await;
                }
            }
        });
    }
}

/// The first bytes of both sides, and the word that ends a reply, as real Nix writes them.
#[tokio::test]
async fn greetings_are_real_nixs_to_the_byte() {
    const CLIENT: &[u8; 16] = b"cxin\0\0\0\0\x26\x01\0\0\0\0\0\0";
    const OLD_SERVER: &[u8; 16] = b"oixd\0\0\0\0\x22\x01\0\0\0\0\0\0";
    const LAST: &[u8; 8] = b"stla\0\0\0\0";
    let (near, mut far) = tokio::io::duplex(4096);
    let old_server = async {
        let mut greeting = [0; 16];
        far.read_exact(&mut greeting).await.unwrap();
        far.write_all(OLD_SERVER).await.unwrap();
        far.write_all(b"\x05\0\0\0\0\0\0\x002.8.0\0\0\0").await.unwrap();
        far.write_all(LAST).await.unwrap();
        greeting
    };
    let (client, greeting) = tokio::join!(Connection::greet(near), old_server);
    assert_eq!(&greeting, CLIENT);
    let client = client.unwrap();
    assert_eq!((client.version(), client.nix_version()), (0x122, "2.8.0"));

    let (mut near, far) = tokio::io::duplex(4096);
    let new_client = async {
        near.write_all(CLIENT).await.unwrap();
        let mut greeting = [0; 16];
        near.read_exact(&mut greeting).await.unwrap();
        near.shutdown().await.unwrap();
        greeting
    };
    let (_server, greeting) = tokio::join!(serve(far), new_client);
    assert_eq!(&greeting[..8], &OLD_SERVER[..8]);
    assert_eq!(&greeting[8..], &CLIENT[8..], "the server speaks as new a version as the client");
}

/// What a build gave, where its derivation does not say the paths. Protocols 1.34 and 1.38 differ in the processor times before.
#[tokio::test]
async fn realisations_come_with_the_result_in_nixs_words() {
    let id = format!("sha256:{}!out", "0b".repeat(32));
    for (version, times) in [(0x122_u64, 0), (0x126, 16)] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_u64_le(0x6e69_7863).await.unwrap();
        // Versions from 1.38 on exchange lists of features.
        for number in [version].into_iter().chain((version >= 0x126).then_some(0)).chain([0, 0]) {
            near.write_u64_le(number).await.unwrap();
        }
        let mut server = serve(far).await.unwrap();
        let result = BuildResult {
            status: BuildStatus::Built,
            message: String::new(),
            started: 5,
            stopped: 6,
            realisations: vec![(id.clone(), "gwina1sjk7g95wq6fxc6b7s1hza53h74-hello".into())],
        };
        server.reply(Reply::BuildResult(result)).await.unwrap();
        drop(server);
        let mut all = Vec::new();
        near.read_to_end(&mut all).await.unwrap();
        let mut end = Vec::new();
        // Built, no message, once, deterministic as far as known, from 5 to 6.
        for number in [0_u64, 0, 1, 0, 5, 6] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        end.resize(end.len() + times, 0);
        end.extend_from_slice(&1_u64.to_le_bytes());
        let json = format!(
            r#"{{"dependentRealisations":{{}},"id":"{id}","outPath":"gwina1sjk7g95wq6fxc6b7s1hza53h74-hello","signatures":[]}}"#
        );
        for word in [&id, &json] {
            end.extend_from_slice(&(word.len() as u64).to_le_bytes());
            end.extend_from_slice(word.as_bytes());
            end.resize(end.len().next_multiple_of(8), 0);
        }
        assert!(all.ends_with(&end), "{version:#x}: {}", String::from_utf8_lossy(&all));
    }
}
