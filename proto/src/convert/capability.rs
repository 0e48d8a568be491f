//! Platforms and capabilities.
use super::WireError;
use crate::v1;
use model::capability::BUILTIN;
use model::{Capability, Offer, Platform, System, Withheld};
use std::sync::Arc;

/// Slots that one executor may advertise.
const SLOTS_MAX: u32 = 1024;
/// Platforms or features that one executor may advertise.
const LIST_MAX: usize = 64;

/// A Nix system name: two or more words of `[a-z0-9_]` joined by hyphens, or `builtin`.
fn system(text: &str) -> Result<System, WireError> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if text.len() <= 64 && text.split('-').all(is_word) {
        Ok(System(Arc::from(text)))
    } else {
        Err(WireError::new("system", format!("`{text}` is not the name of a system")))
    }
}

impl TryFrom<v1::Platform> for Platform {
    type Error = WireError;

    fn try_from(wire: v1::Platform) -> Result<Self, WireError> {
        let kind = wire.kind();
        let system = system(&wire.system)?;
        match kind {
            v1::platform::Kind::Native => Ok(Self::Native(system)),
            v1::platform::Kind::Emulated => Ok(Self::Emulated(system)),
            v1::platform::Kind::Cross => Ok(Self::Cross { build: system }),
            v1::platform::Kind::Builtin if *system.0 == *BUILTIN => Ok(Self::Builtin),
            v1::platform::Kind::Builtin => {
                Err(WireError::new("system", "of builtin builders is another one"))
            }
            v1::platform::Kind::Unspecified => Err(WireError::new("kind", "of platform is not known")),
        }
    }
}

impl From<&Platform> for v1::Platform {
    fn from(platform: &Platform) -> Self {
        let kind = match platform {
            Platform::Native(_) => v1::platform::Kind::Native,
            Platform::Emulated(_) => v1::platform::Kind::Emulated,
            Platform::Cross { .. } => v1::platform::Kind::Cross,
            Platform::Builtin => v1::platform::Kind::Builtin,
        };
        Self { kind: kind.into(), system: platform.system().to_owned() }
    }
}

impl TryFrom<v1::Capability> for Capability {
    type Error = WireError;

    fn try_from(wire: v1::Capability) -> Result<Self, WireError> {
        if wire.slots > SLOTS_MAX {
            return Err(WireError::new("slots", format!("{} are more than {SLOTS_MAX}", wire.slots)));
        }
        if wire.offers.len().max(wire.withheld.len()).max(wire.features.len()) > LIST_MAX {
            return Err(WireError::new("capability", format!("has a list of more than {LIST_MAX} entries")));
        }
        let platform =
            |wire: Option<v1::Platform>| wire.ok_or_else(|| WireError::missing("platform"))?.try_into();
        let mut capability = Self {
            slots: wire.slots,
            speed: wire.speed_thousandths,
            memory_bytes: wire.memory_bytes,
            build_memory_bytes: wire.build_memory_bytes,
            ..Self::default()
        };
        for offer in wire.offers {
            // A platform of a later version is not offered to this one; the others are.
            if offer.platform.as_ref().is_some_and(|wire| wire.kind() == v1::platform::Kind::Unspecified) {
                continue;
            }
            capability.offers.push(Offer { platform: platform(offer.platform)?, detail: offer.detail });
        }
        for withheld in wire.withheld {
            capability
                .withheld
                .push(Withheld { platform: platform(withheld.platform)?, reason: withheld.reason });
        }
        capability.features = wire.features.iter().map(|feature| Arc::from(feature.as_str())).collect();
        Ok(capability)
    }
}

impl From<&Capability> for v1::Capability {
    fn from(capability: &Capability) -> Self {
        let offer = |offer: &Offer| v1::Offer {
            platform: Some((&offer.platform).into()),
            detail: offer.detail.clone(),
        };
        let withheld = |withheld: &Withheld| v1::Withheld {
            platform: Some((&withheld.platform).into()),
            reason: withheld.reason.clone(),
        };
        Self {
            offers: capability.offers.iter().map(offer).collect(),
            withheld: capability.withheld.iter().map(withheld).collect(),
            features: capability.features.iter().map(ToString::to_string).collect(),
            slots: capability.slots,
            speed_thousandths: capability.speed,
            memory_bytes: capability.memory_bytes,
            build_memory_bytes: capability.build_memory_bytes,
        }
    }
}
