//! `builtin:buildenv`: one tree of symlinks to what several packages have, as `nix-env` and `nix profile` want it.
use super::control::Bell;
use super::view::{Found, View};
use super::{Stop, Task};
use crate::store::STORE_DIRECTORY;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories below each other: more than an archive may have.
const DEPTH_MAX: usize = crate::tree::DEPTH_MAX + 1;
/// Largest list of propagated packages, in bytes.
const PROPAGATED_BYTES_MAX: u64 = 4 << 20;
/// Links of one environment: two packages whose links lead back to themselves would make them without end.
const LINKS_MAX: usize = 1_000_000;
/// Priority of the first package that another one brings along.
const PROPAGATED_PRIORITY_FIRST: i64 = 1000;
/// Ends of paths that no environment has.
const SKIPPED: [&str; 7] = [
    "/propagated-build-inputs",
    "/nix-support",
    "/perllocal.pod",
    "/info/dir",
    "/log",
    "/manifest.nix",
    "/manifest.json",
];

/// One package of the environment; the lowest number wins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Package {
    priority: i64,
    path: PathBuf,
}

/// Makes the environment that a derivation describes.
pub fn perform(task: &Task, bell: Bell) -> Result<(), Stop> {
    let mut packages = packages(task.attribute("derivations")?)?;
    packages.sort();
    std::fs::create_dir(&task.output).map_err(|error| Stop::disk("make", &task.output, &error))?;
    let mut farm = Farm {
        view: &task.view,
        root: &task.output,
        shown: shown(task),
        bell,
        priorities: HashMap::new(),
        done: HashSet::new(),
        postponed: BTreeSet::new(),
        links: 0,
    };
    for package in packages {
        farm.package(package)?;
    }
    let mut priority = PROPAGATED_PRIORITY_FIRST;
    while !farm.postponed.is_empty() {
        for path in std::mem::take(&mut farm.postponed) {
            farm.package(Package { priority, path })?;
            priority += 1;
        }
    }
    let manifest = task.attribute("manifest")?;
    farm.link(Path::new(OsStr::from_bytes(manifest)), Path::new("manifest.nix"))
}

/// The output's path as people know it.
fn shown(task: &Task) -> PathBuf {
    let name = task.output.file_name().unwrap_or_default();
    Path::new(STORE_DIRECTORY).join(name)
}

/// Reads `active priority count path...`, repeated; inactive packages are left out.
fn packages(text: &[u8]) -> Result<Vec<Package>, Stop> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut packages = Vec::new();
    while let Some(active) = words.next() {
        let mut number = || -> Option<i64> { std::str::from_utf8(words.next()?).ok()?.parse().ok() };
        let malformed = || Stop::Failed("attribute 'derivations' is malformed".into());
        let (priority, count) = number().zip(number()).ok_or_else(malformed)?;
        for _ in 0..count {
            let path = PathBuf::from(OsStr::from_bytes(words.next().ok_or_else(malformed)?));
            if active != b"false" {
                packages.push(Package { priority, path });
            }
        }
    }
    Ok(packages)
}

/// What has become of the environment so far. Paths in it are relative to its root.
struct Farm<'a> {
    view: &'a View,
    root: &'a Path,
    shown: PathBuf,
    bell: Bell,
    /// Of each link, the priority of the package that it leads to.
    priorities: HashMap<PathBuf, i64>,
    done: HashSet<PathBuf>,
    postponed: BTreeSet<PathBuf>,
    /// Made so far.
    links: usize,
}

/// What is at a place of the environment.
enum There {
    Nothing,
    Directory,
    Link(PathBuf),
}

