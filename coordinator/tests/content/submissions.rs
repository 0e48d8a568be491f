//! Submissions that are as they should be, and submissions that never are.
use crate::cluster::Cluster;
use crate::graph::{Drv, drv, fixed, source};
use crate::scripted::{Board, answer, start, wanted};
use model::{ContentId, StorePath, TrustDomain, limits};
use proto::v1;
use proto::v1::submit_request::Request;
use scheduler::Holder;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

#[tokio::test]
async fn a_plan_is_whole_and_the_second_time_nothing_is_asked_for() {
    let cluster = Cluster::start().await;
    let (code, fetched) = (source("code", b"int main;"), fixed("fetched", b"tar"));
    let lib = drv("lib", &[&fetched], &[&code.path]);
    let tool = drv("tool-aarch64-unknown-linux-gnu", &[&fetched, &lib], &[]);
    let root = drv("root", &[&lib, &tool], &[&code.path]);
    let all = [&fetched, &lib, &tool, &root];
    let mut board = Board::new(&cluster, "a").await.with(&all, &[&code]);
    let admitted = board.submit(&root.path).await.unwrap();
    assert_eq!(admitted.tasks_total, 4);

    let plan = cluster.plan();
    assert_eq!(plan.id.to_string(), admitted.plan_id);
    let names: Vec<_> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names.last(), Some(&"root"), "inputs come first");
    let task = |name: &str| plan.tasks.iter().find(|task| task.name == name).unwrap().clone();
    let shared =
        |path: &str| ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(path) };
    let root_task = task("root");
    assert_eq!(root_task.id, shared(&root.path));
    assert_eq!(root_task.outputs[0].path.as_str(), root.out);
    assert_eq!(root_task.input_sources, [shared(&code.path)]);
    let inputs: Vec<_> = root_task.input_derivations.iter().map(|input| input.task.path.as_str()).collect();
    let mut expected = [lib.path.as_str(), tool.path.as_str()];
    expected.sort_unstable();
    assert_eq!(inputs, expected);
    assert_eq!((task("fetched").is_fixed_output, root_task.is_fixed_output), (true, false));
    let target = task("tool-aarch64-unknown-linux-gnu").requirement.target.unwrap();
    assert_eq!((&*target.0, root_task.requirement.target), ("aarch64-linux", None));
    assert_eq!(plan.roots.len(), 1);
    assert_eq!((&plan.roots[0].task, &plan.roots[0].outputs[..]), (&root_task.id, &["out".to_owned()][..]));
    assert_eq!(plan.contents.len(), 1);
    assert_eq!(plan.contents[0].id, shared(&code.path));
    assert_eq!(plan.contents[0].holders, [Holder::ContentStore]);

    board.needs.clear();
    assert_eq!(board.submit(&root.path).await.unwrap().tasks_total, 4);
    assert_eq!(board.needs, []);
    // A restart forgets nothing; another board asks for nothing new either.
    drop(board);
    let cluster = cluster.restart().await;
    let mut board = Board::new(&cluster, "b").await;
    assert_eq!(board.submit(&root.path).await.unwrap().tasks_total, 4);
    assert_eq!(board.needs, []);
    assert_eq!(cluster.plan().contents, plan.contents);
}

#[tokio::test]
async fn only_what_is_not_known_is_asked_for() {
    let cluster = Cluster::start().await;
    let (one, other) = (drv("one", &[], &[]), drv("other", &[], &[]));
    let both = drv("both", &[&one, &other], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&one, &other, &both], &[]);
    board.submit(&one.path).await.unwrap();
    board.needs.clear();
    board.submit(&both.path).await.unwrap();
    let asked: Vec<_> = board.needs.iter().flat_map(|need| need.derivations.clone()).collect();
    assert_eq!(asked, [both.path, other.path]);
}

#[tokio::test]
async fn ten_thousand_derivations_are_asked_for_in_batches() {
    let cluster = Cluster::start().await;
    let leaves: Vec<_> = (0..100).map(|leaf| drv(&format!("leaf-{leaf}"), &[], &[])).collect();
    let leaves: Vec<_> = leaves.iter().collect();
    let middle: Vec<_> =
        (0..9_899).map(|index| drv(&format!("m-{index}"), &[leaves[index % 100]], &[])).collect();
    let groups: Vec<_> = middle.chunks(100).collect();
    let groups: Vec<_> = groups
        .iter()
        .enumerate()
        .map(|(index, group)| drv(&format!("group-{index}"), &group.iter().collect::<Vec<_>>(), &[]))
        .collect();
    let root = drv("root", &groups.iter().collect::<Vec<_>>(), &[]);
    let mut board = Board::new(&cluster, "a").await.with(&leaves, &[]).with(&[&root], &[]);
    board = board.with(&middle.iter().collect::<Vec<_>>(), &[]).with(&groups.iter().collect::<Vec<_>>(), &[]);
    let admitted = board.submit(&root.path).await.unwrap();
    assert_eq!(admitted.tasks_total, 10_099);
    assert!(board.needs.iter().all(|need| need.derivations.len() <= 256));
    assert!(board.needs.len() < 500, "{} questions", board.needs.len());
}

