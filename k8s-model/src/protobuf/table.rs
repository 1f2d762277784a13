//! The generated table of messages.

use std::{
    any::TypeId,
    cell::RefCell,
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use crate::pieces::Nothing;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Integer,
    Double,
    Bytes,
    Message(Ref),
    StringMap,
    BytesMap,
    MessageMap(Ref),
}

/// A message of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ref(u16);

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// It can be absent, which is not the same as zero. What is no pointer is always written.
    pub(super) pointer: bool,
    /// JSON has it even if it is zero.
    pub(super) always: bool,
    /// JSON leaves it out if nothing in it is set.
    pub(super) omit_zero: bool,
}

impl Field {
    /// Whether the fields of its message are its parent's in JSON.
    pub(super) fn is_inlined(&self) -> bool {
        self.name == "+"
    }

    /// Whether JSON has it where it was not set.
    pub(super) fn is_always_written(&self) -> bool {
        match self.kind {
            _ if self.always => true,
            Kind::Message(message) => {
                let is_value = !self.pointer && !self.repeated && !self.omit_zero;
                is_value && message.get().special != Special::Items
            }
            _ => false,
        }
    }

    /// Whether its value is a list or a map of anything.
    pub(super) fn is_collection(&self) -> bool {
        let is_map = matches!(
            self.kind,
            Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_)
        );
        self.repeated || is_map
    }

    /// The value that JSON leaves out, as nobody set it.
    pub(super) fn unset(&self) -> Option<Nothing> {
        // An empty list of these says that nobody is to own anything, or that an autoscaler has no policies where it
        // would have some by default.
        if self.always || self.pointer || matches!(self.name, "managedFields" | "policies") {
            return None;
        }
        Some(match self.kind {
            _ if self.repeated => Nothing::List,
            Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_) => Nothing::Object,
            Kind::String | Kind::Bytes => Nothing::Text,
            Kind::Integer | Kind::Double => Nothing::Zero,
            Kind::Bool => Nothing::False,
            // What has a text form is an object by mistake, which is for the decoder to say.
            Kind::Message(message) if message.get().special == Special::No && self.omit_zero => {
                Nothing::Object
            }
            Kind::Message(_) => return None,
        })
    }

    /// The message that its value is, or the values of its list or map are.
    pub(super) fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Kind::Message(message) | Kind::MessageMap(message) => Some(message.get()),
            _ => None,
        }
    }
}

/// A message whose JSON is not an object with its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    No,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// JSON, as bytes.
    Raw,
    /// A list of strings.
    Items,
    /// A schema, or else what its other field holds.
    SchemaOr,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    name: &'static str,
    pub(super) special: Special,
    /// In the order of their numbers.
    pub(super) fields: Box<[Field]>,
    /// Positions of the fields, in the order of their names.
    by_name: Box<[u16]>,
    /// The fields of its JSON, those of inlined ones among them, in the order of their names.
    members: OnceLock<Members>,
    /// The time that its type in Rust does not do without, as it is written where nobody says it, with a comma.
    pub(super) needed: Option<&'static str>,
}

/// The fields of a message's JSON, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: Box<[Member]>,
    /// What is before each one's value, one after the other: `,"name":`.
    names: Box<[u8]>,
}

/// A field of a message's JSON.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) field: Field,
    /// Where its name is.
    name: (u32, u32),
    /// Where the next field is that is always written: this one, one after it, or none.
    always: usize,
}

impl Members {
    fn new(mut fields: Vec<Field>) -> Self {
        fields.sort_by_key(|field| field.name);
        let mut names = String::new();
        let mut all: Vec<Member> = Vec::with_capacity(fields.len());
        let none = usize::MAX;
        for field in fields {
            let start = names.len() as u32;
            names.extend([",\"", field.name, "\":"]);
            all.push(Member {
                field,
                name: (start, names.len() as u32),
                always: none,
            });
        }
        let mut always = none;
        for (at, member) in all.iter_mut().enumerate().rev() {
            if member.field.is_always_written() {
                always = at;
            }
            member.always = always;
        }
        Members {
            all: all.into(),
            names: names.into_bytes().into(),
        }
    }