impl Farm<'_> {
    fn package(&mut self, package: Package) -> Result<(), Stop> {
        if !self.done.insert(package.path.clone()) {
            return Ok(());
        }
        self.directory(&package.path, Path::new(""), package.priority, 0)?;
        let propagated = package.path.join("nix-support/propagated-user-env-packages");
        let text = match self.view.find(&propagated) {
            Ok(file) => read_bounded(&file.host)
                .map_err(|error| Stop::Failed(format!("reading '{}': {error}", propagated.display())))?,
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(cannot("open", &propagated, &error)),
        };
        for path in text.split(|byte| b" \n".contains(byte)).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(OsStr::from_bytes(path));
            if !self.done.contains(&path) {
                self.postponed.insert(path);
            }
        }
        Ok(())
    }

    /// Links to everything in a directory of a package, at a place of the environment.
    fn directory(&mut self, source: &Path, place: &Path, priority: i64, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            let text = format!("'{}' has more than {DEPTH_MAX} levels", self.shown.join(place).display());
            return Err(Stop::Failed(text));
        }
        let found = match self.view.find(source) {
            Ok(found) if found.is_directory => found,
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                return Err(cannot("get status of", source, &error));
            }
            _ => {
                let reason = "in the user environment because it's not a directory";
                return self.bell.warn(format!("not including '{}' {reason}", source.display()));
            }
        };
        let names = self.view.names(&found).map_err(|error| cannot("open directory", source, &error))?;
        for name in names.into_iter().filter(|name| !name.as_bytes().starts_with(b".")) {
            self.entry(&source.join(&name), &place.join(&name), priority, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, source: &Path, place: &Path, priority: i64, depth: usize) -> Result<(), Stop> {
        self.bell.check()?;
        let found = match self.view.find(source) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => {
                return self.bell.warn(format!("skipping dangling symlink '{}'", self.shown_place(place)));
            }
            Err(error) => return Err(cannot("get status of", source, &error)),
        };
        if SKIPPED.iter().any(|end| source.as_os_str().as_bytes().ends_with(end.as_bytes())) {
            return Ok(());
        }
        match (self.there(place)?, found.is_directory) {
            (There::Directory, true) => return self.directory(source, place, priority, depth + 1),
            (There::Link(target), true) => {
                self.widen(&target, source, place, depth)?;
                return self.directory(source, place, priority, depth + 1);
            }
            (There::Link(target), false) => {
                let other = self.priorities.get(place).copied().unwrap_or(0);
                if other == priority {
                    return Err(Stop::Failed(conflict(&target, source)));
                }
                if other < priority {
                    return Ok(());
                }
                let path = self.root.join(place);
                std::fs::remove_file(&path).map_err(|error| Stop::disk("remove", &path, &error))?;
            }
            (There::Directory, false) => {
                let (source, place) = (source.display(), self.shown_place(place));
                return Err(Stop::Failed(format!(
                    "collision between non-directory \"{source}\" and directory \"{place}\""
                )));
            }
            (There::Nothing, _) => {}
        }
        self.link(source, place)?;
        self.priorities.insert(place.to_owned(), priority);
        Ok(())
    }

    /// Turns a link to a directory into a directory of links: a second package has that directory, too.
    fn widen(&mut self, target: &Path, source: &Path, place: &Path, depth: usize) -> Result<(), Stop> {
        let real = match self.view.find(target) {
            Ok(Found { path, is_directory: true, .. }) => path,
            Ok(Found { path, .. }) => {
                return Err(Stop::Failed(format!(
                    "collision between \"{}\" and non-directory \"{}\"",
                    source.display(),
                    path.display()
                )));
            }
            Err(error) => return Err(cannot("get status of", target, &error)),
        };
        let path = self.root.join(place);
        std::fs::remove_file(&path).map_err(|error| Stop::disk("remove", &path, &error))?;
        std::fs::create_dir(&path).map_err(|error| Stop::disk("make", &path, &error))?;
        let priority = self.priorities.get(place).copied().unwrap_or(0);
        self.directory(&real, place, priority, depth + 1)
    }

    fn shown_place(&self, place: &Path) -> String {
        self.shown.join(place).display().to_string()
    }

    fn there(&self, place: &Path) -> Result<There, Stop> {
        let path = self.root.join(place);
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(There::Nothing),
            Err(error) => Err(Stop::disk("examine", &path, &error)),
            Ok(status) if status.is_symlink() => {
                std::fs::read_link(&path).map(There::Link).map_err(|error| Stop::disk("read", &path, &error))
            }
            Ok(_) => Ok(There::Directory),
        }
    }

    fn link(&mut self, target: &Path, place: &Path) -> Result<(), Stop> {
        self.links += 1;
        if self.links > LINKS_MAX {
            let text = format!("'{}' has more than {LINKS_MAX} links", self.shown.display());
            return Err(Stop::Failed(text));
        }
        let path = self.root.join(place);
        std::os::unix::fs::symlink(target, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Stop::Failed(format!(
                "creating symlink from '{}' to '{}': File exists",
                self.shown_place(place),
                target.display()
            )),
            _ => Stop::disk("make symlink", &path, &error),
        })
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Stop {
    Stop::Failed(format!("{action} '{}': {error}", path.display()))
}

fn conflict(one: &Path, other: &Path) -> String {
    format!(
        "Unable to build profile. There is a conflict for the following files:\n\n  \"{}\"\n  \"{}\"",
        one.display(),
        other.display()
    )
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let size = io::copy(&mut std::fs::File::open(path)?.take(PROPAGATED_BYTES_MAX + 1), &mut text)?;
    if size > PROPAGATED_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {PROPAGATED_BYTES_MAX} bytes")));
    }
    Ok(text)
}
