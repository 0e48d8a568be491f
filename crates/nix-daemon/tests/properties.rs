//! Whatever a daemon sends, the client ends with a result or an error: no panic, no hang, no unbounded memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix_daemon::{Connection, PathInfo};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

const PATH: &str = "/nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello";

/// What a daemon of 1.34 says first.
fn greeting() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0x6478_696f_u64, 0x122, 3] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(b"2.8\0\0\0\0\0");
    bytes.extend_from_slice(&0x616c_7473_u64.to_le_bytes());
    bytes
}

/// Words that a daemon uses, and any others: random bytes alone would end at the first code.
fn replies() -> impl Strategy<Value = Vec<u8>> {
    let codes = [
        0x6f6c_6d67,
        0x6461_7461,
        0x6461_7416,
        0x616c_7473,
        0x6378_7470,
        0x5354_5254,
        0x5354_4f50,
        0x5253_4c54,
    ];
    let word = prop_oneof![
        4 => proptest::sample::select(codes.to_vec()).prop_map(|code: u64| code.to_le_bytes().to_vec()),
        6 => (0_u64..40).prop_map(|small| small.to_le_bytes().to_vec()),
        1 => any::<u64>().prop_map(|number| number.to_le_bytes().to_vec()),
        3 => "[a-z/\u{1b}é]{0,20}".prop_map(|text| {
            let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

/// Feeds a client these bytes, and then the end of the stream.
fn feed(bytes: &[u8], operation: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let Ok(mut client) = Connection::greet(near).await else { return };
        match operation {
            0 => drop(client.is_valid_path(PATH).await),
            1 => drop(client.query_path_info(PATH).await),
            2 => drop(client.query_valid_paths(&[PATH]).await),
            3 => drop(client.query_derivation_output_map(PATH).await),
            4 => drop(client.add_temp_root(PATH).await),
            5 => {
                if let Ok(mut export) = client.nar_from_path(PATH).await {
                    while let Ok(Some(_)) = export.chunk().await {}
                }
            }
            _ => {
                let info = PathInfo {
                    path: PATH.to_owned(),
                    deriver: None,
                    nar_sha256: [0; 32],
                    nar_size: 1000,
                    references: vec![PATH.to_owned()],
                    signatures: Vec::new(),
                    content_address: None,
                };
                if let Ok(mut import) = client.add_to_store_nar(&info).await
                    && import.write(&[0; 1000]).await.is_ok()
                {
                    drop(import.finish().await);
                }
            }
        }
    });
}

proptest! {
    #[test]
    fn any_greeting(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        feed(&bytes, 0);
    }

    #[test]
    fn any_reply(reply in replies(), operation in 0_usize..7) {
        feed(&[greeting(), reply].concat(), operation);
    }

    #[test]
    fn a_reply_cut_anywhere(reply in replies(), cut in any::<prop::sample::Index>(), operation in 0_usize..7) {
        let bytes = [greeting(), reply].concat();
        feed(&bytes[..cut.index(bytes.len() + 1)], operation);
    }
}

#[test]
fn lengths_are_claims() {
    // A list of 2^60 paths, a string of 2^63 bytes: refused without making room for them.
    for length in [1_u64 << 60, 1 << 63, u64::MAX] {
        for operation in 0..7 {
            let reply = [0x616c_7473_u64, length, length, length].map(u64::to_le_bytes).concat();
            feed(&[greeting(), reply].concat(), operation);
        }
    }
}