    /// One of them.
    pub(super) fn get(&self, at: usize) -> Option<&Member> {
        self.all.get(at)
    }

    /// What is before its value where it is not the first: `,"name":`.
    #[inline]
    pub(super) fn name(&self, member: &Member) -> &[u8] {
        &self.names[member.name.0 as usize..member.name.1 as usize]
    }

    /// Where the next is from `start` on that is always written; past them all if there is none.
    #[inline]
    pub(super) fn next_written(&self, start: usize) -> usize {
        let member = self.all.get(start);
        member.map_or(usize::MAX, |member| member.always)
    }

    /// Those from `start` to before `end` that are always written.
    pub(super) fn always_written(&self, start: usize, end: usize) -> impl Iterator<Item = &Member> {
        let places = std::iter::successors(Some(self.next_written(start)), |at| {
            Some(self.next_written(at.saturating_add(1)))
        });
        let places = places.take_while(move |at| *at < end);
        places.map_while(|at| self.all.get(at))
    }

    /// Where the field of that name is.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let found = self
            .all
            .binary_search_by(|member| member.field.name.cmp(name));
        found.ok()
    }

    /// The same, of one that comes soon after `from`.
    pub(super) fn position_from(&self, from: usize, name: &str) -> Option<usize> {
        let rest = self.all.get(from..)?;
        let found = rest.iter().position(|member| member.field.name == name);
        found.map(|at| from + at)
    }
}

impl Message {
    /// The position of the field of that name in JSON.
    pub(super) fn named(&self, name: &[u8]) -> Option<u16> {
        let found = self
            .by_name
            .binary_search_by(|at| self.fields[usize::from(*at)].name.as_bytes().cmp(name));
        found.ok().map(|at| self.by_name[at])
    }

