//! The coordinator's program with settings as they are by default, on loopback.
use nix_formats::signature::SecretKey;
use node::testing::Authority;
use node::tls::{ChannelSettings, ConnectError, ExpectedPeer, Role, TlsFiles, client_channel};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(120);
/// A second has so many ticks in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// Waits for what should be there soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// A coordinator; killed when it is dropped.
pub struct Coordinator {
    /// State and certificates.
    _directory: TempDir,
    pub authority: Authority,
    address: SocketAddr,
    program: Child,
}

impl Coordinator {
    pub async fn start() -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        let tls = authority.issue(Role::Coordinator, "c").unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("nix.key"), SecretKey::from_seed("cluster-1", &[7; 32]).to_text()).unwrap();
        // Free now; nobody else takes it so soon.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "listen = \"{address}\"\nstate_dir = \"{}\"\nsigning_key = \"{}\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\
             authority = \"{}\"\n",
            path("state").display(),
            path("nix.key").display(),
            tls.certificate.display(),
            tls.key.display(),
            tls.authority.display(),
        );
        std::fs::write(path("config.toml"), text).unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_elsewhere-coordinator"))
            .arg("--config")
            .arg(path("config.toml"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(path("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let coordinator = Self { _directory: directory, authority, address, program };
        let files = coordinator.authority.issue(Role::Board, "first").unwrap();
        let since = Instant::now();
        while coordinator.try_channel(&files).await.is_err() {
            assert!(since.elapsed() < SOON, "it does not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        coordinator
    }

    /// A channel with the certificate of a role and name.
    pub async fn channel(&self, role: Role, name: &str) -> Channel {
        self.try_channel(&self.authority.issue(role, name).unwrap()).await.unwrap()
    }

    async fn try_channel(&self, files: &TlsFiles) -> Result<Channel, ConnectError> {
        let address = self.address.to_string();
        client_channel(&address, files, ExpectedPeer::coordinator(), ChannelSettings::control()).await
    }

    /// What the program has used of all processors.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.program.id().unwrap())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
        Duration::from_secs_f64(ticks / TICKS)
    }
}
