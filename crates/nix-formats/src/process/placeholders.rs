//! Placeholders: texts that stand for the derivation's own output paths until it is built.
use crate::base32;
use crate::derivation::Derivation;
use crate::hash::sha256;
use crate::store_path::StoreDir;

/// Length of every placeholder: a slash and 52 digits.
const LENGTH: usize = 53;

/// The placeholders of one derivation, with what replaces them.
pub struct Placeholders(Vec<([u8; LENGTH], Vec<u8>)>);

/// The placeholder of an output.
pub fn placeholder(output: &str) -> String {
    format!("/{}", base32::encode(&sha256(format!("nix-output:{output}").as_bytes())))
}

impl Placeholders {
    /// All that have a path.
    pub fn of(derivation: &Derivation, store: &StoreDir) -> Self {
        let pair = |(name, output): (&String, &crate::derivation::Output)| {
            let text = placeholder(name).into_bytes().try_into().ok()?;
            Some((text, store.display(output.path()?).into_bytes()))
        };
        Self(derivation.outputs.iter().filter_map(pair).collect())
    }

    /// The text with every placeholder replaced.
    pub fn replace(&self, text: &[u8]) -> Vec<u8> {
        let mut replaced = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
            replaced.extend_from_slice(&rest[..slash]);
            rest = &rest[slash..];
            let found = self.0.iter().find(|(placeholder, _)| rest.starts_with(placeholder));
            match found {
                Some((_, path)) => {
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
    }
}
