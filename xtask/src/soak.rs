//! `cargo xtask soak`: the tests of whole clusters again and again for a while; shows what fails once in a hundred times.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{setup, test};

/// How long, and what.
#[derive(clap::Args)]
pub struct Request {
    /// Minutes after which no new round is begun
    #[arg(long, default_value_t = 60)]
    pub minutes: u64,
    /// Only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
}

/// Rounds until the time is up; goes on after a failure, and fails at the end if there was one.
pub fn run(request: &Request) -> Result<()> {
    setup::run()?;
    setup::old_nix(&setup::NixVersion::ALL)?;
    let started = Instant::now();
    let limit = Duration::from_secs(request.minutes * 60);
    let round = test::Request { long: true, filter: request.filter.clone() };
    let (mut rounds, mut failed) = (0_u64, 0_u64);
    while rounds == 0 || started.elapsed() < limit {
        rounds += 1;
        if !test::clusters(&round)? {
            failed += 1;
        }
        println!("\nsoak: {rounds} rounds, {failed} failed, {} minutes", started.elapsed().as_secs() / 60);
    }
    ensure!(failed == 0, "{failed} of {rounds} rounds failed");
    Ok(())
}
