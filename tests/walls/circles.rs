//! Inside a crate, files of different folders do not import each other in a circle.
//!
//! An import counts for the file that has the item: what a `mod.rs` only passes on is not its own. The files of one
//! folder, and the file of the module whose folder it is, may refer to each other: they are one module, cut to be read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::paths::{Import, Named, Path};
use crate::sources::{Source, sources_of};

struct File {
    /// Its path below the workspace.
    path: String,
    /// The module that its folder is.
    folder: Path,
    /// The names that its `use` declarations bring in, with their paths.
    names: BTreeMap<String, Path>,
    /// The files that it imports, each with a path that is the reason.
    imports: BTreeMap<usize, String>,
}

struct Crate {
    files: Vec<File>,
    /// The file of each module, by its path from the crate's root.
    modules: BTreeMap<Path, usize>,
}

impl Crate {
    fn new(root: &str, sources: &[Source]) -> Self {
        let mut by_module = BTreeMap::new();
        for source in sources {
            let below = source.path[root.len() + 1..].trim_end_matches(".rs");
            let mut module: Path = below.split('/').map(str::to_owned).collect();
            module.pop_if(|last| ["lib", "main", "mod"].contains(&last.as_str()));
            // A binary of a library's package is another crate, and `lib.rs` comes before `main.rs`.
            by_module.entry(module).or_insert(source);
        }
        let mut found = Self { files: Vec::new(), modules: BTreeMap::new() };
        let (mut contents, mut declared) = (Vec::new(), BTreeSet::from([Path::new()]));
        // A module comes after the one that declares it. What is declared for tests only is not there.
        for (module, source) in &by_module {
            if !declared.contains(module) {
                continue;
            }
            let content = Named::of(&source.text);
            declared.extend(content.modules.iter().map(|name| [&module[..], std::slice::from_ref(name)].concat()));
            let names = content.imports.iter().map(|import| (import.name.clone(), import.path.clone())).collect();
            let mut folder = module.clone();
            // A module without files below it belongs to the folder it is in.
            if !by_module.keys().any(|other| other.len() > module.len() && other.starts_with(module)) {
                folder.pop();
            }
            found.modules.insert(module.clone(), found.files.len());
            found.files.push(File { path: source.path.clone(), folder, names, imports: BTreeMap::new() });
            contents.push((module, content));
        }
        for (file, (module, content)) in contents.into_iter().enumerate() {
            let own = |import: &Import| (!import.is_passed_on).then(|| import.path.clone());
            for path in content.imports.iter().filter_map(own).chain(content.code) {
                if let Some(other) = found.file_of(module, &path, 16).filter(|&other| other != file) {
                    found.files[file].imports.entry(other).or_insert_with(|| path.join("::"));
                }
            }
        }
        found
    }

    /// Returns the file that has what `path` names in `module`; none if it is of another crate, or a module, whose use
    /// is counted where something of it is named.
    fn file_of(&self, module: &[String], path: &[String], patience: usize) -> Option<usize> {
        let patience = patience.checked_sub(1)?;
        let (mut at, mut rest) = (module.to_vec(), path);
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => (),
                "super" => drop(at.pop()),
                _ => break,
            }
            rest = others;
        }
        let is_relative = rest.len() == path.len();
        for (step, name) in rest.iter().enumerate() {
            at.push(name.clone());
            if self.modules.contains_key(&at) {
                continue;
            }
            at.pop();
            let file = *self.modules.get(&at)?;
            return match self.files[file].names.get(name) {
                Some(imported) => self.file_of(&at, &[imported, &rest[step + 1..]].concat(), patience),
                None => (step > 0 || !is_relative).then_some(file),
            };
        }
        None
    }

    /// Returns the shortest way along imports from one file to another.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let (mut ways, mut seen) = (VecDeque::from([vec![from]]), BTreeSet::new());
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            if last == to {
                return Some(way);
            }
            for next in self.files[last].imports.keys().filter(|next| seen.insert(**next)) {
                ways.push_back([&way[..], &[*next]].concat());
            }
        }
        None
    }

    /// Returns the shortest way along imports that leaves a folder and comes back to where it began.
    fn circle(&self) -> Option<Vec<usize>> {
        let files = self.files.iter().enumerate();
        let imports = files.flat_map(|(from, file)| file.imports.keys().map(move |to| (from, *to)));
        let crossing = imports.filter(|(from, to)| self.files[*from].folder != self.files[*to].folder);
        let circles = crossing.filter_map(|(from, to)| Some([vec![from], self.way(to, from)?].concat()));
        circles.min_by_key(Vec::len)
    }

    /// Returns what each file of a circle names of the next one.
    fn tell(&self, circle: &[usize]) -> Vec<String> {
        let step = |step: &[usize]| {
            let (file, next) = (&self.files[step[0]], &self.files[step[1]]);
            format!("{} names {} of {}", file.path, file.imports[&step[1]], next.path)
        };
        circle.windows(2).map(step).collect()
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
    for root in ROOTS {
        let found = Crate::new(root, &sources_of(root));
        let importing = found.files.iter().filter(|file| !file.imports.is_empty()).count();
        assert!(importing > 3, "{root}: hardly any import was found");
        let circle = found.circle().map(|circle| found.tell(&circle));
        assert!(circle.is_none(), "a circle of imports: {circle:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source::new(format!("src/{path}"), (*text).to_owned());
        let found = Crate::new("src", &files.iter().map(source).collect::<Vec<_>>());
        found.circle().map(|circle| found.tell(&circle)).unwrap_or_default()
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
        let expected = [
            "src/a/y.rs names b::Z of src/b/z.rs",
            "src/b/z.rs names crate::a::X of src/a/x.rs",
            "src/a/x.rs names super::y::Y of src/a/y.rs",
        ];
        assert_eq!(of(&files), expected);
    }

    #[test]
    fn neither_a_folder_s_own_files_nor_a_facade_nor_tests_make_one() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::X;"),
            ("a.rs", "mod x;\npub use x::X;\npub struct Y;\nfn f(_: x::X) {}"),
            ("a/x.rs", "use super::Y;\nuse crate::b::Z;\npub struct X(Y, Z);"),
            ("b.rs", "pub struct Z;\n#[cfg(test)]\nmod tests {\n    use crate::X;\n}"),
        ];
        assert_eq!(of(&files), [""; 0]);
    }
}
