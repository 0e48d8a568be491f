//! Jaeger, built once from its Go module: real traces in the tests. Without Go the demo goes on without it.

use std::fs;
use std::process::Child;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cache::{Cache, replace};
use crate::command::{capture, command, exists};

const MODULE: &str = "github.com/jaegertracing/jaeger@v1.76.0";
const PRODUCT: &str = "jaeger/jaeger";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    dir: String,
}

/// Starts the compiler (three minutes of two cores) beside the other steps; `finish_build` waits for it.
pub fn start_build(cache: &Cache) -> Result<Option<Child>> {
    let stamped = fs::read_to_string(cache.path("stamps/jaeger")).is_ok_and(|text| text == MODULE);
    if stamped && cache.path(PRODUCT).exists() {
        return Ok(None);
    }
    if !exists("go") {
        println!(
            "  {:<20} skipped: no Go here. The demo prints its trace itself; the tests need Jaeger",
            "jaeger"
        );
        return Ok(None);
    }
    println!("  {:<20} building {MODULE} in the background", "jaeger");
    let scratch = cache.scratch("jaeger")?;
    let found = capture(command("go", &["mod", "download", "-json", MODULE]).current_dir(&scratch))?;
    let module: Module = serde_json::from_str(&found).context("read what go mod download says")?;
    // `go install` refuses the module's replace directive: build in its own directory.
    let mut build =
        command("nice", &["go", "build", "-C", &module.dir, "-buildvcs=false", "-trimpath", "-o"]);
    build.arg(scratch.join("jaeger")).arg("./cmd/jaeger").env("CGO_ENABLED", "0");
    let log = fs::File::create(scratch.join("log"))?;
    build.stdout(log.try_clone()?).stderr(log);
    build.spawn().map(Some).context("start go build")
}

/// Waits for the compiler and puts the program in its place.
pub fn finish_build(cache: &Cache, build: Option<Child>) -> Result<()> {
    let Some(mut build) = build else { return Ok(()) };
    cache.step("jaeger", MODULE, &[PRODUCT], || {
        let status = build.wait()?;
        if !status.success() {
            bail!(
                "go build {MODULE}: {status}; its output is in {}",
                cache.path("scratch/jaeger/log").display()
            );
        }
        replace(&cache.path("scratch/jaeger/jaeger"), &cache.path(PRODUCT))
    })
}
