//! What a Nix may send to `elsewhere nix-stdio`: the server ends with requests or an error.
#![no_main]
use libfuzzer_sys::fuzz_target;
use nix_daemon::Server;
use tokio::io::AsyncWriteExt;

fuzz_target!(|bytes: &[u8]| {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        if near.write_all(&bytes[..bytes.len().min(1 << 19)]).await.is_err() || near.shutdown().await.is_err() {
            return;
        }
        let (reader, writer) = tokio::io::split(far);
        let Ok(mut server) = Server::greet(reader, writer, "fuzz").await else { return };
        while let Ok(Some(_)) = server.request().await {
            if server.refuse("not here").await.is_err() {
                return;
            }
        }
    });
});
