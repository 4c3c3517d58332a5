//! Every link leads somewhere, in the repository and in the book.

use super::{below, pages, read, root, without_fences};

/// The anchors of a page, made from its headings as GitHub and mdBook make them.
fn anchors_of(text: &str) -> Vec<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    without_fences(text).lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// The targets of the links of a page.
fn links_of(text: &str) -> Vec<String> {
    let text = without_fences(text);
    text.split("](").skip(1).filter_map(|link| link.split(')').next()).map(str::to_owned).collect()
}

/// `target` as seen from `document`, as a path from the root of the repository.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn links_lead_somewhere() {
    let front = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned);
    let mut checked = 0;
    for document in front.into_iter().chain(pages()) {
        let text = read(&document);
        for link in links_of(&text).into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() { document.clone() } else { resolve(&document, file) };
            assert!(root().join(&path).exists(), "{document}: {link} leads nowhere");
            // The book has no page of anything outside docs/: there the path is named instead of linked.
            let leaves = document.starts_with("docs/") && !path.starts_with("docs/");
            assert!(!leaves, "{document}: {link} leads out of the book");
            let known = heading.is_empty() || anchors_of(&read(&path)).iter().any(|each| each == heading);
            assert!(known, "{document}: {link} names a heading that isn't there");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links were found");
}

/// mdBook leaves out what its table of contents does not name.
#[test]
fn the_table_of_contents_names_every_page_once() {
    let summary = "docs/SUMMARY.md";
    let mut named: Vec<_> = links_of(&read(summary)).iter().map(|link| resolve(summary, link)).collect();
    named.sort();
    let there: Vec<_> = pages().into_iter().filter(|page| page != summary).collect();
    assert_eq!(named, there);
}

/// A path in code style, such as `schemas/task.schema.json`, is that of a file.
#[test]
fn files_that_the_book_names_exist() {
    // Results of a run are named there, which are not in the repository.
    let of_results = "docs/loadtest.md";
    let directories = ["benches/", "examples/", "fuzz/", "loadtest/", "schemas/", "systemd/", "tests/"];
    let mut there: Vec<String> = directories.iter().flat_map(|directory| below(directory)).collect();
    there.extend(directories.map(|directory| directory.trim_end_matches('/').to_owned()));
    let mut checked = 0;
    for page in pages().into_iter().filter(|page| page != of_results) {
        for named in without_fences(&read(&page)).split('`').skip(1).step_by(2) {
            if !directories.iter().any(|directory| named.starts_with(directory)) || named.contains(char::is_whitespace)
            {
                continue;
            }
            let path = named.trim_end_matches('/');
            // A module may be named without its ending.
            let found = there.iter().any(|each| each == path || each.strip_suffix(".rs") == Some(path));
            assert!(found, "{page} names `{named}`, which isn't there");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names were found");
}
