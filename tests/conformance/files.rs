//! Files from anyone: whatever they evaluate to is found, and one mistake in them hides nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use tests::{Board, BoardSpec, run};

use crate::request::Request;
use crate::{cases, layout};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/files").join(name)
}

#[test]
fn every_derivation_of_a_file_is_found() {
    run("conformance-files", |lab| {
        let mut binds = vec![layout::bind(&layout::make(lab)?)];
        let files = ["shapes.nix", "single.nix"].map(file).to_vec();
        binds.extend(layout::binds_of(&files)?);
        let board = Board::start(lab, BoardSpec { name: "board".into(), binds, ..BoardSpec::default() })?;
        let arguments =
            BTreeMap::from([("word".into(), "said".into()), ("unknown".into(), "ignored".into())]);
        let request = Request { files, arguments, ..Request::default() };
        let found = cases::find(&board.store(), &request)?;
        let names: Vec<&str> = found.cases.keys().map(String::as_str).collect();
        let expected = [
            "shapes.listed.0",
            "shapes.listed.1.0",
            "shapes.nested.deeper.most",
            "shapes.plain",
            "shapes.several",
            "single.it",
        ];
        ensure!(names == expected, "found {names:?}; not evaluated: {:?}", found.not_evaluated);
        let missed: Vec<&str> = found.not_evaluated.keys().map(String::as_str).collect();
        ensure!(missed == ["shapes.badName", "shapes.brokenInside"], "not evaluated: {missed:?}");
        let why = &found.not_evaluated["shapes.brokenInside"];
        ensure!(why.contains("only when it is looked at"), "why: {why}");
        let text = std::fs::read_to_string(board.host.outside(&found.cases["shapes.plain"].derivation))?;
        ensure!(text.contains("\"said\"") && text.contains("\"unset\""), "its arguments: {text}");
        for (name, expected) in
            [("nothing.nix", "no derivation that evaluates"), ("broken.nix", "syntax error")]
        {
            let request = Request { files: vec![file(name)], ..Request::default() };
            let error = cases::find(&board.store(), &request).err().map(|error| format!("{error:#}"));
            let error = error.unwrap_or_default();
            ensure!(error.contains(expected), "{name}: {error}");
        }
        Ok(())
    });
}
