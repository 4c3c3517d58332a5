//! Inside a crate, files of different folders do not import each other in a circle.
//!
//! An import counts for the file that has the item: what a `mod.rs` only passes on is not its own. The files of one
//! folder, and the file of the module whose folder it is, may refer to each other: they are one module, cut to be read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use crate::paths::{By, Named, named};
use crate::sources::{Source, sources_of};

/// Circles that are there, by the files in them, until they are cut. A new one is not for this list.
const KNOWN: &[&[&str]] = &[];

/// A module: a file, or an inline module of one.
struct Module {
    file: usize,
    /// The names that its `use` declarations bring in, with their paths.
    names: BTreeMap<String, Vec<String>>,
}

struct Crate {
    /// By their path from the crate's root.
    modules: BTreeMap<Vec<String>, Module>,
    /// Below the workspace, each with the folder it belongs to.
    files: Vec<(String, Vec<String>)>,
    /// From file to file, with a path that is the reason.
    edges: BTreeMap<usize, BTreeMap<usize, String>>,
}

impl Crate {
    fn new(root: &str, sources: &[Source]) -> Self {
        let mut by_module: BTreeMap<Vec<String>, &Source> = BTreeMap::new();
        for source in sources {
            let below = Path::new(&source.path).strip_prefix(root).expect("below its root").with_extension("");
            let mut path: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
                path.pop();
            }
            // A binary of a library's package is another crate, and `lib.rs` comes before `main.rs`.
            by_module.entry(path).or_insert(source);
        }
        let mut found = Self { modules: BTreeMap::new(), files: Vec::new(), edges: BTreeMap::new() };
        let mut contents: Vec<(Vec<String>, Vec<Named>)> = Vec::new();
        let mut declared = BTreeSet::from([Vec::new()]);
        // A module comes after the one that declares it. What is declared for tests only is not there.
        for (path, source) in by_module {
            if declared.contains(&path) {
                let content = named(&source.text);
                let modules = content.iter().filter(|named| named.by == By::Declaration);
                declared.extend(modules.map(|module| [&path[..], &module.inside, &module.path].concat()));
                let file = found.files.len();
                found.files.push((source.path.clone(), path.clone()));
                found.modules.insert(path.clone(), Module { file, names: BTreeMap::new() });
                contents.push((path, content));
            }
        }
        // A module without files below it belongs to the folder it is in.
        for file in 0..found.files.len() {
            let (_, path) = &found.files[file];
            let has_files = found.files.iter().any(|(_, other)| other.len() > path.len() && other.starts_with(path));
            if !has_files {
                found.files[file].1.pop();
            }
        }
        for (path, content) in &contents {
            let file = found.modules[path].file;
            for Named { inside, path: target, by } in content {
                let module = [path.as_slice(), inside].concat();
                let module = found.modules.entry(module).or_insert(Module { file, names: BTreeMap::new() });
                if let By::Use { name, .. } = by {
                    module.names.insert(name.clone(), target.clone());
                }
            }
        }
        for (path, content) in &contents {
            let file = found.modules[path].file;
            for Named { inside, path: target, by } in content.iter().filter(|named| named.by != By::Declaration) {
                let passed_on = matches!(by, By::Use { exported: true, .. });
                let module = [path.as_slice(), inside].concat();
                let Some(other) = found.file_of(&module, target, 16).filter(|&other| other != file && !passed_on)
                else {
                    continue;
                };
                found.edges.entry(file).or_default().entry(other).or_insert_with(|| target.join("::"));
            }
        }
        found
    }

    /// Returns the file that has what `path` names in `module`; none if it is of another crate, of `module` itself, or
    /// a module, whose use is counted where something of it is named.
    fn file_of(&self, module: &[String], path: &[String], patience: usize) -> Option<usize> {
        let patience = patience.checked_sub(1)?;
        let (first, mut rest) = path.split_first()?;
        let mut at = module.to_vec();
        match first.as_str() {
            "crate" => at.clear(),
            "self" => (),
            "super" => {
                at.pop();
                while let Some((next, others)) = rest.split_first().filter(|(next, _)| *next == "super") {
                    debug_assert_eq!(next, "super");
                    at.pop();
                    rest = others;
                }
            }
            name => {
                at.push(name.to_owned());
                if !self.modules.contains_key(&at) {
                    at.pop();
                    let imported = self.modules.get(module)?.names.get(name)?;
                    let whole = [imported, rest].concat();
                    return (whole != path).then(|| self.file_of(module, &whole, patience)).flatten();
                }
            }
        }
        while let Some((next, others)) = rest.split_first() {
            at.push(next.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                let module = self.modules.get(&at)?;
                return match module.names.get(next) {
                    Some(imported) => self.file_of(&at, &[imported, others].concat(), patience),
                    None => Some(module.file),
                };
            }
            rest = others;
        }
        None
    }

    /// The shortest way along imports from one file to another that has at least one step.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut before = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(file) = queue.pop_front() {
            for &next in self.edges.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if before.contains_key(&next) {
                    continue;
                }
                before.insert(next, file);
                if next == to {
                    let mut way = vec![to];
                    let mut at = to;
                    loop {
                        at = before[&at];
                        way.push(at);
                        if at == from {
                            break;
                        }
                    }
                    way.reverse();
                    return Some(way);
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// The files that can be reached along at least one import.
    fn reached_from(&self, file: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut todo = vec![file];
        while let Some(at) = todo.pop() {
            let imported = self.edges.get(&at).into_iter().flat_map(BTreeMap::keys);
            todo.extend(imported.filter(|&&next| reached.insert(next)));
        }
        reached
    }

    /// The files that import each other, directly or not, across folders.
    fn circles(&self) -> Vec<BTreeSet<usize>> {
        let files = 0..self.files.len();
        let reached: Vec<BTreeSet<usize>> = files.clone().map(|file| self.reached_from(file)).collect();
        let mut circles: Vec<BTreeSet<usize>> = Vec::new();
        for file in files {
            if !reached[file].contains(&file) || circles.iter().any(|circle| circle.contains(&file)) {
                continue;
            }
            circles.push(reached[file].iter().copied().filter(|&other| reached[other].contains(&file)).collect());
        }
        circles.retain(|circle| {
            let folders: BTreeSet<_> = circle.iter().map(|&file| &self.files[file].1).collect();
            folders.len() > 1
        });
        circles
    }

    /// Tells a circle with a way around it that leaves the folder.
    fn tell(&self, circle: &BTreeSet<usize>) -> String {
        let folder = |file: usize| &self.files[file].1;
        let crossing = |&(from, to): &(usize, usize)| folder(from) != folder(to);
        let steps = circle
            .iter()
            .flat_map(|&from| self.edges[&from].keys().filter(|to| circle.contains(to)).map(move |&to| (from, to)));
        let ways = steps.filter(crossing).filter_map(|(from, to)| Some([vec![from], self.way(to, from)?].concat()));
        let shortest = ways.min_by_key(Vec::len).expect("a way around");
        let mut text = format!("{} files import each other:", circle.len());
        for step in shortest.windows(2) {
            let reason = &self.edges[&step[0]][&step[1]];
            text += &format!("\n  {} names {reason} of {}", self.files[step[0]].0, self.files[step[1]].0);
        }
        let names: Vec<_> = circle.iter().map(|&file| format!("{:?}", self.files[file].0)).collect();
        text + "\n  all of them: &[" + &names.join(", ") + "]"
    }
}

