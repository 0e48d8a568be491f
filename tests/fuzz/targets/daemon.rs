//! What a nix-daemon may send: our client ends with a result or an error, whatever it asked.
#![no_main]
use libfuzzer_sys::fuzz_target;
use nix_daemon::Connection;
use tokio::io::AsyncWriteExt;

const PATH: &str = "/nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello";

fuzz_target!(|bytes: &[u8]| {
    let Some((operation, bytes)) = bytes.split_first() else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        if far.write_all(&bytes[..bytes.len().min(1 << 19)]).await.is_err() || far.shutdown().await.is_err() {
            return;
        }
        let Ok(mut client) = Connection::greet(near).await else { return };
        match operation % 5 {
            0 => drop(client.is_valid_path(PATH).await),
            1 => drop(client.query_path_info(PATH).await),
            2 => drop(client.query_valid_paths(&[PATH]).await),
            3 => drop(client.query_derivation_output_map(PATH).await),
            _ => {
                if let Ok(mut export) = client.nar_from_path(PATH).await {
                    while let Ok(Some(_)) = export.chunk().await {}
                }
            }
        }
    });
});
