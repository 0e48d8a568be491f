//! What every test has: a cluster, and a board with the graphs and the demo's sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{Bind, Board, BoardSpec, Client, Cluster, ClusterSpec, Finished, Lab, Process, placements};

/// The tests' own graphs, on boards and on the oracle.
pub const GRAPHS: &str = "/graphs/graphs.nix";
/// The demo's graph.
pub const DEMO: &str = "/demo/graph.nix";
/// How long a plan of small steps may take on a busy machine.
pub const PLAN_LIMIT: Duration = Duration::from_secs(180);

/// A step of the graph `endless` sleeps for this long.
const SLEEPS: &str = "sleep 600";

/// A cluster and one board. The board ends first.
pub struct Scene {
    pub board: Board,
    pub cluster: Cluster,
}

impl Scene {
    /// Starts both.
    pub fn start(lab: &Lab, spec: ClusterSpec) -> Result<Self> {
        let cluster = Cluster::start(lab, spec)?;
        let board = cluster.board(board(lab, "board")?)?;
        Ok(Self { board, cluster })
    }

    /// The client on the board.
    pub fn client(&self) -> Client<'_> {
        self.cluster.client(&self.board)
    }

    /// Builds an attribute of the tests' graphs to its end.
    pub fn build(&self, attribute: &str) -> Result<Finished> {
        self.client().run(PLAN_LIMIT, &["build", GRAPHS, "-A", attribute, "--no-out-link"])
    }

    /// Starts to build an attribute of the tests' graphs.
    pub fn start_build(&self, attribute: &str) -> Result<Process> {
        self.client().start(attribute, &["build", GRAPHS, "-A", attribute, "--no-out-link", "--log"])
    }

    /// What the board's store holds that is neither a derivation nor below one as a source: results.
    pub fn results(&self) -> Result<BTreeSet<String>> {
        results(&self.board)
    }
}

/// What a board's store holds beside derivations and their sources.
pub fn results(board: &Board) -> Result<BTreeSet<String>> {
    let all = board.store().all()?;
    let derivations: Vec<String> = all.iter().filter(|path| path.ends_with(".drv")).cloned().collect();
    let described: BTreeSet<String> = if derivations.is_empty() {
        BTreeSet::new()
    } else {
        board.store().closure(&derivations)?.into_iter().collect()
    };
    Ok(all.into_iter().filter(|path| !described.contains(path)).collect())
}

/// A board that sees the graphs and the demo's sources.
pub fn board(lab: &Lab, name: &str) -> Result<BoardSpec> {
    Ok(BoardSpec { name: name.into(), binds: binds(lab)?, ..BoardSpec::default() })
}

/// Graphs and sources for a host that instantiates them.
pub fn binds(lab: &Lab) -> Result<Vec<Bind>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bind = |source: PathBuf, target: &str| Bind { source, target: target.into(), writable: false };
    // A directory of its own: one test changes a file below it.
    let graphs = lab.directory().join("graphs");
    std::fs::create_dir_all(&graphs)?;
    for file in ["graphs.nix", "floating.nix"] {
        std::fs::copy(own.join("e2e").join(file), graphs.join(file))?;
    }
    Ok(vec![
        bind(graphs, "/graphs"),
        bind(own.join("../deploy/demo").canonicalize().context("find the demo")?, "/demo"),
        bind(lab.cache().product("sources")?, "/var/cache/elsewhere/sources"),
    ])
}

/// Executors that ran derivations of a platform, each with how many, from what the client said.
pub fn shares(said: &str, platform: &str) -> std::collections::BTreeMap<String, usize> {
    let mut shares = std::collections::BTreeMap::new();
    for place in placements(said).into_values().filter(|place| place.platform == platform) {
        *shares.entry(place.executor).or_insert(0) += 1;
    }
    shares
}

/// Whether an executor is in the middle of the graph `endless`.
pub fn sleeping(scene: &mut Scene) -> Result<bool> {
    for name in ["executor1", "executor2"] {
        if scene.cluster.executor(name)?.host.runs(SLEEPS)? {
            return Ok(true);
        }
    }
    Ok(false)
}
