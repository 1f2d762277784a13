//! [`Pieces`]: who is told an object's JSON piece by piece, and has no need of its text.

/// Who is told an object's JSON piece by piece, by [`Object::tell_json`](crate::Object::tell_json).
///
/// A value is a text, something plain, or what is told between a begin and its end.
pub trait Pieces {
    /// A text.
    fn text(&mut self, text: &str);

    /// A number, a boolean or `null`, as JSON.
    fn plain(&mut self, json: &[u8]);

    /// An object begins, or a list.
    fn begin(&mut self, is_list: bool);

    /// The object or list ends that began last.
    fn end(&mut self);

    /// A member of the object begins: its name is as in JSON, without quotes. Its value comes next, and then how it
    /// ends; neither does, if the answer is no.
    fn member(&mut self, name: &[u8]) -> bool;

    /// The member ends.
    fn member_ends(&mut self, fate: Fate);

    /// An element of the list begins: its value comes next.
    fn element(&mut self);

    /// The element ends.
    fn element_ends(&mut self);

    /// What the last value was, if there was nothing in it.
    fn nothing(&self) -> Option<Nothing>;
}

/// What becomes of a member whose value has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the JSON.
    Stays,
    /// It is not: nobody set it.
    Goes,
    /// It is, as `null`.
    Null,
}

/// A value with nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// `null`.
    Null,
    /// `""`.
    Text,
    /// `0`.
    Zero,
    /// `false`.
    False,
    /// `[]`.
    List,
    /// `{}`.
    Object,
}

impl Nothing {
    /// What a value is, if there is nothing in it. It has no white space.
    pub fn of(json: &[u8]) -> Option<Self> {
        Some(match json {
            b"null" => Nothing::Null,
            b"\"\"" => Nothing::Text,
            b"0" => Nothing::Zero,
            b"false" => Nothing::False,
            b"[]" => Nothing::List,
            b"{}" => Nothing::Object,
            _ => return None,
        })
    }
}
