//! What is held after crashes at every step, single flight, and what is dropped to make room.
use super::collector::{Collector, Limits};
use super::*;
use crate::lease::LeaseKey;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

fn named(name: &str) -> ContentId {
    let path = StorePath::from_validated(&format!("{STORE_DIRECTORY}/{}-{name}", "0".repeat(32)));
    ContentId { domain: TrustDomain::Shared, path }
}

/// Puts files of 120 bytes each into a store of 300, in this order.
fn three_files(directory: &Path) -> (Arc<Store>, Arc<Collector>) {
    let store = Arc::new(Store::open(directory, false).unwrap());
    ["a", "b", "c"].iter().for_each(|name| add(&store, &named(name)));
    let limits = Limits { bytes_max: Some(300), free_bytes_min: 0, reserve_bytes: 0 };
    (store.clone(), Arc::new(Collector::new(store, limits)))
}

fn add(store: &Store, id: &ContentId) {
    let partial = store.partial(id).unwrap();
    fs::write(&partial, "hello").unwrap();
    store.adopt(id, hello_facts(), &partial).unwrap();
}

/// Until what may go has gone, if it did not come again.
async fn removed(collector: &Collector) {
    while collector.removing.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_may_go_goes_with_its_files_and_can_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    assert!(collector.is_full());
    let (number, asked) = collector.question().unwrap();
    assert_eq!(asked, [named("a")], "as much as is too much");
    assert_eq!(collector.question(), None, "one question at a time");
    assert_eq!(collector.answer(number, asked), []);
    assert_eq!(store.get(&named("a")), None, "from here on it is not held");
    removed(&collector).await;
    assert!(!store.tree(&named("a")).exists() && !store.facts_path(&named("a")).exists());
    assert!(!collector.is_full() && store.bytes() == 240);
    add(&store, &named("a"));
    assert_eq!(store.held().len(), 3);
    let (_, asked) = collector.question().unwrap();
    assert_eq!(asked, [named("b")], "the newest is not the first to go");
}

#[tokio::test]
async fn files_of_a_path_that_came_again_at_once_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    let (number, asked) = collector.question().unwrap();
    collector.answer(number, asked);
    // Before the files are gone, or after: this thread has not given way yet.
    add(&store, &named("a"));
    removed(&collector).await;
    assert!(store.get(&named("a")).is_some() && store.tree(&named("a")).exists());
    drop((store, collector));
    assert!(Store::open(directory.path(), true).unwrap().get(&named("a")).is_some());
}

#[tokio::test]
async fn what_is_in_use_stays_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    let pins = Pins::new(&store, &[named("a")]);
    let (number, asked) = collector.question().unwrap();
    assert_eq!(asked, [named("b")]);
    pins.add(&[named("b")]);
    let kept = collector.answer(number, vec![named("b"), named("c")]);
    assert_eq!(kept, [(named("b"), Arc::new(hello_facts()))]);
    removed(&collector).await;
    assert!(!store.tree(&named("c")).exists());
    assert_eq!(collector.question(), None, "two are not too much");
    add(&store, &named("c"));
    drop(pins);
    assert_eq!(collector.question().unwrap().1, [named("c")], "the others were used since");
}

#[tokio::test]
async fn answers_that_nobody_waits_for_drop_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    collector.answer(0, vec![named("a")]);
    let (number, asked) = collector.question().unwrap();
    collector.answer(number + 1, asked.clone());
    // The connection breaks: what is still on its way belongs to it.
    collector.disconnect();
    collector.answer(number, asked.clone());
    assert_eq!(store.held().len(), 3);
    let (next, _) = collector.question().unwrap();
    assert!(next > number);
    collector.answer(number, asked.clone());
    assert_eq!(store.held().len(), 3, "an answer to an older question");
    collector.answer(next, vec![id("board:one"), named("unknown"), named("a")]);
    collector.answer(next, vec![named("b")]);
    assert_eq!(store.held().len(), 2, "it is answered once");
    removed(&collector).await;
}

#[test]
fn the_order_of_uses_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    drop(Pins::new(&store, &[named("a")]));
    store.record_uses();
    drop((store, collector));
    let store = Store::open(directory.path(), false).unwrap();
    assert_eq!(store.index().oldest(u64::MAX, 9).last(), Some(&named("a")));
}

#[test]
fn a_result_keeps_what_it_is_made_of_until_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (store, collector) = three_files(directory.path());
    let unacknowledged = Unacknowledged::default();
    let key = LeaseKey { id: model::LeaseId(1), epoch: model::Epoch(1) };
    unacknowledged.keep(key, Pins::new(&store, &[named("a"), named("b")]));
    // The same lease is handled once more, by a session that came later.
    unacknowledged.keep(key, Pins::new(&store, &[named("a"), named("b")]));
    assert_eq!(collector.question().unwrap().1, [named("c")]);
    collector.disconnect();
    unacknowledged.release(key);
    assert_eq!(store.index().oldest(u64::MAX, 9)[0], named("c"), "the others were used since");
    assert_eq!(store.index().oldest(u64::MAX, 9).len(), 3);
}
