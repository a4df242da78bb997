//! The reference of the API, made from the comments in `proto`.

use std::{collections::HashMap, fmt::Write as _};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto, field_descriptor_proto::Type,
};

/// The files in the order in which they are read, and what each is about.
const FILES: [(&str, &str); 6] = [
    ("kv", "For applications"),
    ("record", "Records and operations"),
    ("admin", "For operators"),
    ("trust", "Orders and proof"),
    ("status", "Status of nodes"),
    ("replication", "Between nodes"),
];

/// The numbers of fields in a descriptor, of which paths to comments consist.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const FIELDS: i32 = 2;
const NESTED_MESSAGES: i32 = 3;
const NESTED_ENUMS: i32 = 4;

/// One file on its way into the page.
struct Page<'a> {
    text: &'a mut String,
    comments: HashMap<Vec<i32>, String>,
}

/// All files, service by service and message by message.
pub(super) fn reference() -> String {
    let set = FileDescriptorSet::decode(brock_core::proto::DESCRIPTORS).unwrap();
    let mut text = String::new();
    for (name, heading) in FILES {
        let path = format!("brock/v1/{name}.proto");
        let file = set.file.iter().find(|file| file.name() == path).unwrap();
        writeln!(text, "## {heading}\n\nFile `proto/{path}`.\n").unwrap();
        let mut page = Page { text: &mut text, comments: comments_of(file) };
        for (index, service) in (0..).zip(&file.service) {
            page.service(service, &[SERVICES, index]);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            page.message(message, message.name(), &[MESSAGES, index]);
        }
        for (index, choice) in (0..).zip(&file.enum_type) {
            page.choice(choice, choice.name(), &[ENUMS, index]);
        }
    }
    text
}

fn comments_of(file: &FileDescriptorProto) -> HashMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let commented = locations.filter_map(|location| {
        let words: Vec<_> = location.leading_comments.as_deref()?.split_whitespace().collect();
        Some((location.path.clone(), words.join(" ").replace('|', "\\|").replace('<', "&lt;")))
    });
    let comments: HashMap<_, _> = commented.collect();
    assert!(!comments.is_empty(), "the descriptors of {} have no comments", file.name());
    comments
}

impl Page<'_> {
    fn comment(&self, path: &[i32], inner: &[i32]) -> &str {
        self.comments.get(&[path, inner].concat()).map_or("", String::as_str)
    }

    /// The heading of something, and its comment as a paragraph.
    fn begin(&mut self, name: &str, path: &[i32]) {
        writeln!(self.text, "### {name}\n").unwrap();
        let comment = self.comment(path, &[]).to_owned();
        if !comment.is_empty() {
            writeln!(self.text, "{comment}\n").unwrap();
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, path: &[i32]) {
        self.begin(service.name(), path);
        self.text.push_str("| call | request | answer | meaning |\n|---|---|---|---|\n");
        for (index, call) in (0..).zip(&service.method) {
            let side = |name: &str, streams: bool| {
                format!("{}{}", if streams { "stream of " } else { "" }, link(name))
            };
            let request = side(call.input_type(), call.client_streaming());
            let answer = side(call.output_type(), call.server_streaming());
            let meaning = self.comment(path, &[FIELDS, index]).to_owned();
            writeln!(self.text, "| `{}` | {request} | {answer} | {meaning} |", call.name()).unwrap();
        }
        self.text.push('\n');
    }

    fn message(&mut self, message: &DescriptorProto, name: &str, path: &[i32]) {
        self.begin(name, path);
        if message.field.is_empty() {
            self.text.push_str("No fields.\n\n");
        } else {
            self.text.push_str("| field | number | type | meaning |\n|---|---|---|---|\n");
        }
        for (index, field) in (0..).zip(&message.field) {
            let meaning = self.comment(path, &[FIELDS, index]);
            let choice = field.oneof_index.filter(|_| !field.proto3_optional()).map_or(String::new(), |of| {
                let of = usize::try_from(of).ok().and_then(|of| message.oneof_decl.get(of)).unwrap();
                format!("One of `{}`. ", of.name())
            });
            let row = format!(
                "| `{}` | {} | {} | {choice}{meaning} |",
                field.name(),
                field.number(),
                type_of(field, message)
            );
            writeln!(self.text, "{}", row.replace("  |", " |")).unwrap();
        }
        if !message.field.is_empty() {
            self.text.push('\n');
        }
        for (index, inner) in (0..).zip(&message.nested_type) {
            if !is_map_entry(inner) {
                let path = [path, &[NESTED_MESSAGES, index]].concat();
                self.message(inner, &format!("{name}.{}", inner.name()), &path);
            }
        }
        for (index, inner) in (0..).zip(&message.enum_type) {
            let path = [path, &[NESTED_ENUMS, index]].concat();
            self.choice(inner, &format!("{name}.{}", inner.name()), &path);
        }
    }

    fn choice(&mut self, choice: &EnumDescriptorProto, name: &str, path: &[i32]) {
        self.begin(name, path);
        self.text.push_str("| value | number | meaning |\n|---|---|---|\n");
        for (index, value) in (0..).zip(&choice.value) {
            let meaning = self.comment(path, &[FIELDS, index]).to_owned();
            writeln!(self.text, "| `{}` | {} | {meaning} |", value.name(), value.number()).unwrap();
        }
        self.text.push('\n');
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn type_of(field: &FieldDescriptorProto, within: &DescriptorProto) -> String {
    let entry = within.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().ends_with(&format!(".{}.{}", within.name(), nested.name()))
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map of {} to {}", type_of(key, within), type_of(value, within));
    }
    let single = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        prost_types::field_descriptor_proto::Label::Repeated => format!("repeated {single}"),
        _ if field.proto3_optional() => format!("optional {single}"),
        _ => single,
    }
}

/// A link to the heading of a message.
fn link(name: &str) -> String {
    let name = name.trim_start_matches(".brock.v1.");
    format!("[{name}](#{})", name.replace('.', "").to_lowercase())
}

/// The table of reasons is above what is generated.
#[test]
fn every_reason_of_an_error_is_in_the_reference() {
    let code = super::read("src/api/grpc/status.rs");
    let page = super::read("docs/reference/api.md");
    let is_reason = |text: &&str| {
        text.len() > 6
            && text.contains('_')
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let (body, _) = code.split_once("#[cfg(test)]").unwrap();
    let reasons: Vec<&str> = body.split('"').filter(is_reason).collect();
    assert!(reasons.len() > 30, "{reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(*reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
