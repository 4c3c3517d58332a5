//! The parameters of a server's URL: each is understood or refused, never ignored.

use super::did_you_mean;

/// The parameters that a URL may have behind `?`.
pub struct Parameters {
    /// The names that are understood.
    pub known: &'static [&'static str],
    /// Names that other programs understand, each with what to write here.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

impl Parameters {
    /// Returns the parameters of a URL as they were written.
    ///
    /// # Errors
    ///
    /// If a parameter is not known, is there twice, or has no value; as of [`Parsed::parse`](super::Parsed::parse). Names
    /// are quoted, values are not.
    pub fn of<'u>(&self, url: &'u str) -> Result<Vec<(&'u str, &'u str)>, String> {
        let Some((_, query)) = url.split_once('?') else { return Ok(Vec::new()) };
        if query.contains('@') {
            // What follows the question mark may be the rest of a password.
            return Err(
                "it has an @ behind a ?; write %40 for @ and %3F for ? where they are part of something".to_owned()
            );
        }
        let mut found: Vec<(&str, &str)> = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !self.known.contains(&name) {
                return Err(self.unknown(name));
            }
            if value.is_empty() {
                return Err(format!("the parameter `{name}` has no value; write {name}=…"));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(format!("the parameter `{name}` is there twice; delete one"));
            }
            found.push((name, value));
        }
        Ok(found)
    }

    fn unknown(&self, name: &str) -> String {
        let is_name = (1..=40).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        let what = if is_name { format!("the parameter `{name}`") } else { "one of its parameters".to_owned() };
        let elsewhere =
            self.elsewhere.iter().find(|(other, _)| *other == name).map(|(_, instead)| (*instead).to_owned());
        let instead = elsewhere
            .or_else(|| did_you_mean(name, self.known.iter().copied()))
            .unwrap_or_else(|| format!("the parameters are {}", self.known.join(", ")));
        format!("{what} is not understood; {instead}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: Parameters =
        Parameters { known: &["heartbeat", "depth"], elsewhere: &[("cafile", "put it into tls_ca_file")] };

    #[test]
    fn a_parameter_that_is_not_understood_is_refused_by_its_name() {
        assert_eq!(PARAMETERS.of("amqp://h/v"), Ok(vec![]));
        assert_eq!(PARAMETERS.of("amqp://h/v?depth=2&heartbeat=1"), Ok(vec![("depth", "2"), ("heartbeat", "1")]));
        for (query, reason, instead) in [
            ("cafile=x", "`cafile` is not understood", "put it into tls_ca_file"),
            ("heartbeet=x", "`heartbeet` is not understood", "did you mean `heartbeat`?"),
            ("colour=x", "`colour` is not understood", "the parameters are heartbeat, depth"),
            ("", "one of its parameters", "the parameters are"),
            ("depth", "`depth` has no value", "write depth=…"),
            ("depth=1&depth=2", "`depth` is there twice", "delete one"),
            ("geheim@h/v", "an @ behind a ?", "%40"),
            ("ge%heim=1", "one of its parameters", "the parameters are"),
        ] {
            let error = PARAMETERS.of(&format!("amqp://u:p@h/v?{query}")).unwrap_err();
            let (said, remedy) = error.split_once("; ").unwrap();
            assert!(said.contains(reason) && remedy.contains(instead), "{query}: {error}");
            assert!(!error.contains("heim"), "{error}");
        }
    }
}
