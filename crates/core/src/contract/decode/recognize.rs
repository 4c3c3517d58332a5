//! Recognizes what a body is that isn't JSON: compressed, in another encoding, in another format. A
//! parser's "expected value at line 1 column 1" doesn't help to mend the publisher.

/// Returns what the body is and what to publish instead, or `None` if the JSON parser's own message says
/// more.
pub(super) fn recognize(body: &[u8], content_encoding: Option<&str>) -> Option<String> {
    let text = body.trim_ascii();
    if text.is_empty() {
        let bytes = if body.is_empty() { "empty" } else { "nothing but white space" };
        return Some(format!("the body is {bytes}, expected a JSON object"));
    }
    compressed(body, content_encoding)
        .or_else(|| unicode(body))
        .or_else(|| serialized(body))
        .or_else(|| text_of_another_kind(text))
        .or_else(|| is_binary(body).then(|| format!("the body is binary ({}), expected JSON text", first_bytes(body))))
}

fn compressed(body: &[u8], content_encoding: Option<&str>) -> Option<String> {
    const REMEDY: &str = "publish it uncompressed";
    let magic = match body {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [0xff, 0x06, 0, 0, b's', b'N', b'a', b'P', ..] => Some("snappy"),
        [b'P', b'K', 3, 4, ..] => Some("zip"),
        // Of zlib both bytes together are a multiple of 31.
        [head @ (0x58 | 0x68 | 0x78), flags, ..] if u16::from_be_bytes([*head, *flags]).is_multiple_of(31) => {
            Some("zlib (`deflate`)")
        }
        _ => None,
    };
    if let Some(name) = magic {
        return Some(format!("the body is {name}-compressed, expected JSON text: {REMEDY}"));
    }
    if body.starts_with(b"{") {
        return None;
    }
    // Some libraries write the character set into it.
    let encoding = content_encoding.filter(|name| {
        let plain = ["", "identity", "utf-8", "utf8", "us-ascii", "ascii", "8bit", "7bit"];
        !plain.iter().any(|each| name.eq_ignore_ascii_case(each))
    })?;
    let short: String = encoding.chars().take(40).collect();
    Some(format!("the body is not JSON, and `content_encoding` says {short:?}, expected JSON text: {REMEDY}"))
}