/// Sends a start and then these, whatever is asked.
async fn recite(cluster: &Cluster, requests: Vec<Request>) -> Status {
    let (sender, receiver) = mpsc::channel(8);
    let stream = ReceiverStream::new(receiver).map(|request| v1::SubmitRequest { request: Some(request) });
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let mut responses = match cluster.plans("a").await.submit(stream).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return status,
    };
    loop {
        match responses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no status"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_submission() {
    let cluster = Cluster::start().await;
    let (one, other) = (drv("one", &[], &[]), drv("other", &[], &[]));
    let (wants, text) = (|| vec![wanted(&one.path)], |drv: &Drv| answer(&drv.path, &drv.text));
    let no_output = v1::Wanted { derivation: one.path.clone(), outputs: vec!["dev".into()] };
    let no_path = v1::Wanted { derivation: "/tmp/x.drv".into(), outputs: Vec::new() };
    let too_many = vec![wanted(&one.path); 10_001];
    let uploaded = Request::SourceUploaded(v1::SourceUploaded { path: one.path.clone() });
    let most = limits::DERIVATION_BYTES_MAX.to_string();
    let large = answer(&one.path, &vec![b' '; limits::DERIVATION_BYTES_MAX + 1]);
    let cases: Vec<(&str, Vec<Request>, Code, &str)> = vec![
        ("no start", vec![text(&one)], Code::InvalidArgument, "not its start"),
        ("version 0", vec![start(0, wants())], Code::FailedPrecondition, "version 0"),
        ("version 2", vec![start(2, wants())], Code::FailedPrecondition, "version 2"),
        ("nothing wanted", vec![start(1, vec![])], Code::InvalidArgument, "nothing is wanted"),
        ("too much wanted", vec![start(1, too_many)], Code::InvalidArgument, "10000"),
        ("not a path", vec![start(1, vec![no_path])], Code::InvalidArgument, "/tmp/x.drv"),
        ("two starts", vec![start(1, wants()), start(1, wants())], Code::InvalidArgument, "starts twice"),
        ("unsolicited", vec![start(1, wants()), text(&other)], Code::InvalidArgument, &other.path),
        (
            "twice",
            vec![start(1, vec![wanted(&one.path), wanted(&other.path)]), text(&one), text(&one)],
            Code::InvalidArgument,
            &one.path,
        ),
        ("a source instead", vec![start(1, wants()), uploaded], Code::InvalidArgument, &one.path),
        ("too large", vec![start(1, wants()), large], Code::InvalidArgument, &most),
        (
            "no such output",
            vec![start(1, vec![no_output]), text(&one)],
            Code::InvalidArgument,
            "no output 'dev'",
        ),
    ];
    for (name, requests, code, says) in cases {
        let status = recite(&cluster, requests).await;
        assert_eq!(status.code(), code, "{name}: {status:?}");
        assert!(status.message().contains(says), "{name}: {status:?}");
    }
    assert!(!cluster.is_registered(&other.path));
    assert!(cluster.plans.lock().unwrap().is_empty());
}

/// A board that ends its stream after so many answers.
async fn breaks_off_after(cluster: &Cluster, board: &str, root: &Drv, known: &[&Drv], answers: usize) {
    let (sender, receiver) = mpsc::channel(8);
    let stream = ReceiverStream::new(receiver).map(|request| v1::SubmitRequest { request: Some(request) });
    sender.send(start(1, vec![wanted(&root.path)])).await.unwrap();
    let mut responses = cluster.plans(board).await.submit(stream).await.unwrap().into_inner();
    let (mut sender, mut answered) = (Some(sender), 0);
    let status = loop {
        let need = match responses.message().await.map(|response| response.unwrap().response) {
            Ok(Some(v1::submit_response::Response::Need(need))) => need,
            Ok(_) => panic!("admitted"),
            Err(status) => break status,
        };
        for path in need.derivations {
            let drv = known.iter().find(|drv| drv.path == path).unwrap();
            if let Some(sender) = &sender {
                sender.send(answer(&path, &drv.text)).await.unwrap();
            }
            answered += 1;
            if answered == answers {
                sender = None;
            }
        }
    };
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
}

#[tokio::test]
async fn after_a_broken_link_the_rest_is_asked_for() {
    let cluster = Cluster::start().await;
    let mut chain = vec![drv("d-0", &[], &[])];
    for index in 1..20 {
        chain.push(drv(&format!("d-{index}"), &[&chain[index - 1]], &[]));
    }
    let chain: Vec<_> = chain.iter().collect();
    let root = chain[19];
    breaks_off_after(&cluster, "a", root, &chain, 12).await;
    // What came is not known: it was not verified. Another board has to show that it has it.
    assert!(chain.iter().all(|drv| !cluster.is_registered(&drv.path)));
    let mut other = Board::new(&cluster, "b").await;
    other.submit(&root.path).await.unwrap_err();
    assert_eq!(other.needs[0].derivations, [root.path.as_str()]);
    breaks_off_after(&cluster, "a", root, &chain, 3).await;
    let mut board = Board::new(&cluster, "a").await.with(&chain[..5], &[]);
    board.submit(&root.path).await.unwrap();
    let asked: Vec<_> = board.needs.iter().flat_map(|need| need.derivations.clone()).collect();
    let rest: Vec<_> = chain[..5].iter().rev().map(|drv| drv.path.clone()).collect();
    assert_eq!(asked, rest);
}
