//! Recorded graphs: derivations as tasks, what each really costs, and what earlier builds of it took.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use model::{InputDerivation, Kind, Output, Requirement, StorePath, System, TaskId, TaskSpec, TrustDomain};
use nix_formats::derivation::{self, Derivation};
use nix_formats::effort::{Effort, effort_of};
use nix_formats::store_path::{self, StoreDir};
use nix_formats::target::target_of;

/// Largest derivation that is read, in bytes.
const DERIVATION_BYTES_MAX: u64 = 64 << 20;

/// One derivation.
#[derive(Debug)]
pub struct Node {
    /// As the scheduler sees it.
    pub task: TaskSpec,
    /// Its inputs' places.
    pub inputs: Vec<usize>,
    /// Those that need it.
    pub users: Vec<usize>,
    /// Others that make the same: fixed outputs.
    pub alternatives: Vec<usize>,
    /// What it costs: only the world knows.
    pub cost: Cost,
    /// What earlier builds took natively, oldest first, in seconds.
    pub past_s: Vec<f64>,
}

/// What a derivation costs.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Seconds on a host of speed 1 of its own system.
    pub native_s: f64,
    /// How much longer it takes emulated.
    pub emulated_x: f64,
    /// All outputs.
    pub out_bytes: f64,
}

/// All derivations, inputs first.
#[derive(Debug)]
pub struct Graph {
    /// The derivations.
    pub nodes: Vec<Node>,
    /// What a graph without steps is asked for; one root a step for others, in order of time.
    pub roots: Vec<usize>,
    /// Whether roots follow one another in time.
    pub has_steps: bool,
}

impl Graph {
    /// Reads a directory with `drvs.tar.zst`, and the table of costs.
    pub fn read(directory: &Path, durations: &Path, has_history: bool) -> Result<Self> {
        let derivations = read_derivations(&directory.join("drvs.tar.zst"))?;
        let costs = read_costs(durations)?;
        let order = inputs_first(&derivations)?;
        let places: BTreeMap<&str, usize> =
            order.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        let mut nodes: Vec<Node> = Vec::with_capacity(order.len());
        for (place, name) in order.iter().enumerate() {
            let derivation = &derivations[name];
            let (cost, past_s) = costs
                .get(name)
                .with_context(|| format!("'{name}' is not in {}", durations.display()))?
                .clone();
            let inputs: Vec<usize> = derivation
                .input_derivations
                .keys()
                .filter_map(|path| places.get(base_name(path).as_str()).copied())
                .collect();
            for input in &inputs {
                nodes[*input].users.push(place);
            }
            let past_s = if has_history { past_s } else { Vec::new() };
            nodes.push(Node {
                task: task(name, derivation)?,
                inputs,
                users: Vec::new(),
                alternatives: Vec::new(),
                cost,
                past_s,
            });
        }
        let mut makers: BTreeMap<StorePath, Vec<usize>> = BTreeMap::new();
        for (place, node) in nodes.iter().enumerate() {
            for output in &node.task.outputs {
                makers.entry(output.path.clone()).or_default().push(place);
            }
        }
        for makers in makers.into_values().filter(|makers| makers.len() > 1) {
            for place in &makers {
                nodes[*place].alternatives = makers.iter().copied().filter(|other| other != place).collect();
            }
        }
        let (names, has_steps) = read_roots(directory)?;
        let root = |name: &String| {
            places.get(name.as_str()).copied().with_context(|| format!("root '{name}' is not there"))
        };
        let roots = names.iter().map(root).collect::<Result<_>>()?;
        Ok(Self { nodes, roots, has_steps })
    }

    /// A root with everything below it.
    pub fn closure(&self, root: usize) -> BTreeSet<usize> {
        let mut closure = BTreeSet::from([root]);
        let mut work = vec![root];
        while let Some(place) = work.pop() {
            work.extend(self.nodes[place].inputs.iter().copied().filter(|input| closure.insert(*input)));
        }
        closure
    }
}

fn base_name(path: &store_path::StorePath) -> String {
    let full = StoreDir::default().display(path);
    full.rsplit('/').next().unwrap_or_default().to_owned()
}

fn read_derivations(archive: &Path) -> Result<BTreeMap<String, Derivation>> {
    let file = fs::File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let mut decoder = zstd::Decoder::new(file).context("read zstd")?;
    // As `zstd --long=27` writes it.
    decoder.window_log_max(27).context("read zstd")?;
    let mut derivations = BTreeMap::new();
    for entry in tar::Archive::new(decoder).entries().context("read tar")? {
        let mut entry = entry.context("read tar")?;
        let path = entry.path().context("read tar")?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".drv") {
            continue;
        }
        ensure!(entry.size() <= DERIVATION_BYTES_MAX, "'{name}' has {} bytes", entry.size());
        let mut text = vec![0; usize::try_from(entry.size()).context("read tar")?];
        entry.read_exact(&mut text).context("read tar")?;
        let derivation =
            derivation::parse(&text, &StoreDir::default()).with_context(|| format!("parse '{name}'"))?;
        derivations.insert(name, derivation);
    }
    ensure!(!derivations.is_empty(), "{} holds no derivation", archive.display());
    Ok(derivations)
}