fn unicode(body: &[u8]) -> Option<String> {
    let name = match body {
        [0xef, 0xbb, 0xbf, ..] => {
            let remedy = "publish it without, for instance with `utf-8` in place of `utf-8-sig`";
            return Some(format!("the body begins with a byte order mark (ef bb bf), expected JSON text: {remedy}"));
        }
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [b'{', 0, 0, 0, ..] | [0, 0, 0, b'{', ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        [first, 0, second, 0, ..] | [0, first, 0, second, ..] if is_of_json(*first) && is_of_json(*second) => "UTF-16",
        _ => return None,
    };
    Some(format!("the body is text in {name}, expected JSON in UTF-8: publish it in UTF-8"))
}

/// Whether a byte can be among the first of a JSON text.
const fn is_of_json(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_graphic()
}

/// Formats that some client libraries serialize to by default.
fn serialized(body: &[u8]) -> Option<String> {
    let name = match body {
        [0xac, 0xed, 0, 5, ..] => "a serialized Java object",
        [0x80, 2..=5, ..] if body.ends_with(b".") => "a Python pickle",
        [0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, ..] => "a serialized .NET object",
        [b'O', b'b', b'j', 1, ..] => "an Avro file",
        // A map, whose first key is a short string.
        [0x80..=0x8f, 0xa1..=0xbf, ..] => "MessagePack",
        _ => return None,
    };
    Some(format!("the body is {name}, expected a JSON object: set the publisher's serializer to JSON"))
}

fn text_of_another_kind(text: &[u8]) -> Option<String> {
    let expected = match text {
        [b'<', ..] => "the body is XML or HTML, expected a JSON object".to_owned(),
        [b'[', ..] => array(text)?,
        [b'"', ..] => match serde_json::from_slice::<String>(text) {
            Ok(inner) if inner.trim_start().starts_with('{') => {
                "the body is a JSON string that holds JSON, expected a JSON object: it was encoded twice".to_owned()
            }
            Ok(inner) if is_base64_of_json(inner.as_bytes()) => base64(),
            _ => return None,
        },
        [b'{', b'\'', ..] => {
            "the body has single quotes, as Python shows a dictionary, expected JSON: use `json.dumps`".to_owned()
        }
        _ if is_base64_of_json(text) => base64(),
        _ if is_form(text) => {
            "the body is form-encoded (`id=…&type=…`), expected a JSON object: publish it as JSON".to_owned()
        }
        _ => return None,
    };
    Some(expected)
}

fn array(text: &[u8]) -> Option<String> {
    let items: Vec<serde::de::IgnoredAny> = serde_json::from_slice(text).ok()?;
    let count = items.len();
    Some(format!("the body is a JSON array of {count}, expected a JSON object: publish each task as its own message"))
}

fn base64() -> String {
    "the body is Base64 of JSON, expected a JSON object: publish it as it is, without Base64".to_owned()
}

/// Whether all of it is Base64, and the first of what it stands for is an object's bracket.
fn is_base64_of_json(text: &[u8]) -> bool {
    let sextet = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let is_part = |byte: &u8| sextet(byte).is_some() || matches!(byte, b'=' | b'\r' | b'\n');
    let [first, second, ..] = text else { return false };
    let (Some(first), Some(second)) = (sextet(first), sextet(second)) else { return false };
    text.len() >= 8 && (first << 2 | second >> 4) == b'{' && text.iter().all(is_part)
}

/// `a=b&c=d`, and nothing that a form would have escaped.
fn is_form(text: &[u8]) -> bool {
    let is_name =
        |name: &[u8]| !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.[]%".contains(b));
    let is_plain = |b: &u8| b.is_ascii_graphic() && !b"{}\"<>".contains(b);
    let pair = |pair: &[u8]| pair.iter().position(|b| *b == b'=').is_some_and(|place| is_name(&pair[..place]));
    text.iter().all(is_plain) && text.split(|b| *b == b'&').all(pair)
}

/// Whether the first bytes can't be text.
fn is_binary(body: &[u8]) -> bool {
    let first = &body[..body.len().min(64)];
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    let is_text = match std::str::from_utf8(first) {
        Ok(_) => true,
        // Cut within a character.
        Err(error) => error.error_len().is_none(),
    };
    !body.starts_with(b"{") && (first.iter().any(is_control) || !is_text)
}

fn first_bytes(body: &[u8]) -> String {
    let bytes: Vec<String> = body.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with {}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"id":"01920000-0000-7000-8000-000000000001","type":"transfer"}"#;

    fn utf_16(unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        JSON.encode_utf16().flat_map(unit).collect()
    }

    #[track_caller]
    fn says(body: impl AsRef<[u8]>, part: &str) {
        let said = recognize(body.as_ref(), None).expect("it is recognized");
        assert!(said.starts_with("the body ") && said.contains(part) && said.contains("expected"), "{said}");
    }

    #[test]
    fn a_body_that_is_no_json_is_called_by_its_name() {
        says("", "empty");
        says(" \n", "white space");
        says([0x1f, 0x8b, 8, 0], "gzip-compressed");
        says([0x28, 0xb5, 0x2f, 0xfd, 4], "zstd-compressed");
        says([0x78, 0x9c, 0xab], "zlib");
        says([0x78, 0x01, 0xab], "zlib");
        says(format!("\u{feff}{JSON}"), "byte order mark");
        says([b"\xff\xfe".to_vec(), utf_16(u16::to_le_bytes)].concat(), "UTF-16");
        says([b"\xfe\xff".to_vec(), utf_16(u16::to_be_bytes)].concat(), "UTF-16");
        says(utf_16(u16::to_le_bytes), "UTF-16");
        says(utf_16(u16::to_be_bytes), "UTF-16");
        says(JSON.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>(), "UTF-32");
        says("eyJpZCI6IjAxOTIwMDAwIn0=", "Base64");
        says("ewogICJpZCI6IDUKfQ", "Base64");
        says("\"eyJpZCI6IjAxOTIwMDAwIn0=\"", "Base64");
        says(serde_json::to_string(JSON).expect("a string"), "encoded twice");
        says("id=0192&type=transfer&amount=5", "form-encoded");
        says("<task id='7'/>", "XML");
        says(format!("[{JSON},{JSON}]"), "a JSON array of 2");
        says("{'id': '0192'}", "Python");
        says([0xac, 0xed, 0, 5, 0x74], "Java");
        says([0x80, 4, 0x95, b'.'], "pickle");
        says([0x82, 0xa2, b'i', b'd'], "MessagePack");
        says([0x0a, 0x24, b'0', b'1', b'9', 0x10], "binary (it begins with 0a 24 30 31 39 10)");
    }

    #[test]
    fn a_content_encoding_is_named_only_where_it_can_be_the_reason() {
        let said = |encoding| recognize(b"\x8b\x10", Some(encoding)).expect("it is recognized");
        assert!(said("br").contains("`content_encoding` says \"br\""), "{}", said("br"));
        assert!(said("UTF-8").contains("binary"), "{}", said("UTF-8"));
    }

    #[test]
    fn what_the_parser_knows_better_is_left_to_it() {
        for body in ["nonsense", "null", "5", "please settle 7", r#"{"id": 5"#, "[1,", "\"text\"", "a=b c"] {
            assert_eq!(recognize(body.as_bytes(), None), None, "{body}");
        }
    }
}
