//! The paths that a source file names: its `use` declarations, and `a::b` elsewhere in its code. Lines are as rustfmt
//! writes them, and no modules but those of tests are inline.

/// A path such as `["crate", "money", "Currency"]`.
pub(crate) type Path = Vec<String>;

/// A `use` declaration that gives a path a name, and whether it passes that on to other modules.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Path,
    pub(crate) is_passed_on: bool,
}

/// What one file names outside of its tests, comments and string literals.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// The modules that have files of their own: `mod name;`.
    pub(crate) modules: Vec<String>,
    pub(crate) imports: Vec<Import>,
    /// Paths in code. A single identifier is one, too.
    pub(crate) code: Vec<Path>,
}

impl Named {
    pub(crate) fn of(text: &str) -> Self {
        let mut named = Self::default();
        for statement in without_tests(&without_literals(text)).split(';') {
            if let Some((before, is_public, tree)) = declared("use ", statement) {
                named.code.extend(paths(before));
                use_tree(tree, &[], is_public, &mut named.imports);
            // What an inline module names counts as its file's.
            } else if let Some((before, _, name)) = declared("mod ", statement).filter(|(.., name)| !name.contains('{'))
            {
                named.code.extend(paths(before));
                named.modules.push(name.to_owned());
            } else {
                named.code.extend(paths(statement));
            }
        }
        named
    }
}

/// Takes the declaration apart with which a statement ends, as a `use<'a>` of a bound does not: into what comes before
/// it, whether it is public, and what is declared.
fn declared<'a>(keyword: &str, statement: &'a str) -> Option<(&'a str, bool, &'a str)> {
    let (before, declared) = statement.rsplit_once(keyword)?;
    let (before, visibility) = before.rsplit_once('\n').unwrap_or(("", before));
    let visibility = visibility.trim();
    (visibility.is_empty() || visibility.starts_with("pub")).then_some((before, !visibility.is_empty(), declared))
}

/// Returns the paths in code that declares nothing; of `a.b` only `a`.
fn paths(code: &str) -> Vec<Path> {
    let code = code.replace("..", " ");
    let words = code.split(|c: char| !(c.is_alphanumeric() || "_:.".contains(c)));
    let paths = words.map(|word| word.split('.').next().unwrap_or_default().trim_matches(':'));
    paths.filter(|path| !path.is_empty()).map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

/// Collects the leaves of a use tree.
fn use_tree(tree: &str, prefix: &[String], is_passed_on: bool, imports: &mut Vec<Import>) {
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, group)| (head, Some(group)));
    let (head, name) =
        head.split_once(" as ").map_or((head, None), |(head, name)| (head, Some(name.trim().to_owned())));
    let mut path = prefix.to_vec();
    path.extend(head.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
    if let Some(group) = group {
        let (mut depth, group) = (0, group.rsplit_once('}').expect("a group ends").0);
        let members = group.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let members = members.filter(|member| !member.trim().is_empty());
        return members.for_each(|member| use_tree(member, &path, is_passed_on, imports));
    }
    // `a::{self}` is `a`.
    path.pop_if(|last| last == "self" && !prefix.is_empty());
    let last = path.last().expect("a name");
    assert!(last != "*", "`use {}` hides what is used", path.join("::"));
    let name = name.unwrap_or_else(|| last.clone());
    imports.push(Import { name, path, is_passed_on });
}

/// Cuts the items under `#[cfg(test)]` out: each goes on until a line that is indented as its first one ends it.
fn without_tests(code: &str) -> String {
    let (mut kept, mut lines) = (String::new(), code.lines());
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix("#[cfg(test)]") else {
            kept += line;
            kept.push('\n');
            continue;
        };
        let ends = |line: &&str| {
            let item = line.strip_prefix(indent).unwrap_or_default();
            item.starts_with(|c: char| !c.is_whitespace()) && item.ends_with(['}', ';', ','])
        };
        lines.find(ends).expect("an item behind `#[cfg(test)]`");
    }
    kept
}

/// Cuts comments, strings and characters out.
fn without_literals(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['/', '"', '\'']) {
        let (before, found) = rest.split_at(at);
        code += before;
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before[..before.len() - hashes].ends_with('r');
        let length = if found.starts_with("//") {
            found.find('\n').unwrap_or(found.len())
        } else if found.starts_with('"') && is_raw {
            let end = format!("\"{}", "#".repeat(hashes));
            1 + found[1..].find(&end).expect("a raw string ends") + end.len()
        } else if let Some(text) = found.strip_prefix('"') {
            let mut is_escaped = false;
            let end = |c| {
                let (was_escaped, escapes) = (is_escaped, c == '\\');
                is_escaped = escapes && !was_escaped;
                c == '"' && !was_escaped
            };
            2 + text.find(end).expect("a string ends")
        } else if found.starts_with("'\\") {
            4 + found[3..].find('\'').expect("a character ends")
        } else {
            // A character, or a division or a lifetime, of which the first sign alone is cut out.
            found
                .char_indices()
                .nth(2)
                .filter(|(_, c)| found.starts_with('\'') && *c == '\'')
                .map_or(1, |(at, _)| at + 1)
        };
        rest = &found[length..];
    }
    code + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<String> {
        let show = |import: &Import| {
            format!("{}{} as {}", if import.is_passed_on { "pub " } else { "" }, import.path.join("::"), import.name)
        };
        Named::of(text).imports.iter().map(show).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let text = "pub(crate) use crate::a::{self, B, c::{D as E, f}};\nuse super::g as _;";
        let expected = [
            "pub crate::a as a",
            "pub crate::a::B as B",
            "pub crate::a::c::D as E",
            "pub crate::a::c::f as f",
            "super::g as _",
        ];
        assert_eq!(imports(text), expected);
    }

    #[test]
    fn paths_in_code_count_and_those_in_text_and_tests_do_not() {
        let text = r##"
// a::b
fn f<'a>(x: &'a str) -> impl Fn() + use<'a> {
    let _ = ('\'', '"', "a::b\"", r#"a::"b"#);
    c::d::<E>(x.f, b'"', 1 / ..G::h())
}
#[cfg(test)]
pub(super) use self::{h::I};
#[cfg(test)]
mod tests {
    fn f() { j::k() }
}
const L: m::N = 1;
        "##;
        assert_eq!(imports(text), [""; 0]);
        let code: Vec<String> = Named::of(text).code.iter().map(|path| path.join("::")).collect();
        let paths: Vec<&String> = code.iter().filter(|path| path.contains("::")).collect();
        assert_eq!(paths, ["c::d", "G::h", "m::N"]);
    }
}
