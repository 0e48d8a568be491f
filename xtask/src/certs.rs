//! Development certificates: a small authority, one certificate for each role and name, and the cluster's Nix signing key.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// What `cargo xtask certs` makes. What exists in the directory is kept; what is missing is added.
#[derive(clap::Args, Clone)]
pub struct Request {
    /// Where: ca.pem, ca.key, NAME.pem and NAME.key for every name, nix.key and nix.pub
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The coordinator's name
    #[arg(long, value_name = "NAME", default_value = "coordinator")]
    pub coordinator: String,
    /// A board's certificate (repeatable)
    #[arg(long, value_name = "NAME")]
    pub board: Vec<String>,
    /// An executor's certificate (repeatable)
    #[arg(long, value_name = "NAME")]
    pub executor: Vec<String>,
    /// An administrator's certificate (repeatable)
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub admin: Vec<String>,
    /// A board's certificate that has expired long ago, for tests (repeatable)
    #[arg(long, value_name = "NAME")]
    pub expired: Vec<String>,
    /// One more DNS name or IP address under which NAME is reached (repeatable); localhost, 127.0.0.1 and ::1 are always in
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub address: Vec<String>,
    /// The name of the Nix signing key, as boards list it in trusted-public-keys
    #[arg(long, value_name = "NAME", default_value = "elsewhere-1")]
    pub key_name: String,
}

/// Makes what is missing.
pub fn run(request: &Request) -> Result<()> {
    fs::create_dir_all(&request.out).with_context(|| format!("make {}", request.out.display()))?;
    let addresses = addresses(request)?;
    let authority = authority(&request.out)?;
    let roles = [
        ("coordinator", std::slice::from_ref(&request.coordinator), false),
        ("board", &request.board, false),
        ("executor", &request.executor, false),
        ("admin", &request.admin, false),
        ("board", &request.expired, true),
    ];
    for (role, names, expired) in roles {
        for name in names {
            let certificate = request.out.join(format!("{name}.pem"));
            if certificate.exists() {
                continue;
            }
            let extra = addresses.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            let parameters = parameters(role, name, extra, expired)?;
            let key = KeyPair::generate()?;
            let signed = parameters.signed_by(&key, &authority)?;
            write_secret(&request.out.join(format!("{name}.key")), &key.serialize_pem())?;
            fs::write(&certificate, signed.pem())
                .with_context(|| format!("write {}", certificate.display()))?;
            println!("  spiffe://elsewhere/{role}/{name}{}", if expired { " (expired)" } else { "" });
        }
    }
    signing_key(&request.out, &request.key_name)
}

fn addresses(request: &Request) -> Result<BTreeMap<&str, Vec<&str>>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in &request.address {
        let Some((name, address)) = pair.split_once('=') else {
            bail!("--address wants NAME=ADDRESS, not {pair}")
        };
        found.entry(name).or_default().push(address);
    }
    Ok(found)
}

fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>> {
    let (certificate, key_file) = (directory.join("ca.pem"), directory.join("ca.key"));
    if !certificate.exists() {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "Elsewhere development authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (parameters.not_before, parameters.not_after) =
            (date_time_ymd(this_year()? - 1, 1, 1), date_time_ymd(this_year()? + 10, 1, 1));
        let key = KeyPair::generate()?;
        write_secret(&key_file, &key.serialize_pem())?;
        fs::write(&certificate, parameters.self_signed(&key)?.pem())?;
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let key = KeyPair::from_pem(&read(&key_file)?).context("read the authority's key")?;
    Issuer::from_ca_cert_pem(&read(&certificate)?, key).context("read the authority's certificate")
}

fn parameters(role: &str, name: &str, addresses: &[&str], expired: bool) -> Result<CertificateParams> {
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ensure!(plain, "the name {name:?} does not fit into a file name and an address");
    let mut names = vec![name.to_string(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.extend(addresses.iter().map(|address| (*address).to_string()));
    let mut parameters = CertificateParams::new(names).context("put the addresses into a certificate")?;
    let identity = format!("spiffe://elsewhere/{role}/{name}");
    parameters.subject_alt_names.push(SanType::URI(identity.try_into()?));
    parameters.distinguished_name.push(DnType::CommonName, format!("{role} {name}"));
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // An executor is a server to its peers, the coordinator a client of the executors: only boards and admins never serve.
    parameters.extended_key_usages = match role {
        "coordinator" | "executor" => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    let years = if expired { (2000, 2001) } else { (this_year()? - 1, this_year()? + 3) };
    (parameters.not_before, parameters.not_after) =
        (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    Ok(parameters)
}

/// The Ed25519 key pair as Nix writes it: NAME:BASE64, the secret being seed and public key.
fn signing_key(directory: &Path, name: &str) -> Result<()> {
    let (secret, public) = (directory.join("nix.key"), directory.join("nix.pub"));
    if secret.exists() {
        return Ok(());
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // PKCS #8 (RFC 8410): the private key is an octet string of 32 bytes inside another, 04 22 04 20 before it.
    let document = key.serialized_der();
    let marker = [0x04, 0x22, 0x04, 0x20];
    let at = document
        .windows(marker.len())
        .position(|window| window == marker)
        .context("find the seed in the key")?;
    let seed = document.get(at + marker.len()..at + marker.len() + 32).context("read the seed of the key")?;
    let pair = [seed, key.public_key_raw()].concat();
    write_secret(&secret, &format!("{name}:{}", STANDARD.encode(pair)))?;
    fs::write(&public, format!("{name}:{}", STANDARD.encode(key.public_key_raw())))
        .with_context(|| format!("write {}", public.display()))?;
    println!("  Nix signing key {name}");
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let attempt = || format!("write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(attempt)?;
    file.write_all(text.as_bytes()).with_context(attempt)
}

/// Good to a day around New Year, which is enough for validity in whole years.
fn this_year() -> Result<i32> {
    let seconds =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("read the clock")?.as_secs();
    Ok(1970 + i32::try_from(seconds / 31_556_952)?)
}
