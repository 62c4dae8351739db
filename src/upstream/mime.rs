//! What the header of a MIME part says of the part, and which lines part it from the next (RFC 2045, RFC 2046).
//!
//! Read by whoever walks through a message line by line: `seven_bit`, which encodes, and `part_headers`, which looks. Never: walks; holds a body.

/// Why nobody can say what a part is, as the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclear(pub(super) &'static str);

/// What a part without Content-Type is. RFC 2046 §5.1.5: in a digest each part is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlabelled {
    Text,
    Message,
}

/// What stands before each part of a multipart, and behind the last: `--` and its boundary.
#[derive(Debug)]
pub(super) struct Delimiter(Vec<u8>);

/// What a line that is a boundary begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// The next part.
    Next,
    /// What is behind the last.
    Last,
}

impl Delimiter {
    pub(super) fn new(boundary: &[u8]) -> Self {
        Self([b"--".as_slice(), boundary].concat())
    }

    /// RFC 2046 §5.1.1: two hyphens, the boundary, two hyphens more at the end, white space.
    pub(super) fn of(&self, line: &[u8]) -> Option<Boundary> {
        match line.strip_prefix(self.0.as_slice())?.trim_ascii_end() {
            b"" => Some(Boundary::Next),
            b"--" => Some(Boundary::Last),
            _ => None,
        }
    }
}

/// What a part is made of (RFC 2046).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Multipart {
        subtype: String,
        boundary: Vec<u8>,
    },
    /// `message/rfc822`.
    Message,
    /// `message/global`, whose header may hold UTF-8 (RFC 6532 §3.7).
    GlobalMessage,
    /// Another `message/*`: not to be encoded (RFC 2046 §5.2).
    OtherMessage,
    Text,
    Other,
}

impl Kind {
    pub(super) fn is_signed(&self) -> bool {
        matches!(self, Self::Multipart { subtype, .. } if subtype == "signed")
    }

    pub(super) fn is_digest(&self) -> bool {
        matches!(self, Self::Multipart { subtype, .. } if subtype == "digest")
    }
}

/// Content-Transfer-Encoding (RFC 2045 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    SevenBit,
    EightBit,
    Binary,
    /// base64 or quoted-printable.
    Encoded,
    Unknown,
}

/// What a header says.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) encoding: Label,
    pub(super) has_type: bool,
    pub(super) has_version: bool,
}

impl Facts {
    pub(super) fn of(header: &[u8], default: Unlabelled) -> Result<Self, Unclear> {
        let (mut content_type, mut encoding, mut has_version) = (None, None, false);
        for field in fields(header) {
            let twice = match name_of(field) {
                name if name.eq_ignore_ascii_case(b"Content-Type") => content_type.replace(value_of(field)).is_some(),
                name if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") => {
                    encoding.replace(value_of(field)).is_some()
                }
                name => {
                    has_version |= name.eq_ignore_ascii_case(b"MIME-Version");
                    false
                }
            };
            if twice {
                return Err(Unclear("a part says twice what it is"));
            }
        }
        let kind = match &content_type {
            Some(value) => kind_of(value)?,
            None if default == Unlabelled::Message => Kind::Message,
            None => Kind::Text,
        };
        let encoding = encoding.as_deref().map_or(Label::SevenBit, label_of);
        Ok(Self { kind, encoding, has_type: content_type.is_some(), has_version })
    }
}

/// The fields of a header, each with the lines that continue it.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = memchr::memchr(b'\n', rest.get(end..)?)
                .map_or(rest.len(), |at| end.saturating_add(at).saturating_add(1));
            end = line;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, left) = rest.split_at_checked(end)?;
        rest = left;
        (!field.is_empty()).then_some(field)
    })
}

pub(super) fn name_of(field: &[u8]) -> &[u8] {
    field.split(|&octet| octet == b':').next().unwrap_or_default().trim_ascii_end()
}

/// The value without comments (RFC 2045 §5.1 allows them) and line breaks; quoted strings are left as they are.
fn value_of(field: &[u8]) -> Vec<u8> {
    let value = field.iter().skip_while(|&&octet| octet != b':').skip(1);
    let (mut clear, mut depth, mut quoted, mut escaped) = (Vec::new(), 0_usize, false, false);
    for &octet in value {
        match octet {
            b'\r' | b'\n' => continue,
            _ if escaped => escaped = false,
            b'\\' if quoted || depth > 0 => escaped = true,
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => depth = depth.saturating_add(1),
            b')' if !quoted && depth > 0 => {
                depth = depth.saturating_sub(1);
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            clear.push(octet);
        }
    }
    clear
}

fn label_of(value: &[u8]) -> Label {
    let value = value.trim_ascii().to_ascii_lowercase();
    match value.as_slice() {
        b"" | b"7bit" => Label::SevenBit,
        b"8bit" => Label::EightBit,
        b"binary" => Label::Binary,
        b"base64" | b"quoted-printable" => Label::Encoded,
        _ => Label::Unknown,
    }
}

fn kind_of(value: &[u8]) -> Result<Kind, Unclear> {
    let parameters = split_unquoted(value);
    let essence = parameters.first().map(|essence| essence.trim_ascii().to_ascii_lowercase()).unwrap_or_default();
    let essence = String::from_utf8_lossy(&essence).into_owned();
    let (kind, subtype) = essence.split_once('/').unwrap_or((&essence, ""));
    match (kind, subtype.trim()) {
        ("multipart", subtype) => match parameters.iter().skip(1).find_map(|parameter| boundary_of(parameter)) {
            Some(boundary) => Ok(Kind::Multipart { subtype: subtype.to_owned(), boundary }),
            None => Err(Unclear("a multipart in it has no boundary")),
        },
        ("message", "rfc822") => Ok(Kind::Message),
        ("message", "global") => Ok(Kind::GlobalMessage),
        ("message", _) => Ok(Kind::OtherMessage),
        ("text", _) => Ok(Kind::Text),
        _ => Ok(Kind::Other),
    }
}

/// What stands between semicolons that are not quoted.
fn split_unquoted(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut parts, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for &octet in value {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                parts.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(octet);
        }
    }
    parts
}

fn boundary_of(parameter: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memchr(b'=', parameter)?;
    let (name, value) = parameter.split_at_checked(at)?;
    if !name.trim_ascii().eq_ignore_ascii_case(b"boundary") {
        return None;
    }
    let value = value.get(1..)?.trim_ascii();
    let boundary = match value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) {
        Some(quoted) => unescaped(quoted),
        None => value.to_vec(),
    };
    (!boundary.is_empty()).then_some(boundary)
}

fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let keep = |&octet: &u8| {
        escaped = !escaped && octet == b'\\';
        (!escaped).then_some(octet)
    };
    quoted.iter().filter_map(keep).collect()
}
