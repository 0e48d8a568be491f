//! The network of fixed outputs: the host's without its abstract sockets, or one of their own without the host's loopback.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::io::Write;
use std::net::{IpAddr, TcpListener, UdpSocket};

use kit::{Bench, EXECUTOR, User};
use sandbox::probe::find_in_path;
use sandbox::protocol::End;
use sandbox::spec::Network;

/// The address by which this machine reaches others: no packet is sent for it.
fn outer_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this machine has a route to others");
    socket.local_addr().unwrap().ip()
}

#[test]
fn a_joined_network_reaches_others_and_not_the_hosts_loopback() {
    let program = find_in_path("slirp4netns").expect("slirp4netns is missing: run `cargo xtask setup`");
    let outer = TcpListener::bind((outer_address(), 0)).unwrap();
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (outer.local_addr().unwrap(), inner.local_addr().unwrap().port());
    for listener in [outer, inner] {
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _gone = stream.and_then(|mut stream| stream.write_all(b"reached\n"));
            }
        });
    }
    let script = format!(
        "nc -w 5 {} {} </dev/null; nc -w 2 127.0.0.1 {port} </dev/null 2>/dev/null || echo no loopback
         nc -w 2 10.0.2.2 {port} </dev/null 2>/dev/null || echo no gateway; ip -o -4 addr show dev tap0 | grep -c 10.0.2.100
         ip link set tap0 down 2>/dev/null || echo no power",
        address.ip(),
        address.port()
    );
    for (user, device) in [
        (User::Root, None),
        // Open to everybody, as on Debian, and given to the executor alone.
        (User::Executor, Some((0, 0o666))),
        (User::Executor, Some((EXECUTOR, 0o600))),
    ] {
        let bench = Bench::new(user, "amd64");
        if let Some((owner, mode)) = device {
            bench.replace_tun(owner, mode);
        }
        let mut spec = bench.spec(&script);
        spec.network = Network::Joined { program: program.as_path().into() };
        let outcome = bench.run(spec);
        let expected = "reached\nno loopback\nno gateway\n1\nno power\n";
        assert_eq!(outcome.log, expected, "{user:?} {device:?} {:?}", outcome.events);
        assert_eq!(outcome.finished().end, End::Exit(0));
    }
}

/// What is opened inside is opened with the executor's rights: nothing gets around the device's mode.
#[test]
fn a_device_that_is_closed_to_the_executor_is_an_error_that_names_it() {
    let program = find_in_path("slirp4netns").expect("slirp4netns is missing: run `cargo xtask setup`");
    let bench = Bench::new(User::Executor, "amd64");
    bench.replace_tun(0, 0o600);
    let mut spec = bench.spec("echo ran");
    spec.network = Network::Joined { program: program.as_path().into() };
    let outcome = bench.run(spec);
    assert_eq!(outcome.log, "");
    let events = format!("{:?}", outcome.events);
    assert!(events.contains("/dev/net/tun") && events.contains("Permission denied"), "{events}");
}

#[test]
fn a_network_that_cannot_be_joined_is_an_error_that_says_why() {
    let bench = Bench::new(User::Root, "amd64");
    for (program, words) in [("/no/such/slirp4netns", "No such file"), ("/bin/false", "")] {
        let mut spec = bench.spec("echo ran");
        spec.network = Network::Joined { program: program.into() };
        bench.fresh();
        let outcome = bench.run(spec);
        assert_eq!(outcome.log, "");
        let events = format!("{:?}", outcome.events);
        assert!(events.contains(program) && events.contains(words), "{events}");
    }
}
