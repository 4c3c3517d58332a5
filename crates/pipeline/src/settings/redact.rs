//! Hides the passwords of URLs that are printed or logged.

/// Replaces the passwords of a URL by `***`: the one before the host, and those in the query.
///
/// Works on the text rather than on a parsed URL, because the parsers of broker and database disagree about where
/// unusual passwords end. If in doubt, it hides too much.
#[must_use]
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    let (user, after) = match authority_end(rest) {
        Some(at) => (hide_password(&rest[..at]), &rest[at..]),
        None => (String::new(), rest),
    };
    match after.split_once('?') {
        Some((path, query)) => format!("{scheme}://{user}{path}?{}", hide_in_query(query)),
        None => format!("{scheme}://{user}{after}"),
    }
}

/// Returns the position of the `@` before the host: the last one that is not in the query.
fn authority_end(rest: &str) -> Option<usize> {
    let first = rest.find('@')?;
    let query = rest[first..].find('?').map_or(rest.len(), |offset| first + offset);
    rest[..query].rfind('@')
}

fn hide_password(user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:***"),
        None => user.to_owned(),
    }
}

fn hide_in_query(query: &str) -> String {
    let hide = |pair: &str| match pair.split_once('=') {
        // A name with a percent sign may be "password" encoded; no valid parameter has one.
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") || name.contains('%') => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    query.split('&').map(hide).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_they_are() {
        for (url, shown) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
            ("amqp://127.0.0.1:5672", "amqp://127.0.0.1:5672"),
            ("amqp://u@h/v?heartbeat=5", "amqp://u@h/v?heartbeat=5"),
            ("postgresql://u:s/e?c@r@t@h1,h2/db?a=b@c", "postgresql://u:***@h1,h2/db?a=b@c"),
            ("postgresql://u@h/db?password=secret&sslmode=require", "postgresql://u@h/db?password=***&sslmode=require"),
            ("postgresql://u@h/db?p%61ssword=secret", "postgresql://u@h/db?p%61ssword=***"),
            ("secret", "***"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
