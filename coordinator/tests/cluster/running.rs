//! A coordinator that runs in the test's process, as the program runs it; can be stopped and started again.
use coordinator::config::Config;
use coordinator::journal::Writing;
use coordinator::run::run_on;
use nix_formats::signature::SecretKey;
use node::shutdown::Shutdown;
use node::testing::Authority;
use node::tls::{ChannelSettings, ConnectError, ExpectedPeer, Role, TlsFiles, client_channel};
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// How long anything may take that is a matter of milliseconds.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits for what should be there soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// A coordinator.
pub struct Coordinator {
    pub directory: TempDir,
    pub authority: Authority,
    pub address: SocketAddr,
    settings: String,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Coordinator {
    /// With heartbeats that make a lost executor a matter of a second, and more settings.
    pub async fn start(settings: &str) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        let key = SecretKey::from_seed("cluster-1", &[7; 32]).to_text();
        std::fs::write(directory.path().join("nix.key"), key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, directory, authority, settings.to_owned())
    }

    fn start_on(listener: TcpListener, directory: TempDir, authority: Authority, settings: String) -> Self {
        let address = listener.local_addr().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let tls = authority.issue(Role::Coordinator, "c").unwrap();
        let text = format!(
            "listen = \"{address}\"\nstate_dir = \"{}\"\nsigning_key = \"{}\"\nheartbeat_interval_ms = 100\n\
             {settings}\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nauthority = \"{}\"\n",
            path("state"),
            path("nix.key"),
            tls.certificate.display(),
            tls.key.display(),
            tls.authority.display(),
        );
        let config: Config = node::config::parse(&text, directory.path()).unwrap();
        config.check().unwrap();
        let shutdown = Shutdown::new();
        let task =
            node::task::spawn("coordinator", run_on(listener, config, shutdown.clone(), Writing::OnThread));
        Self { directory, authority, address, settings, shutdown, task }
    }

    /// Stops it as SIGTERM does, and gives what is left of it. It must not take long, whoever is connected.
    pub async fn stop(self) -> Stopped {
        let Self { directory, authority, address, settings, shutdown, task } = self;
        shutdown.drain();
        soon("the coordinator stops", task).await.unwrap().unwrap();
        Stopped { directory, authority, address, settings }
    }

    /// A channel with the certificate of a role and name.
    pub async fn channel(&self, role: Role, name: &str) -> Channel {
        self.try_channel(&self.authority.issue(role, name).unwrap()).await.unwrap()
    }

    /// A channel with some certificate.
    pub async fn try_channel(&self, files: &TlsFiles) -> Result<Channel, ConnectError> {
        let address = self.address.to_string();
        client_channel(&address, files, ExpectedPeer::coordinator(), ChannelSettings::control()).await
    }
}

/// What a coordinator leaves on disk.
pub struct Stopped {
    directory: TempDir,
    authority: Authority,
    address: SocketAddr,
    settings: String,
}

impl Stopped {
    /// Starts it again, where it was.
    pub async fn start(self) -> Coordinator {
        let Self { directory, authority, address, settings } = self;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // Connections of the former one may linger.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        Coordinator::start_on(listener, directory, authority, settings)
    }
}
