//! What is held after crashes at every step, and single flight.
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const NAME: &str = "9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt";

fn id(domain: &str) -> ContentId {
    let path = StorePath::from_validated(&format!("{STORE_DIRECTORY}/{NAME}"));
    ContentId { domain: TrustDomain::parse(domain).unwrap(), path }
}

/// Facts of a file `hello`.
fn hello_facts() -> PathFacts {
    let digest = "0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969";
    let mut nar_sha256 = [0; 32];
    for (index, byte) in nar_sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digest[index * 2..index * 2 + 2], 16).unwrap();
    }
    let reference = StorePath::from_validated("/nix/store/c426lska1dcs57a969vcsihm5ddwlbmd-r.txt");
    PathFacts {
        nar_sha256,
        nar_size: 120,
        references: vec![reference.clone()],
        deriver: Some(reference),
        content_address: Some("text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic".into()),
    }
}

fn add_hello(store: &Store, domain: &str) {
    let id = id(domain);
    let partial = store.partial(&id).unwrap();
    fs::write(&partial, "hello").unwrap();
    store.adopt(&id, hello_facts(), &partial).unwrap();
}

#[test]
fn what_was_adopted_is_held_after_a_restart_with_all_its_facts() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), false).unwrap();
    add_hello(&store, "shared");
    assert_eq!(store.get(&id("board:one")), None, "domains are separate");
    add_hello(&store, "board:one");
    drop(store);
    for verify in [false, true] {
        let store = Store::open(directory.path(), verify).unwrap();
        for domain in ["shared", "board:one"] {
            assert_eq!(store.get(&id(domain)).as_deref(), Some(&hello_facts()), "{domain}");
            assert_eq!(fs::read(store.tree(&id(domain))).unwrap(), b"hello");
        }
        assert_eq!(store.held().len(), 2);
    }
}

/// Each case damages a store that holds one path; says whether it is held after a restart (without, with verification).
#[test]
fn crashes_leave_a_path_whole_or_absent() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, bool, bool); 5] = [
        ("nothing", |_| {}, true, true),
        (
            "before the facts",
            |domain| fs::remove_file(domain.join(format!(".facts/{NAME}.json"))).unwrap(),
            false,
            false,
        ),
        (
            "facts cut off",
            |domain| fs::write(domain.join(format!(".facts/{NAME}.json")), "{\"nar_").unwrap(),
            false,
            false,
        ),
        ("tree lost", |domain| fs::remove_file(domain.join(NAME)).unwrap(), false, false),
        (
            "tree damaged by a power cut",
            |domain| {
                let tree = domain.join(NAME);
                fs::remove_file(&tree).unwrap();
                fs::write(tree, "hell\0").unwrap();
            },
            true,
            false,
        ),
    ];
    for (name, damage, held, held_verified) in cases {
        for (verify, expected) in [(false, held), (true, held_verified)] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path(), false).unwrap();
            add_hello(&store, "shared");
            fs::create_dir_all(store.partial(&id("shared")).unwrap().join("half/done")).unwrap();
            drop(store);
            let domain = directory.path().join("shared");
            damage(&domain);
            let store = Store::open(directory.path(), verify).unwrap();
            assert_eq!(store.get(&id("shared")).is_some(), expected, "{name}, verify {verify}");
            assert_eq!(domain.join(NAME).exists(), expected, "{name}: tree");
            assert!(!domain.join(PARTIAL_DIRECTORY).exists(), "{name}: partial trees are removed");
            add_hello(&store, "shared");
            assert!(store.get(&id("shared")).is_some(), "{name}: can be added again");
        }
    }
}

#[test]
fn forgetting_removes_facts_and_tree() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), false).unwrap();
    add_hello(&store, "shared");
    store.forget(&id("shared")).unwrap();
    assert_eq!(store.get(&id("shared")), None);
    assert!(!store.tree(&id("shared")).exists());
    assert!(store.free_disk_bytes() > 0);
}

#[test]
fn one_directory_has_one_executor() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Store::open(directory.path(), false).unwrap();
    assert!(matches!(Store::open(directory.path(), false), Err(StoreError::InUse(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_path_is_worked_on_by_one_task_at_a_time() {
    let flights = SingleFlight::default();
    let inside = AtomicUsize::new(0);
    let work = async || {
        for _ in 0..50 {
            let _turn = flights.turn(&id("shared")).await;
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    };
    futures_util::future::join_all((0..8).map(|_| work())).await;
    assert!(flights.is_idle(), "no lock outlives its work");
}
