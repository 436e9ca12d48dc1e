//! The table of rules in `README.md` names tests that there are.

use std::fs;
use std::path::Path;

#[test]
fn each_rule_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = include_str!("README.md");
    let rules: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rules.len() > 36, "{} rules", rules.len());

    for rule in rules.into_iter().filter(|rule| *rule != "| rule | tests |") {
        let named: Vec<(&str, &str)> =
            rule.split('`').filter_map(|quoted| quoted.split_once("::")).collect();
        assert!(!named.is_empty(), "no test: {rule}");
        for (file, test) in named {
            let file = match file.contains('/') {
                true => root.join(file),
                false => root.join(format!("tests/it/{file}.rs")),
            };
            let text = fs::read_to_string(&file).unwrap_or_default();
            let is_there = |mark: &str| text.contains(mark);
            // Some tests of scenarios are made by a macro.
            let found = is_there(&format!("fn {test}(")) || is_there(&format!("    {test}: \""));
            assert!(found, "no test {test} in {}", file.display());
        }
    }
}
