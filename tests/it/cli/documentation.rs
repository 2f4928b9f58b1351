//! The page about the command line names every verb that there is.

use clap::CommandFactory;

#[test]
fn every_verb_is_documented() {
    let page = include_str!("../../../docs/cli.md");
    for verb in miyabi::cli::args::Args::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let names: Vec<String> = if verb.has_subcommands() {
            verb.get_subcommands().map(|under| format!("{} {}", verb.get_name(), under.get_name())).collect()
        } else {
            vec![verb.get_name().to_owned()]
        };
        for name in names {
            let documented = [format!("`{name} "), format!("`{name}`")].iter().any(|text| page.contains(text));
            assert!(documented, "`miyabi {name}` is missing from docs/cli.md");
        }
    }
}
