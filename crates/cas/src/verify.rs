//! What every backend does with bytes on their way in: count, parse, hash, and compare with what was announced.
use crate::address::{AddressHasher, is_same, shown};
use crate::id::BlobId;
use crate::store::{Announced, CasError, NAR_BYTES_MAX, Stored};
use nix_formats::nar::Tokenizer;
use sha2::{Digest as _, Sha256};

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Verifier {
    id: BlobId,
    announced: Announced,
    came: u64,
    hash: Sha256,
    tokenizer: Tokenizer,
    address: Option<AddressHasher>,
    is_over: bool,
}

impl Verifier {
    pub fn new(id: &BlobId, announced: Announced) -> Result<Self, CasError> {
        if announced.nar_size > NAR_BYTES_MAX {
            return Err(CasError::TooLarge { id: id.clone(), nar_size: announced.nar_size });
        }
        let own_hash_part = announced.refers_to_itself.then(|| id.path.hash_part());
        let address =
            announced.content_address.as_ref().map(|claimed| AddressHasher::new(claimed, own_hash_part));
        let (hash, tokenizer) = (Sha256::new(), Tokenizer::new());
        Ok(Self { id: id.clone(), announced, came: 0, hash, tokenizer, address, is_over: false })
    }

    pub fn id(&self) -> &BlobId {
        &self.id
    }

    /// Looks at the next bytes, before they are kept.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), CasError> {
        if self.is_over {
            return Err(CasError::Over { id: self.id.clone() });
        }
        // Undone when all went well.
        self.is_over = true;
        self.came += chunk.len() as u64;
        let oversized = || CasError::Oversized { id: self.id.clone(), nar_size: self.announced.nar_size };
        if self.came > self.announced.nar_size {
            return Err(oversized());
        }
        self.hash.update(chunk);
        let address = &mut self.address;
        let taken = self.tokenizer.push(chunk, |event| {
            if let Some(address) = address {
                address.event(&event);
            }
        });
        let taken = taken.map_err(|source| CasError::Malformed { id: self.id.clone(), source })?;
        if taken < chunk.len() {
            let problem = "bytes follow its end".to_owned();
            let source = nix_formats::nar::NarError { offset: self.tokenizer.offset(), problem };
            return Err(CasError::Malformed { id: self.id.clone(), source });
        }
        if let Some(address) = address {
            address.bytes(chunk);
        }
        self.is_over = false;
        Ok(())
    }

    /// Says what came, when it is what was announced.
    pub fn finish(self) -> Result<Stored, CasError> {
        let Self { id, announced, came, hash, tokenizer, address, is_over } = self;
        if is_over {
            return Err(CasError::Over { id });
        }
        if came < announced.nar_size {
            return Err(CasError::Truncated { id, nar_size: announced.nar_size, came });
        }
        if let Err(source) = tokenizer.finish() {
            return Err(CasError::Malformed { id, source });
        }
        let nar_sha256 = <[u8; 32]>::from(hash.finalize());
        if nar_sha256 != announced.nar_sha256 {
            return Err(CasError::WrongHash { id, announced: announced.nar_sha256, came: nar_sha256 });
        }
        if let (Some(claimed), Some(address)) = (announced.content_address, address) {
            let came = address.finish();
            if !is_same(&came, &claimed) {
                return Err(CasError::WrongAddress { id, announced: claimed, came: shown(&came) });
            }
        }
        Ok(Stored { nar_sha256, nar_size: came })
    }
}
