//! The paths that a source file names: its `use` declarations, and `a::b` elsewhere in its code.

/// A `use` declaration or a path, as seen from the module it is written in.
#[derive(Debug)]
pub(crate) struct Named {
    /// Inline modules around it, from the outside in.
    pub(crate) inside: Vec<String>,
    /// The path, such as `["crate", "money", "Currency"]`.
    pub(crate) path: Vec<String>,
    pub(crate) by: By,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A `use` declaration that gives the path this name in its module.
    Use { name: String, exported: bool },
    /// `mod name;`.
    Declaration,
    /// Code, where the path may be a single identifier.
    Code,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`.
    Separator,
    Sign(char),
}

impl Token {
    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

/// Returns what `text` names, without its tests, comments and string literals.
pub(crate) fn named(text: &str) -> Vec<Named> {
    let tokens = without_tests(&tokens(text));
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let modules = || inside.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth -= 1;
                if inside.last().is_some_and(|&(_, outside)| outside == depth) {
                    inside.pop();
                }
            }
            Token::Word(word) if word == "mod" && tokens.get(at + 2).is_some_and(|token| token.is('{')) => {
                inside.extend(tokens[at + 1].word().map(|name| (name.to_owned(), depth)));
                at += 1;
            }
            Token::Word(word) if word == "mod" && tokens.get(at + 2).is_some_and(|token| token.is(';')) => {
                let path = tokens[at + 1].word().map(str::to_owned).into_iter().collect();
                found.push(Named { inside: modules(), path, by: By::Declaration });
                at += 1;
            }
            Token::Word(word) if word == "use" && starts_an_item(&tokens[..at]) => {
                let exported = tokens[..at].last().is_some_and(|last| last.is(')') || last.word() == Some("pub"));
                at += 1;
                let mut leaves = Vec::new();
                use_tree(&tokens, &mut at, &[], &mut leaves);
                found.extend(leaves.into_iter().map(|(path, name)| {
                    let by = By::Use { name, exported };
                    Named { inside: modules(), path, by }
                }));
            }
            Token::Word(word) => {
                let is_a_member = at > 0 && tokens[at - 1].is('.');
                let mut path = vec![word.clone()];
                while let (Some(Token::Separator), Some(Token::Word(word))) = (tokens.get(at + 1), tokens.get(at + 2)) {
                    path.push(word.clone());
                    at += 2;
                }
                if !is_a_member {
                    found.push(Named { inside: modules(), path, by: By::Code });
                }
            }
            Token::Separator | Token::Sign(_) => (),
        }
        at += 1;
    }
    found
}

/// Whether a `use` after these tokens is a declaration, not the `use<'a>` of a bound.
fn starts_an_item(before: &[Token]) -> bool {
    before
        .last()
        .is_none_or(|last| [';', '{', '}', ']', ')'].iter().any(|&sign| last.is(sign)) || last.word() == Some("pub"))
}

/// Collects the paths of a use tree with the names they get, and leaves `at` behind it.
fn use_tree(tokens: &[Token], at: &mut usize, prefix: &[String], leaves: &mut Vec<(Vec<String>, String)>) {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(*at) {
            Some(Token::Word(word)) if word == "as" => {
                let name = tokens[*at + 1].word().unwrap_or("_").to_owned();
                *at += 2;
                leaves.push((path, name));
                return;
            }
            Some(Token::Word(word)) => {
                // `a::{self}` is `a`.
                if word != "self" || path.is_empty() {
                    path.push(word.clone());
                }
                *at += 1;
            }
            Some(Token::Separator) => *at += 1,
            Some(Token::Sign('{')) => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| !token.is('}')) {
                    use_tree(tokens, at, &path, leaves);
                    if tokens.get(*at).is_some_and(|token| token.is(',')) {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            Some(Token::Sign('*')) => panic!("`use {}::*` hides what is used", path.join("::")),
            // The end of a leaf: `,`, `;` or `}`.
            _ => {
                let name = path.last().cloned().unwrap_or_default();
                leaves.push((path, name));
                return;
            }
        }
    }
}

/// Cuts the items under `#[cfg(test)]` out.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let attribute = [
        Token::Sign('#'),
        Token::Sign('['),
        Token::Word("cfg".to_owned()),
        Token::Sign('('),
        Token::Word("test".to_owned()),
        Token::Sign(')'),
        Token::Sign(']'),
    ];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&attribute) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += attribute.len();
        while let Some(token) = tokens.get(at) {
            at += 1;
            if token.is('{') {
                depth += 1;
            } else if token.is('}') {
                depth -= 1;
            }
            // The end of a declaration, or of a block; a `use` with braces ends with its `;`.
            let ends = token.is(';') || token.is('}') && !tokens.get(at).is_some_and(|next| next.is(';'));
            if depth == 0 && ends {
                break;
            }
        }
    }
    kept
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            tokens.push(Token::Separator);
            2
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

/// The length of the string or character literal, or of the lifetime, that `text` starts with.
fn literal(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let raw = body.strip_prefix('r').map(|body| (body, body.len() - body.trim_start_matches('#').len()));
    if let Some((body, hashes)) = raw
        && body[hashes..].starts_with('"')
    {
        let end = format!("\"{}", "#".repeat(hashes));
        let close = body[hashes + 1..].find(&end).expect("a raw string ends");
        return Some(text.len() - body.len() + hashes + 1 + close + end.len());
    }
    let quote = body.chars().next().filter(|&first| first == '"' || first == '\'')?;
    if text.len() - body.len() > 1 {
        return None;
    }
    let mut letters = body.char_indices().skip(1);
    if quote == '\'' {
        let mut next = body.chars().skip(1);
        let (first, second) = (next.next()?, next.next()?);
        if first != '\\' && second != '\'' {
            // A lifetime.
            return Some(1);
        }
    }
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return Some(text.len() - body.len() + at + 1);
        }
    }
    panic!("a literal ends: {}", &body[..body.len().min(40)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let show = |named: Named| {
            let path = [named.inside, named.path].concat().join("::");
            match named.by {
                By::Use { name, exported } => format!("{}{path} as {name}", if exported { "pub " } else { "" }),
                By::Declaration | By::Code => path,
            }
        };
        named(text).into_iter().map(show).filter(|path| path.contains("::")).collect()
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
        assert_eq!(of(text), expected);
    }

    #[test]
    fn paths_in_code_count_and_those_in_text_and_tests_do_not() {
        let text = r##"
            // a::b
            fn f<'a>(x: &'a str) -> impl Fn() + use<'a> { let _ = ('\'', '"', "a::b\"", r#"a::"b"#); c::d::<E>(x.f, b'"') }
            mod inner { use super::G; }
            #[cfg(test)]
            pub(super) use self::{h::I};
            #[cfg(test)]
            mod tests { fn f() { j::k() } }
            const L: m::N = 1;
        "##;
        assert_eq!(of(text), ["c::d", "inner::super::G as G", "m::N"]);
    }
}
