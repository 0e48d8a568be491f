//! Placeholders: texts that stand for output paths until they are known.
use crate::base32;
use crate::hash::sha256;
use crate::store_path::{StoreDir, StorePath, output_path_name};
use std::collections::{BTreeMap, HashMap};

/// Length of every placeholder: a slash and 52 digits.
const LENGTH: usize = 53;

/// Placeholders with what replaces them.
#[derive(Debug, Default)]
pub struct Placeholders(HashMap<[u8; LENGTH], Vec<u8>>);

/// The placeholder of an output.
pub fn placeholder(output: &str) -> String {
    format!("/{}", base32::encode(&sha256(format!("nix-output:{output}").as_bytes())))
}

/// The placeholder, in other derivations, of an output whose path is known only after its build.
pub fn upstream_placeholder(derivation: &StorePath, output: &str) -> String {
    let name = derivation.name().strip_suffix(".drv").unwrap_or(derivation.name());
    let (hash_part, name) = (derivation.hash_part(), output_path_name(name, output));
    format!("/{}", base32::encode(&sha256(format!("nix-upstream-output:{hash_part}:{name}").as_bytes())))
}

impl Placeholders {
    /// A derivation's own, for these output paths.
    pub fn of(outputs: &BTreeMap<String, StorePath>, store: &StoreDir) -> Self {
        let mut own = Self::default();
        for (name, path) in outputs {
            own.insert(placeholder(name), store.display(path));
        }
        own
    }

    /// Adds one.
    pub fn insert(&mut self, placeholder: String, path: String) {
        // All have this length.
        if let Ok(placeholder) = placeholder.into_bytes().try_into() {
            self.0.insert(placeholder, path.into_bytes());
        }
    }

    /// The text with every placeholder replaced.
    pub fn replace(&self, text: &[u8]) -> Vec<u8> {
        let mut replaced = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
            replaced.extend_from_slice(&rest[..slash]);
            rest = &rest[slash..];
            match rest.first_chunk::<LENGTH>().and_then(|text| self.0.get(text)) {
                Some(path) => {
                    replaced.extend_from_slice(path);
                    rest = &rest[LENGTH..];
                }
                None => {
                    replaced.push(b'/');
                    rest = &rest[1..];
                }
            }
        }
        replaced.extend_from_slice(rest);
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_outputs() {
        assert_eq!(placeholder("out"), "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9");
        assert_eq!(placeholder("dev"), "/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz");
        let upstream = |path: &str, output| {
            upstream_placeholder(&StorePath::parse_base_name(path).expect("a path"), output)
        };
        let multi = "nbp1zrqvr5ns74gh756jkiryfn1jhxir-multi.drv";
        assert_eq!(upstream(multi, "dev"), "/155prfmlcp33mkhl5wdaqx7alnm7sglxkgl0svb2hcl6hfdl19yv");
        let up = "vzkgylg8gl6bdpfgrahh6b1mlcqc7wg8-up.drv";
        assert_eq!(upstream(up, "out"), "/0x839z78fkrpg437k8ddbjgf3g9q188kfq1sg65hk843391d0kqk");
    }
}