/// The roots of the crates, and that of a test which is as large as one.
const ROOTS: [&str; 8] = [
    "src",
    "crates/core/src",
    "crates/pipeline/src",
    "crates/store/src",
    "crates/amqp/src",
    "crates/testkit/src",
    "crates/testkit/tests/simulation",
    "loadtest/src",
];

#[test]
fn no_files_of_different_folders_import_each_other_in_a_circle() {
    let mut known: Vec<BTreeSet<&str>> = KNOWN.iter().map(|files| files.iter().copied().collect()).collect();
    let mut told = String::new();
    for root in ROOTS {
        let found = Crate::new(root, &sources_of(root));
        assert!(found.edges.len() > 3, "{root}: hardly any import was found");
        for circle in found.circles() {
            let names: BTreeSet<&str> = circle.iter().map(|&file| found.files[file].0.as_str()).collect();
            match known.iter().position(|files| *files == names) {
                Some(place) => drop(known.remove(place)),
                None => told += &format!("{}\n", found.tell(&circle)),
            }
        }
    }
    assert!(told.is_empty(), "circles of imports:\n{told}");
    assert!(known.is_empty(), "no longer there, or smaller: take it off the list: {known:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(format!("src/{path}"), (*text).to_owned())).collect();
        let found = Crate::new("src", &sources);
        let names = |circle: &BTreeSet<usize>| {
            circle.iter().map(|&file| found.files[file].0.as_str()).collect::<Vec<_>>().join(" ")
        };
        found.circles().iter().map(names).collect()
    }

    #[test]
    fn a_circle_through_what_a_module_passes_on_is_found() {
        let files = [
            ("lib.rs", "mod a;\nmod b;"),
            ("a/mod.rs", "mod x;\nmod y;\npub use x::X;"),
            ("a/x.rs", "use super::y::Y;\npub struct X(Y);"),
            ("a/y.rs", "use crate::b;\npub struct Y(b::Z);"),
            ("b/mod.rs", "mod z;\npub use self::z::{Z};"),
            ("b/z.rs", "pub struct Z(Box<crate::a::X>);"),
        ];
        assert_eq!(of(&files), ["src/a/x.rs src/a/y.rs src/b/z.rs"]);
    }

    #[test]
    fn neither_a_folder_s_own_files_nor_a_facade_nor_tests_make_one() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::X;"),
            ("a.rs", "mod x;\npub use x::X;\npub struct Y;\nfn f(_: x::X) {}"),
            ("a/x.rs", "use super::Y;\nuse crate::b::Z;\npub struct X(Y, Z);"),
            ("b.rs", "pub struct Z;\n#[cfg(test)]\nmod tests { use crate::X; }"),
        ];
        assert_eq!(of(&files), [""; 0]);
    }
}
