//! What the downloads of the cases come from: files and archives, served by a host of the lab.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Bind, Host, HostSpec, Lab, Process, User, wait_until};

/// Where the serving host sees the files.
const IN_HOST: &str = "/served";
const PORT: u16 = 8080;

/// A host that serves the files of a layout over HTTP. The process goes before its host.
pub struct Server {
    _process: Process,
    host: Host,
}

impl Server {
    /// Starts it, with files that [`make`] has made.
    pub fn start(lab: &Lab, directory: &Path) -> Result<Self> {
        let root = lab.cache().product("roots/sid")?;
        let binds = vec![Bind { source: directory.to_owned(), target: IN_HOST.into(), writable: false }];
        let host = lab.host(HostSpec { name: "server".into(), root, binds, ..HostSpec::default() })?;
        let port = PORT.to_string();
        let argv = ["busybox", "httpd", "-f", "-p", &port, "-h", IN_HOST];
        let process = host.service(User::Root, "httpd", &argv, &[])?;
        wait_until("the test's HTTP server", Duration::from_secs(20), || {
            Ok(host.listens(PORT)?.then_some(()))
        })?;
        Ok(Self { _process: process, host })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}:{PORT}", self.host.address())
    }
}

/// Makes the files: plain ones, and archives by real Nix.
pub fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory.join("directory"))?;
    fs::write(directory.join("file"), "served to whoever asks\n".repeat(10_000))?;
    fs::write(directory.join("empty"), "")?;
    fs::write(directory.join("directory/index.html"), "found after a redirect\n")?;
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("sub"))?;
    fs::write(tree.join("sub/file"), vec![b'a'; 300_000])?;
    std::os::unix::fs::symlink("sub/file", tree.join("link"))?;
    dump(&tree, &directory.join("tree.nar"))?;
    let executable = directory.join("executable");
    fs::copy(directory.join("file"), &executable)?;
    fs::set_permissions(&executable, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    dump(&executable, &directory.join("executable.nar"))?;
    let packed = directory.join("tree.nar.xz");
    let to_file = File::create(&packed)?;
    let status = Command::new("xz").arg("-c").arg(directory.join("tree.nar")).stdout(to_file).status();
    ensure!(status.context("start xz: run `cargo xtask setup`")?.success(), "xz failed");
    let bytes = fs::read(&packed)?;
    fs::write(directory.join("cut.nar.xz"), &bytes[..bytes.len() / 2])?;
    Ok(())
}

fn dump(tree: &Path, archive: &Path) -> Result<()> {
    let status = Command::new("nix-store").arg("--dump").arg(tree).stdout(File::create(archive)?).status();
    ensure!(status.context("start nix-store: run `cargo xtask setup`")?.success(), "nix-store --dump failed");
    Ok(())
}
