//! The directory that the cases are evaluated from: case files, shells with all their names, and the programs that probe, compiled here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{Bind, Lab};

use crate::served;

/// Where hosts see it.
pub const IN_HOSTS: &str = "/conformance";

const ARCHITECTURES: &[(&str, &str)] = &[
    ("amd64", "gcc"),
    ("arm64", "aarch64-linux-gnu-gcc"),
    ("armhf", "arm-linux-gnueabihf-gcc"),
    ("riscv64", "riscv64-linux-gnu-gcc"),
];

/// Lays the directory out, below the lab's. Downloads of the cases come from nowhere until [`serve`] says where from.
pub fn make(lab: &Lab) -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let directory = lab.directory().join("conformance-layout");
    fs::create_dir_all(directory.join("cases"))?;
    for entry in fs::read_dir(own.join("cases"))? {
        let entry = entry?;
        fs::copy(entry.path(), directory.join("cases").join(entry.file_name()))?;
    }
    served::make(&directory.join("served"))?;
    serve(&directory, "http://127.0.0.1:1")?;
    fs::copy(own.join("walk.nix"), directory.join("walk.nix"))?;
    fs::copy(own.join("script"), directory.join("script"))?;
    // Every byte that a value of Nix can have.
    fs::write(directory.join("bytes"), (1..=u8::MAX).collect::<Vec<_>>())?;
    fs::set_permissions(directory.join("script"), fs::Permissions::from_mode(0o755))?;
    let names = applets(&lab.cache().product("busybox-amd64")?)?;
    for (architecture, compiler) in ARCHITECTURES {
        let program = lab.cache().product(&format!("busybox-{architecture}"))?;
        let bin = directory.join(format!("busybox-{architecture}/bin"));
        fs::create_dir_all(&bin)?;
        fs::copy(program, bin.join("busybox"))?;
        for name in names.iter().filter(|name| *name != "busybox") {
            symlink("busybox", bin.join(name))?;
        }
        for name in ["probe", "attempts"] {
            let compiled = Command::new(compiler)
                .args(["-O1", "-static", "-s", "-Wl,--build-id=none", "-o"])
                .arg(directory.join(format!("{name}-{architecture}")))
                .arg(own.join(format!("{name}.c")))
                .output()
                .with_context(|| format!("start {compiler}: run `cargo xtask setup`"))?;
            ensure!(compiled.status.success(), "{compiler}: {}", String::from_utf8_lossy(&compiled.stderr));
        }
    }
    Ok(directory)
}

/// Tells the cases where downloads come from.
pub fn serve(directory: &Path, url: &str) -> Result<()> {
    Ok(fs::write(directory.join("server.nix"), format!("{url:?}\n"))?)
}

/// Makes it visible in a host.
pub fn bind(directory: &Path) -> Bind {
    Bind { source: directory.to_owned(), target: IN_HOSTS.into(), writable: false }
}

/// Makes the directories of files from anyone visible in a host, each in a place of its own.
pub fn binds_of(files: &[PathBuf]) -> Result<Vec<Bind>> {
    let bind = |(number, file): (usize, &PathBuf)| {
        let target = directory_in_hosts(number, file)?;
        Ok(Bind { source: file.parent().unwrap_or(file).to_owned(), target, writable: false })
    };
    files.iter().enumerate().map(bind).collect()
}

/// Where hosts see a file from anyone.
pub fn file_in_hosts(number: usize, file: &Path) -> Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{}: its name is not UTF-8", file.display()))?;
    Ok(format!("{}/{name}", directory_in_hosts(number, file)?))
}

/// The directory's own name stays: paths of the file's own directory are named after it.
fn directory_in_hosts(number: usize, file: &Path) -> Result<String> {
    let name = file.parent().and_then(Path::file_name).map_or(Some("root"), |name| name.to_str());
    let name = name.filter(|name| !name.contains(char::is_whitespace));
    let name =
        name.with_context(|| format!("{}: copy it to a directory with a plain name", file.display()))?;
    Ok(format!("/files/{number}/{name}"))
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let listed = Command::new(busybox).arg("--list").output().context("start busybox")?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}
