//! Another implementation, the crate `nix-derivation`, must agree on texts, own paths and output paths.
use nix_formats::derivation;
use nix_formats::modulo;
use nix_formats::store_path::StoreDir;

#[test]
fn both_give_the_same_paths() {
    let store = StoreDir::default();
    for (name, script, attribute) in
        [("one", "true", "plain"), ("a+b-._?=9", "echo \"$x\"\t\n", "q\"\\\r"), ("x-1.2", "", "é☃")]
    {
        let theirs = nix_derivation::DerivationBuilder::new(name, "x86_64-linux", "/bin/sh")
            .input_addressed_output("out")
            .input_addressed_output("dev")
            .argument("-c")
            .argument(script)
            .environment("attribute", attribute)
            .build()
            .expect("builds");
        let text = theirs.to_aterm_bytes();
        let path = theirs.drv_path().to_basename();
        let path = nix_formats::store_path::StorePath::parse_base_name(&path).expect("a path");
        let ours = derivation::parse(&text, &store).expect("parses");
        assert_eq!(ours.to_aterm(&store), text);
        modulo::verify(&path, &text, &ours, &store, |_| None).expect("verifies");
    }
}
