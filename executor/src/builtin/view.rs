//! The store as a builtin sees it: the input closure at `/nix/store`, wherever its trees are on this machine.
//!
//! A symlink in an input may say anything, so none is ever left to the kernel: each component is looked at, and what a
//! link says is looked up in the view again. Trees do not change while they are held.
use crate::store::{STORE_DIRECTORY, base_name};
use model::StorePath;
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Symlinks on the way to one file, as Linux counts them.
const LINKS_MAX: usize = 40;

/// Trees by the base names of their store paths.
#[derive(Clone, Debug, Default)]
pub struct View {
    trees: HashMap<OsString, PathBuf>,
}

/// What a path leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its path in the view, without symlinks.
    pub path: PathBuf,
    /// Where it is on this machine.
    pub host: PathBuf,
    /// Whether it is a directory; else it is a regular file.
    pub is_directory: bool,
}

/// What a path says, one component at a time.
enum Step {
    Into(OsString),
    Up,
    ToRoot,
}

impl View {
    /// A view of these trees: each store path with the place of its tree.
    pub fn new(trees: impl IntoIterator<Item = (StorePath, PathBuf)>) -> Self {
        let named = |(path, tree): (StorePath, PathBuf)| (OsString::from(base_name(&path)), tree);
        Self { trees: trees.into_iter().map(named).collect() }
    }

    /// Follows a path, its last component too.
    ///
    /// # Errors
    /// As open(2): what is not in the view does not exist.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let mut steps: VecDeque<Step> = steps_of(path).collect();
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        // The view's own directories, above all trees.
        let mut found = Found { path: "/".into(), host: PathBuf::new(), is_directory: true };
        while let Some(step) = steps.pop_front() {
            match step {
                Step::ToRoot => at.clear(),
                Step::Into(_) | Step::Up if !found.is_directory => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                Step::Up => drop(at.pop()),
                Step::Into(name) => at.push(name),
            }
            let (host, status) = self.look(&at)?;
            let is_link = status.as_ref().is_some_and(std::fs::Metadata::is_symlink);
            if !is_link {
                let is_directory = status.is_none_or(|status| status.is_dir());
                found = Found { path: absolute(&at), host, is_directory };
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(rustix::io::Errno::LOOP.into());
            }
            at.pop();
            found.is_directory = true;
            for step in steps_of(&std::fs::read_link(&host)?).collect::<Vec<_>>().into_iter().rev() {
                steps.push_front(step);
            }
        }
        Ok(found)
    }

    /// Where something is on this machine, and what; nothing is known of the directories above all trees.
    fn look(&self, at: &[OsString]) -> io::Result<(PathBuf, Option<std::fs::Metadata>)> {
        let above = Path::new(STORE_DIRECTORY).starts_with(absolute(at));
        if above {
            return Ok((PathBuf::new(), None));
        }
        let path = absolute(at);
        let below = path.strip_prefix(STORE_DIRECTORY).map_err(|_| io::ErrorKind::NotFound)?;
        let mut parts = below.components();
        let tree = parts.next().and_then(|name| self.trees.get(name.as_os_str()));
        let tree = tree.ok_or(io::ErrorKind::NotFound)?;
        let rest = parts.as_path();
        let host = if rest.as_os_str().is_empty() { tree.clone() } else { tree.join(rest) };
        let status = std::fs::symlink_metadata(&host)?;
        Ok((host, Some(status)))
    }

    /// Names in a directory, sorted bytewise.
    ///
    /// # Errors
    /// It is none.
    pub fn names(&self, directory: &Found) -> io::Result<Vec<OsString>> {
        if !directory.is_directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if directory.host.as_os_str().is_empty() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let names: io::Result<Vec<_>> =
            std::fs::read_dir(&directory.host)?.map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names?;
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        Ok(names)
    }
}

fn steps_of(path: &Path) -> impl Iterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Step::ToRoot),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(OsStr::to_owned(name))),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

fn absolute(at: &[OsString]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(at);
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const A: &str = "/nix/store/00000000000000000000000000000000-a";
    const B: &str = "/nix/store/11111111111111111111111111111111-b";

    fn view(directory: &Path) -> View {
        let trees = [(A, "tree-a"), (B, "tree-b")];
        for (_, tree) in trees {
            fs::create_dir_all(directory.join(tree).join("deep/er")).unwrap();
        }
        fs::write(directory.join("tree-a/deep/file"), "of a").unwrap();
        fs::write(directory.join("secret"), "of the host").unwrap();
        View::new(trees.map(|(path, tree)| (StorePath::from_validated(path), directory.join(tree))))
    }

    #[test]
    fn links_lead_through_the_view_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let view = view(directory.path());
        let host = directory.path().display();
        let links = [
            ("absolute", format!("{A}/deep/file")),
            ("relative", "../11111111111111111111111111111111-b/absolute".into()),
            ("round", format!("{B}/round")),
            ("directory", format!("{A}/deep")),
            ("secret", format!("{host}/secret")),
            ("beside", "../secret".into()),
            ("above", "../../../../../../../../../../etc/passwd".into()),
            ("passwd", "/etc/passwd".into()),
            ("through-file", format!("{A}/deep/file/x")),
            ("up-again", format!("{B}/directory/../deep/./file")),
        ];
        for (name, target) in links {
            symlink(target, directory.path().join("tree-b").join(name)).unwrap();
        }
        let file = Some(format!("{A}/deep/file"));
        let cases = [
            ("absolute", file.clone()),
            ("relative", file.clone()),
            ("directory/file", file.clone()),
            ("directory/er/../file", file.clone()),
            ("up-again", file.clone()),
            ("deep/er", Some(format!("{B}/deep/er"))),
            ("../..", Some("/nix".into())),
            ("absolute/x", None),
            ("absolute/..", None),
            ("round", None),
            ("secret", None),
            ("beside", None),
            ("above", None),
            ("passwd", None),
            ("through-file", None),
            ("no-such", None),
        ];
        for (path, expected) in cases {
            let found = view.find(&Path::new(B).join(path)).ok();
            assert_eq!(found.map(|found| found.path.display().to_string()), expected, "{path}");
        }
        for path in ["/etc/passwd", "/nix/var", "/nix/store/none", "/nix/store/../../etc"] {
            assert!(view.find(Path::new(path)).is_err(), "{path}");
        }
        let text = view.find(&Path::new(B).join("relative")).unwrap();
        assert_eq!(fs::read_to_string(text.host).unwrap(), "of a");
    }

    #[test]
    fn names_are_sorted_and_the_store_itself_is_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        let view = view(directory.path());
        let names = view.names(&view.find(&Path::new(A).join("deep")).unwrap()).unwrap();
        assert_eq!(names, ["er", "file"]);
        assert!(view.names(&view.find(Path::new("/nix/store")).unwrap()).is_err());
    }
}