fn read_costs(table: &Path) -> Result<BTreeMap<String, (Cost, Vec<f64>)>> {
    let text = fs::read_to_string(table).with_context(|| format!("read {}", table.display()))?;
    let mut costs = BTreeMap::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let wrong = || format!("{}, line {}", table.display(), number + 1);
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, _kind, native, emulated, _peak, out, past] = columns[..] else {
            bail!("{}: not seven columns", wrong());
        };
        let number = |text: &str| text.parse::<f64>().with_context(wrong);
        let emulated_x = if emulated == "-" { 1.0 } else { number(emulated)? };
        let cost = Cost { native_s: number(native)?, emulated_x, out_bytes: number(out)? };
        let past_s = match past {
            "-" => Vec::new(),
            past => past.split(',').map(number).collect::<Result<_>>()?,
        };
        costs.insert(name.to_owned(), (cost, past_s));
    }
    Ok(costs)
}

fn read_roots(directory: &Path) -> Result<(Vec<String>, bool)> {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    if let Ok(text) = fs::read_to_string(directory.join("roots.txt")) {
        return Ok((text.lines().filter(|line| !line.is_empty()).map(base).collect(), false));
    }
    let text = fs::read_to_string(directory.join("steps.tsv"))
        .with_context(|| format!("{} has neither roots.txt nor steps.tsv", directory.display()))?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = head.iter().position(|name| *name == "root").context("steps.tsv has no column 'root'")?;
    Ok((lines.filter_map(|line| line.split('\t').nth(column)).map(base).collect(), true))
}

/// Names so that everything comes after what it needs.
fn inputs_first(derivations: &BTreeMap<String, Derivation>) -> Result<Vec<String>> {
    let inputs = |name: &String| -> Vec<String> {
        let of = derivations.get(name).into_iter().flat_map(|derivation| derivation.input_derivations.keys());
        of.map(base_name).filter(|name| derivations.contains_key(name)).collect()
    };
    let mut order = Vec::with_capacity(derivations.len());
    let mut seen = BTreeSet::new();
    for start in derivations.keys() {
        let mut path = Vec::new();
        if seen.insert(start.clone()) {
            path.push((start.clone(), inputs(start)));
        }
        while let Some((name, left)) = path.last_mut() {
            match left.pop() {
                Some(input) if seen.insert(input.clone()) => {
                    let of_input = inputs(&input);
                    path.push((input, of_input));
                }
                Some(_) => {}
                None => {
                    order.push(std::mem::take(name));
                    path.pop();
                }
            }
        }
    }
    Ok(order)
}

/// As the coordinator describes it to the scheduler, without sources: those are there.
fn task(name: &str, derivation: &Derivation) -> Result<TaskSpec> {
    let store = StoreDir::default();
    let full = |path: &store_path::StorePath| StorePath::from_validated(&store.display(path));
    let id = |path: StorePath| TaskId { domain: TrustDomain::Shared, path };
    let own = StorePath::from_validated(&format!("/nix/store/{name}"));
    let plain = name.split_once('-').map_or(name, |(_, rest)| rest).trim_end_matches(".drv");
    let system = if derivation.is_builtin() { model::capability::BUILTIN } else { &derivation.system };
    let kind = match effort_of(plain, derivation) {
        Effort::Tiny => Kind::Tiny,
        Effort::Fetch => Kind::Fetch,
        Effort::Build => Kind::Build,
        Effort::Heavy => Kind::Heavy,
    };
    let outputs = derivation.outputs.iter().map(|(name, output)| {
        let path = output.path().context("an output without a path")?;
        Ok(Output { name: name.clone(), path: full(path) })
    });
    Ok(TaskSpec {
        id: id(own),
        name: plain.to_owned(),
        kind,
        requirement: Requirement {
            system: System(Arc::from(system)),
            target: target_of(plain, derivation).map(|target| System(Arc::from(target))),
            // Every host has them all.
            features: Vec::new(),
        },
        outputs: outputs.collect::<Result<_>>()?,
        input_derivations: derivation
            .input_derivations
            .iter()
            .map(|(path, outputs)| InputDerivation {
                task: id(full(path)),
                outputs: outputs.iter().cloned().collect(),
            })
            .collect(),
        input_sources: Vec::new(),
        needs_resolution: false,
        is_fixed_output: derivation.fixed_output().is_some(),
    })
}
