//! Compiles the .proto files with protox: no protoc binary is needed.
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = ["common", "plans", "work", "blobs"];
    let files: Vec<_> = names.iter().map(|name| format!("elsewhere/v1/{name}.proto")).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".elsewhere").compile_fds(descriptors)?;
    Ok(())
}
