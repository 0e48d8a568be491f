//! Derivations and sources from a seed, right in every hash, and what each output must be.
use crate::random::Random;
use nix_daemon::testing::FakeDaemon;
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation::{Derivation, Output};
use nix_formats::hash::{HashAlgorithm, Hasher, sha256};
use nix_formats::modulo::{ModuloHash, derivation_path, hash_modulo, masked_hash, output_path};
use nix_formats::nar::{Encoder, Event};
use nix_formats::store_path::{StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// A derivation, how long its build takes and what it writes.
#[derive(Clone, Debug)]
pub struct Drv {
    /// Full path of its file.
    pub path: String,
    /// ATerm.
    pub text: Vec<u8>,
    /// Full path of its output.
    pub out: String,
    /// Of other derivations, in the graph's order.
    pub inputs: Vec<usize>,
    /// Whether its builder fails.
    pub fails: bool,
    modulo: ModuloHash,
}

/// A source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Full path.
    pub path: String,
    /// Its archive.
    pub nar: Vec<u8>,
    address: String,
}

/// A graph, inputs before what needs them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All derivations.
    pub drvs: Vec<Drv>,
    /// All sources.
    pub sources: Vec<Source>,
}

/// What a build of the test does, as its derivation's environment says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Milliseconds that it takes.
    pub ms: u64,
    /// Lines of log that it writes meanwhile.
    pub lines: u64,
    /// Bytes of its output.
    pub bytes: u64,
    /// Whether it fails at the end.
    pub fails: bool,
}

impl Work {
    /// Reads it.
    pub fn of(derivation: &Derivation) -> Self {
        let number = |name: &str| {
            let value = derivation.environment.get(name.as_bytes()).expect("a derivation of this test");
            std::str::from_utf8(value).unwrap().parse().unwrap()
        };
        let fails = number("fails") == 1;
        Self { ms: number("milliseconds"), lines: number("lines"), bytes: number("bytes"), fails }
    }
}

/// The archive of one file.
pub fn archive(contents: &[u8]) -> Vec<u8> {
    let (mut encoder, mut nar, size) = (Encoder::new(), Vec::new(), contents.len() as u64);
    for event in [Event::File { is_executable: false, size }, Event::Contents(contents), Event::FileEnd] {
        encoder.write(event, &mut nar);
    }
    nar
}

/// The contents of an output: the same wherever it is built.
pub fn contents(out: &str, work: Work) -> Vec<u8> {
    let seed = sha256(out.as_bytes())[..8].try_into().map(u64::from_le_bytes).unwrap();
    Random::new(seed).bytes(usize::try_from(work.bytes).unwrap())
}

fn base(path: &str) -> StorePath {
    StoreDir::default().parse(path).unwrap()
}

impl Graph {
    /// A graph of a seed. In one of four, one derivation fails.
    pub fn new(random: &mut Random) -> Self {
        let mut graph = Self::default();
        for index in 0..random.within(2..5) {
            let bytes = usize::try_from(random.within(1_000..600_000)).unwrap();
            let contents = random.bytes(bytes);
            graph.add_source(&format!("source-{index}"), &contents);
        }
        let count = random.within(9..16);
        let is_bulky = random.percent(15);
        let failing = random.percent(25).then(|| random.within(2..count - 2));
        for index in 0..count {
            let known = usize::try_from(index).unwrap();
            let mut inputs = BTreeSet::new();
            for _ in 0..random.within(0..3).min(index) {
                inputs.insert(usize::try_from(random.within(0..index)).unwrap());
            }
            // The last ones are what is wanted: they bring the others along.
            if index + 2 >= count {
                let is_used = |drv: &usize| graph.drvs.iter().any(|other| other.inputs.contains(drv));
                inputs.extend((0..known).filter(|drv| !is_used(drv)).take(4));
            }
            let source = usize::try_from(random.within(0..graph.sources.len() as u64)).unwrap();
            let sources = if random.percent(50) { vec![source] } else { Vec::new() };
            let work = Work {
                ms: random.of(&[300, 800, 1_500, 3_000, 6_000]),
                lines: random.within(2..20),
                // A large one that is wanted: links break while it is on its way.
                bytes: if is_bulky && index + 1 == count {
                    6_000_000
                } else {
                    random.of(&[10, 1_000, 40_000, 400_000])
                },
                fails: failing == Some(index),
            };
            graph.add(&format!("step-{index}"), inputs.into_iter().collect(), &sources, work);
        }
        graph
    }

    fn add_source(&mut self, name: &str, contents: &[u8]) {
        let store = StoreDir::default();
        let nar = archive(contents);
        let path = store.display(&store.source_path(name, &sha256(&nar), [], false).unwrap());
        let mut hasher = Hasher::new(HashAlgorithm::Sha256);
        hasher.update(&nar);
        let address = ContentAddress::Recursive(hasher.finish()).to_string();
        self.sources.push(Source { path, nar, address });
    }

    fn add(&mut self, name: &str, inputs: Vec<usize>, sources: &[usize], work: Work) {
        let store = StoreDir::default();
        let number = |number: u64| number.to_string();
        let environment = [
            ("name", name.to_owned()),
            ("system", "x86_64-linux".to_owned()),
            ("out", String::new()),
            ("milliseconds", number(work.ms)),
            ("lines", number(work.lines)),
            ("bytes", number(work.bytes)),
            ("fails", number(work.fails.into())),
        ];
        let any = store.text_path(name, &[0; 32], []).unwrap();
        let mut derivation = Derivation {
            outputs: BTreeMap::from([("out".into(), Output::InputAddressed { path: any })]),
            input_derivations: inputs
                .iter()
                .map(|input| (base(&self.drvs[*input].path), BTreeSet::from(["out".into()])))
                .collect(),
            input_sources: sources.iter().map(|source| base(&self.sources[*source].path)).collect(),
            system: "x86_64-linux".into(),
            builder: b"/bin/sh".to_vec(),
            arguments: vec![],
            environment: environment.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        };
        let lookup =
            |path: &StorePath| self.drvs.iter().find(|drv| base(&drv.path) == *path).map(|drv| drv.modulo);
        let masked = masked_hash(&derivation, &store, lookup).unwrap();
        let path = output_path(&store, &masked, name, "out").unwrap();
        let out = store.display(&path);
        derivation.outputs = BTreeMap::from([("out".into(), Output::InputAddressed { path })]);
        derivation.environment.insert(b"out".to_vec(), out.clone().into_bytes());
        let modulo = hash_modulo(&derivation, &store, lookup).unwrap();
        let text = derivation.to_aterm(&store);
        let path = derivation_path(&store, &format!("{name}.drv"), &text, &derivation.references()).unwrap();
        let path = store.display(&path);
        let fails = work.fails || inputs.iter().any(|input| self.drvs[*input].fails);
        self.drvs.push(Drv { path, text, out, inputs, fails, modulo });
    }

    /// A board's store: all derivations and sources, and no output.
    pub fn board(&self, key: &str) -> FakeDaemon {
        let behaviour =
            nix_daemon::testing::Behaviour { required_key: Some(key.to_owned()), ..Default::default() };
        let daemon = FakeDaemon::new(behaviour);
        for source in &self.sources {
            daemon.insert(&source.path, &[], source.nar.clone());
            let mut store = daemon.store();
            let (info, _) = store.paths.get_mut(&source.path).unwrap();
            info.content_address = Some(source.address.clone());
        }
        for drv in &self.drvs {
            daemon.insert(&drv.path, &[], archive(&drv.text));
        }
        daemon
    }
}
