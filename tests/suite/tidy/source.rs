//! Reads Rust source well enough to know which paths it uses: comments, strings and character
//! literals are skipped, `use` trees are flattened, `self` and `super` are resolved.

/// What a claim about the code is checked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Identifier(String),
    /// `::`
    PathSeparator,
    /// A string, character or number, whatever it says.
    Literal,
    /// Any other character that is not white space.
    Punctuation(char),
}

impl Token {
    fn is(&self, punctuation: char) -> bool {
        *self == Self::Punctuation(punctuation)
    }

    fn is_identifier(&self, name: &str) -> bool {
        matches!(self, Self::Identifier(identifier) if identifier == name)
    }
}

/// A token and the line it stands on, from 1.
pub(super) type Located = (Token, usize);

/// A path as it was meant: `crate::…` for this crate's own, otherwise the outside crate first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// Whether a call without arguments follows: `path()` or `path::<T>()`.
    pub(super) called_bare: bool,
    /// Whether it stands in a `use`.
    pub(super) imported: bool,
}

/// Splits source text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Located> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let (token, end) = token_at(&characters, at);
        found.extend(token.map(|token| (token, line)));
        line += characters[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

/// The tokens without the items under `#[cfg(test)]`.
pub(super) fn without_tests(tokens: &[Located]) -> Vec<Located> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_cfg_test(&tokens[at..]) {
            at = item_end(tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Every path in `tokens`, the source of the module `module` (its segments below `crate`).
pub(super) fn paths(tokens: &[Located], module: &[&str]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut module: Vec<String> = module.iter().map(|segment| (*segment).to_owned()).collect();
    let mut inline_modules_open_at = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while at < tokens.len() {
        match (&tokens[at].0, tokens.get(at + 1).map(|next| &next.0)) {
            (Token::Identifier(word), Some(Token::Identifier(name))) if word == "mod" => {
                if tokens.get(at + 2).is_some_and(|(token, _)| token.is('{')) {
                    inline_modules_open_at.push(depth);
                    module.push(name.clone());
                }
                at += 2;
            }
            // `impl Trait + use<'a>` is no import.
            (Token::Identifier(word), Some(next)) if word == "use" && !next.is('<') => {
                at = use_tree(tokens, at + 1, &[], &module, &mut found);
            }
            (Token::Identifier(_) | Token::PathSeparator, _) => {
                at = expression_path(tokens, at, &module, &mut found);
            }
            (token, _) => {
                if token.is('{') {
                    depth += 1;
                } else if token.is('}') {
                    depth = depth.saturating_sub(1);
                    if inline_modules_open_at.last() == Some(&depth) {
                        inline_modules_open_at.pop();
                        module.pop();
                    }
                }
                at += 1;
            }
        }
    }
    found
}

/// The token at `at`, if it is one, and where it ends. White space, comments and lifetimes are not.
fn token_at(characters: &[char], at: usize) -> (Option<Token>, usize) {
    let rest = &characters[at..];
    let word_length =
        |from: usize| rest[from..].iter().position(|c| !is_word(*c)).map_or(rest.len(), |end| from + end);
    if let Some(length) = literal_length(rest) {
        return (Some(Token::Literal), at + length);
    }
    let (token, length) = match rest {
        [c, ..] if c.is_whitespace() => (None, 1),
        ['/', '/', ..] => (None, rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => (None, block_comment_length(rest)),
        [':', ':', ..] => (Some(Token::PathSeparator), 2),
        ['\'', ..] => (None, word_length(1)),
        ['r', '#', ..] => (Some(Token::Identifier(rest[2..word_length(2)].iter().collect())), word_length(2)),
        [first, ..] if is_word(*first) => {
            (Some(Token::Identifier(rest[..word_length(0)].iter().collect())), word_length(0))
        }
        _ => (Some(Token::Punctuation(rest[0])), 1),
    };
    (token, at + length)
}

/// The length of the literal that `rest` starts with, if it does.
fn literal_length(rest: &[char]) -> Option<usize> {
    match rest {
        ['"', ..] => Some(quoted_length(rest, '"')),
        ['b' | 'c', '"', ..] => Some(1 + quoted_length(&rest[1..], '"')),
        ['b', '\'', ..] => Some(1 + quoted_length(&rest[1..], '\'')),
        ['r', ..] => raw_string_length(&rest[1..]).map(|length| 1 + length),
        ['b' | 'c', 'r', ..] => raw_string_length(&rest[2..]).map(|length| 2 + length),
        // A quote is a lifetime unless it closes after one character or an escape.
        ['\'', '\\', ..] => Some(quoted_length(rest, '\'')),
        ['\'', _, '\'', ..] => Some(3),
        [digit, ..] if digit.is_ascii_digit() => {
            Some(rest.iter().position(|c| !is_word(*c)).unwrap_or(rest.len()))
        }
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        match &rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

/// The length of `#…"…"#…` if that is what `rest` starts with.
fn raw_string_length(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let mut closing = vec!['"'];
    closing.resize(hashes + 1, '#');
    let body = &rest[hashes + 1..];
    let end = body.windows(closing.len()).position(|window| window == closing).unwrap_or(body.len());
    Some(rest.len().min(hashes + 1 + end + closing.len()))
}

fn is_cfg_test(tokens: &[Located]) -> bool {
    let [(hash, _), (open, _), (cfg, _), (bracket, _), (test, _), (close, _), (end, _), ..] = tokens else {
        return false;
    };
    hash.is('#')
        && open.is('[')
        && cfg.is_identifier("cfg")
        && bracket.is('(')
        && test.is_identifier("test")
        && close.is(')')
        && end.is(']')
}

/// The end of the item whose first attribute starts at `start`: its `;`, or its closing brace.
fn item_end(tokens: &[Located], start: usize) -> usize {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for (index, (token, _)) in tokens.iter().enumerate().skip(start) {
        match token {
            Token::Punctuation('[' | '(') => brackets += 1,
            Token::Punctuation(']' | ')') => brackets = brackets.saturating_sub(1),
            Token::Punctuation('{') => braces += 1,
            Token::Punctuation('}') => {
                braces = braces.saturating_sub(1);
                // The braces of `use a::{b};` are not the item's end.
                let ends_a_use = tokens.get(index + 1).is_some_and(|(next, _)| next.is(';'));
                if braces == 0 && brackets == 0 && !ends_a_use {
                    return index + 1;
                }
            }
            Token::Punctuation(';') if brackets == 0 && braces == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Flattens the `use` tree at `at`; returns where it ends.
fn use_tree(
    tokens: &[Located],
    mut at: usize,
    prefix: &[String],
    module: &[String],
    found: &mut Vec<Path>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(_, line)| *line);
    while let Some((token, _)) = tokens.get(at) {
        match token {
            Token::PathSeparator => at += 1,
            Token::Identifier(alias) if alias == "as" => at += 2,
            Token::Identifier(segment) => {
                // `{self}` means what stands before the braces.
                if segment != "self" || segments.is_empty() {
                    segments.push(segment.clone());
                }
                at += 1;
            }
            Token::Punctuation('*') => at += 1,
            Token::Punctuation('{') => {
                at += 1;
                while let Some((token, _)) = tokens.get(at).filter(|(token, _)| !token.is('}')) {
                    at = if token.is(',') { at + 1 } else { use_tree(tokens, at, &segments, module, found) };
                }
                return at + 1;
            }
            Token::Punctuation(_) | Token::Literal => break,
        }
    }
    if segments.len() > prefix.len() || !prefix.is_empty() {
        found.push(Path { line, segments: resolve(&segments, module), called_bare: false, imported: true });
    }
    // A character that cannot stand here must not hold the scan up.
    let stuck = tokens.get(at).is_some_and(|(token, _)| !token.is('}') && !token.is(',') && !token.is(';'));
    if stuck { at + 1 } else { at }
}

/// Reads the path at `at`; returns where it ends. Single identifiers are not paths.
fn expression_path(tokens: &[Located], mut at: usize, module: &[String], found: &mut Vec<Path>) -> usize {
    let line = tokens[at].1;
    let mut segments = Vec::new();
    loop {
        if tokens.get(at).is_some_and(|(token, _)| *token == Token::PathSeparator) {
            at += 1;
        }
        let Some((Token::Identifier(segment), _)) = tokens.get(at) else { break };
        segments.push(segment.clone());
        at += 1;
        if tokens.get(at).is_none_or(|(token, _)| *token != Token::PathSeparator) {
            break;
        }
    }
    if segments.len() > 1 {
        let called_bare = is_bare_call(&tokens[at..]);
        found.push(Path { line, segments: resolve(&segments, module), called_bare, imported: false });
    }
    at
}

/// Whether `()` or `<…>()` follows.
fn is_bare_call(mut tokens: &[Located]) -> bool {
    let mut depth = 0;
    while let [(token, _), rest @ ..] = tokens {
        match token {
            Token::Punctuation('<') => depth += 1,
            Token::Punctuation('>') => depth -= 1,
            _ if depth > 0 => {}
            _ => return matches!(tokens, [(open, _), (close, _), ..] if open.is('(') && close.is(')')),
        }
        tokens = rest;
    }
    false
}

/// Replaces a leading `self` or chain of `super` by the path from the crate's root.
fn resolve(segments: &[String], module: &[String]) -> Vec<String> {
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = |up: usize, rest: &[String]| {
        let above = &module[..module.len().saturating_sub(up)];
        [&["crate".to_owned()], above, rest].concat()
    };
    match segments.first().map(String::as_str) {
        Some("self") => {
            let supers = segments.iter().skip(1).take_while(|segment| *segment == "super").count();
            from_root(supers, &segments[1 + supers..])
        }
        Some("super") => from_root(supers, &segments[supers..]),
        _ => segments.to_vec(),
    }
}