    /// The message whose fields an object of this one's JSON has; nothing if it has a form of its own.
    pub(super) fn as_object(&'static self) -> Option<&'static Message> {
        match self.special {
            Special::No => Some(self),
            Special::SchemaOr => self.fields.iter().find_map(Field::message),
            _ => None,
        }
    }

    /// The fields of its JSON.
    pub(super) fn members(&'static self) -> &'static Members {
        self.members.get_or_init(|| {
            let mut fields = Vec::new();
            self.collect(&mut fields);
            Members::new(fields)
        })
    }

    fn collect(&'static self, out: &mut Vec<Field>) {
        out.extend(self.fields.iter().filter(|field| !field.is_inlined()));
        self.inlined().for_each(|(_, inner)| inner.collect(out));
    }

    /// The field of its JSON that has that name.
    pub(super) fn member(&'static self, name: &str) -> Option<&'static Field> {
        let members = self.members();
        let found = members.get(members.position(name)?);
        found.map(|member| &member.field)
    }

    pub(super) fn numbered(&self, number: u32) -> Option<&Field> {
        // Most messages number their fields from one, without gaps.
        let guess = self.fields.get((number as usize).wrapping_sub(1));
        match guess {
            Some(field) if field.number == number => Some(field),
            _ => {
                let found = self.fields.binary_search_by_key(&number, |f| f.number);
                found.ok().map(|at| &self.fields[at])
            }
        }
    }

    /// The messages whose fields are this one's in JSON, with their positions.
    pub(super) fn inlined(&self) -> impl Iterator<Item = (u16, &'static Message)> {
        (0..)
            .zip(&self.fields)
            .filter_map(|(at, field)| match (field.is_inlined(), field.kind) {
                (true, Kind::Message(inner)) => Some((at, inner.get())),
                _ => None,
            })
    }
}

static TABLE: LazyLock<Box<[Message]>> = LazyLock::new(|| {
    let lines: Vec<&'static str> = include_str!("../generated/protobuf.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let names: Vec<&'static str> = lines
        .iter()
        .map(|line| line.split_once(' ').map_or(*line, |(name, _)| name))
        .collect();
    let messages = lines.iter().zip(&names);
    messages
        .map(|(line, name)| message(name, line, &names))
        .collect()
});

impl Ref {
    pub(super) fn get(self) -> &'static Message {
        &TABLE[usize::from(self.0)]
    }

    /// The message whose name these make, whatever their case.
    fn named(parts: &[&str]) -> Option<Ref> {
        let mut wanted = parts.concat();
        wanted.make_ascii_lowercase();
        let found = TABLE.binary_search_by(|message| message.name.cmp(&wanted));
        found.ok().and_then(|at| u16::try_from(at).ok()).map(Ref)
    }

    /// The message of a type, by its name in OpenAPI documents, with or without `io.k8s.` in front.
    pub(super) fn of_type(name: &str) -> Option<Ref> {
        let name = name.strip_prefix("io.k8s.").unwrap_or(name);
        let (module, rest) = name.split_once('.')?;
        match module {
            "apiextensions-apiserver" => Ref::named(&["apiextensions_apiserver.", rest]),
            "kube-aggregator" => Ref::named(&["kube_aggregator.", rest]),
            _ => Ref::named(&[name]),
        }
    }

    /// The message of a kind: in the package of its group and version, or else one of those that
    /// all versions have.
    pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<Ref> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let (package, name) = match group {
            "apiextensions.k8s.io" => ("apiextensions_apiserver.pkg.apis.apiextensions", ""),
            "apiregistration.k8s.io" => ("kube_aggregator.pkg.apis.apiregistration", ""),
            "internal.apiserver.k8s.io" => ("api.apiserverinternal", ""),
            _ => {
                // Groups outside this domain have no messages, whatever they begin with.
                if group.contains('.') && !group.ends_with(".k8s.io") {
                    return None;
                }
                ("api.", group.split('.').next().unwrap_or(group))
            }
        };
        Ref::named(&[package, name, ".", version, ".", kind])
            .or_else(|| Ref::named(&["apimachinery.pkg.apis.meta.v1.", kind]))
    }
}

/// The message of a type, whose kind that is. It is looked for once: objects are written all the time.
pub(super) fn message_of<T: 'static>(api_version: &str, kind: &str) -> Option<&'static Message> {
    thread_local! {
        static KNOWN: RefCell<HashMap<TypeId, Option<Ref>>> = RefCell::default();
    }
    let found = KNOWN.with_borrow_mut(|known| {
        let found = known.entry(TypeId::of::<T>());
        *found.or_insert_with(|| Ref::of_kind(api_version, kind))
    });
    found.map(Ref::get)
}

fn message(name: &'static str, line: &'static str, names: &[&'static str]) -> Message {
    let words = line.split(' ').skip(1);
    let fields: Box<[Field]> = words.filter_map(|word| field(word, names)).collect();
    let mut by_name: Box<[u16]> = (0..).take(fields.len()).collect();
    by_name.sort_by_key(|at| fields[usize::from(*at)].name);
    Message {
        name,
        special: if line.ends_with(" items=1*s") && fields.len() == 1 {
            Special::Items
        } else {
            special(name)
        },
        members: OnceLock::new(),
        needed: NEEDED
            .iter()
            .find(|(needs, _)| *needs == name)
            .map(|(_, text)| *text),
        fields,
        by_name,
    }
}

/// The messages with such a time.
const NEEDED: [(&str, &str); 2] = [
    ("api.events.v1.eventseries", r#""lastObservedTime":null,"#),
    (
        "apimachinery.pkg.apis.meta.v1.condition",
        r#""lastTransitionTime":null,"#,
    ),
];

fn special(name: &str) -> Special {
    let (package, last) = name.rsplit_once('.').unwrap_or(("", name));
    match (last, package.rsplit('.').nth(1)) {
        ("time", _) => Special::Time,
        ("microtime", _) => Special::MicroTime,
        ("duration", Some("meta")) => Special::Duration,
        ("quantity", _) => Special::Quantity,
        ("intorstring", _) => Special::IntOrString,
        ("rawextension" | "fieldsv1", _) | ("json", Some("apiextensions")) => Special::Raw,
        (
            "jsonschemapropsorarray" | "jsonschemapropsorbool" | "jsonschemapropsorstringarray",
            _,
        ) => Special::SchemaOr,
        _ => Special::No,
    }
}

fn field(word: &'static str, names: &[&'static str]) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = rest.split_at(end);
    let kind = rest.trim_start_matches(['?', '!', '~', '*']);
    let marks = &rest[..rest.len() - kind.len()];
    let message = |name: &str| {
        let found = names.binary_search(&name).ok()?;
        u16::try_from(found).ok().map(Ref)
    };
    let kind = match kind {
        "s" => Kind::String,
        "b" => Kind::Bool,
        "i" => Kind::Integer,
        "d" => Kind::Double,
        "y" => Kind::Bytes,
        "S" => Kind::StringMap,
        "Y" => Kind::BytesMap,
        other => match other.split_once(':')? {
            ("m", name) => Kind::Message(message(name)?),
            (_, name) => Kind::MessageMap(message(name)?),
        },
    };
    Some(Field {
        name,
        number: number.parse().ok()?,
        kind,
        repeated: marks.contains('*'),
        pointer: marks.contains('?'),
        always: marks.contains('!'),
        omit_zero: marks.contains('~'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_text_is_in_the_table() {
        let text = include_str!("../generated/protobuf.txt");
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(lines.len(), TABLE.len());
        for (line, message) in lines.iter().zip(TABLE.iter()) {
            assert_eq!(line.split(' ').count() - 1, message.fields.len(), "{line}");
            assert!(message.fields.is_sorted_by_key(|f| f.number), "{line}");
            assert!(Ref::named(&[message.name]).is_some());
        }
    }

    #[test]
    fn the_times_that_types_need_are_those_that_are_required() {
        let mut needed = 0;
        for line in include_str!("../generated/schema.txt").lines() {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            for word in words {
                let (field, shape) = word.split_once(':').unwrap_or_default();
                let shape = shape.split(';').next().unwrap_or_default();
                let is_time = matches!(shape.rsplit('.').next(), Some("Time" | "MicroTime"));
                let Some(field) = field.strip_suffix('*').filter(|_| is_time) else {
                    continue;
                };
                let message = Ref::of_type(name).unwrap().get();
                let text = format!("{field:?}:null,");
                assert_eq!(message.needed, Some(text.as_str()), "{name}");
                needed += 1;
            }
        }
        assert_eq!(needed, NEEDED.len());
    }

    #[test]
    fn every_kind_has_a_message_and_a_list_of_it() {
        for row in crate::ResourceTable::builtin().rows() {
            let api_version = row.api_version();
            assert!(Ref::of_kind(&api_version, row.kind).is_some(), "{row:?}");
            if row.verbs.contains(&"list") {
                let list = format!("{}List", row.kind);
                assert!(Ref::of_kind(&api_version, &list).is_some(), "{row:?}");
            }
        }
        assert_eq!(Ref::of_kind("core.example.com/v1", "Pod"), None);
    }

    #[test]
    fn messages_are_found_by_their_types() {
        for name in [
            "api.core.v1.PodSpec",
            "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
            "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        ] {
            assert!(Ref::of_type(name).is_some(), "{name}");
        }
        for name in ["api.core.v1.PodSpe", "api.core.v1.PodSpecs", "", "."] {
            assert_eq!(Ref::of_type(name), None, "{name}");
        }
    }
}
