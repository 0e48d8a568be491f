//! What this host allows: each question is answered with a reason when the answer is no.
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::binfmt::{Registration, RuleTemplate, parse_registration};

/// Largest file of /proc/sys that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most host registrations that are looked at.
const REGISTRATIONS_MAX: usize = 1000;
/// First kernel with a binfmt_misc instance for each user namespace.
const PRIVATE_INTERPRETERS_SINCE: (u32, u32) = (6, 7);
/// Where the kernel shows the host's interpreters.
const REGISTRATIONS: &str = "/proc/sys/fs/binfmt_misc";

/// Why the host cannot do something, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Version of the kernel as it calls itself (`uname -r`).
pub fn kernel_release() -> Result<String, Unavailable> {
    read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned())
}

/// Can sandboxes have interpreters of their own? Needs Linux 6.7.
pub fn private_interpreters(kernel_release: &str) -> Result<(), Unavailable> {
    let mut numbers = kernel_release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Err(Unavailable(format!("kernel release {kernel_release:?} does not start with a version")));
    };
    if (major, minor) < PRIVATE_INTERPRETERS_SINCE {
        return Err(Unavailable(format!(
            "kernel {kernel_release} has no binfmt_misc for user namespaces: 6.7 or later is needed, or register \
             a static qemu-user on the host with flag F"
        )));
    }
    Ok(())
}

/// May this user create user namespaces? Reads the kernel's settings; only a trial run is proof.
pub fn user_namespaces(user_id: u32) -> Result<(), Unavailable> {
    let number = |path: &str| read(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    user_namespaces_by(
        user_id,
        number("/proc/sys/user/max_user_namespaces"),
        number("/proc/sys/kernel/unprivileged_userns_clone"),
        number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    )
}

/// The same from the values of the three settings (none: the kernel does not have it).
fn user_namespaces_by(
    user: u32,
    max: Option<u64>,
    debian: Option<u64>,
    ubuntu: Option<u64>,
) -> Result<(), Unavailable> {
    let refuse = |text: &str| Err(Unavailable(text.to_owned()));
    match (max, debian, ubuntu) {
        (None, _, _) => refuse("this kernel has no user namespaces (CONFIG_USER_NS)"),
        (Some(0), _, _) => refuse("user namespaces are switched off: sysctl user.max_user_namespaces=15000"),
        (_, Some(0), _) if user != 0 => {
            refuse("user namespaces are for root only: sysctl kernel.unprivileged_userns_clone=1")
        }
        (_, _, Some(1)) if user != 0 => refuse(
            "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a \
             profile with `userns` for elsewhere-launcher",
        ),
        _ => Ok(()),
    }
}

/// Can this user map two ids? Root writes the maps itself, anybody else needs newuidmap and newgidmap in PATH.
pub fn id_mapping(user_id: u32) -> Result<(), Unavailable> {
    if user_id == 0 {
        return Ok(());
    }
    for program in ["newuidmap", "newgidmap"] {
        find_in_path(program).ok_or_else(|| {
            Unavailable(format!("{program} is not in PATH: install the package uidmap (shadow on NixOS)"))
        })?;
    }
    Ok(())
}

/// The host's registration for files of a system, the pinned one first.
pub fn host_registration(template: &RuleTemplate) -> Option<Registration> {
    let entries = std::fs::read_dir(REGISTRATIONS).ok()?;
    let mut found: Vec<Registration> = entries
        .take(REGISTRATIONS_MAX)
        .filter_map(|entry| read(entry.ok()?.path()).ok())
        .filter_map(|text| parse_registration(&text, template))
        .collect();
    found.sort_by_key(|registration| !registration.pinned);
    found.into_iter().next()
}

/// The first executable file of this name in PATH.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|candidate| {
            std::fs::metadata(candidate)
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

fn read(path: impl AsRef<Path>) -> Result<String, Unavailable> {
    use std::io::Read;
    let path = path.as_ref();
    let fail = |error: std::io::Error| Unavailable(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(fail)?.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        let check =
            |release: &str, good: bool| assert_eq!(private_interpreters(release).is_ok(), good, "{release}");
        check("6.18.44-fc-v669", true);
        check("6.7", true);
        check("6.7-rc1", true);
        check("7.0.1", true);
        check("6.6.99", false);
        check("6.1.0-18-amd64", false);
        check("5.15.0", false);
        check("six", false);
        check("", false);
    }

    #[test]
    fn refused_namespaces_name_the_setting() {
        let check = |user, settings: (Option<u64>, Option<u64>, Option<u64>), expected: Option<&str>| {
            let answer = user_namespaces_by(user, settings.0, settings.1, settings.2);
            match (answer, expected) {
                (Ok(()), None) => {}
                (Err(reason), Some(text)) if reason.0.contains(text) => {}
                (answer, _) => panic!("{user} {settings:?}: {answer:?}"),
            }
        };
        check(1000, (Some(100), None, None), None);
        check(1000, (None, None, None), Some("CONFIG_USER_NS"));
        check(0, (Some(0), None, None), Some("max_user_namespaces"));
        check(1000, (Some(9), Some(0), None), Some("unprivileged_userns_clone"));
        check(0, (Some(9), Some(0), Some(1)), None);
        check(1000, (Some(9), Some(1), Some(1)), Some("AppArmor"));
    }
}
