//! [`Column`]: what a table's column is called and holds.

/// A column of a table of resources: a `TableColumnDefinition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading, as in `Ready`.
    pub name: &'static str,
    /// The type of its cells: `string`, `integer`, `boolean` or `date`.
    pub type_: &'static str,
    /// What its cells are beyond their type: `name`, or nothing.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0 is always shown; 1 only in wide output.
    pub priority: i32,
}

/// A column of that type.
pub(super) const fn column(
    name: &'static str,
    type_: &'static str,
    description: &'static str,
) -> Column {
    Column {
        name,
        type_,
        format: "",
        description,
        priority: 0,
    }
}

/// A column of texts.
pub(super) const fn text(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description)
}

/// A column of numbers.
pub(super) const fn number(name: &'static str, description: &'static str) -> Column {
    column(name, "integer", description)
}

/// A column of truth values.
pub(super) const fn boolean(name: &'static str, description: &'static str) -> Column {
    column(name, "boolean", description)
}

/// A column of texts that wide output alone shows.
pub(super) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        priority: 1,
        ..column(name, "string", description)
    }
}

/// The objects' names.
pub(super) const NAME: Column = Column {
    name: "Name",
    type_: "string",
    format: "name",
    description: "The name of the object, unique among its kind in its namespace.",
    priority: 0,
};

/// The objects' ages.
pub(super) const AGE: Column = text("Age", "The time since the object was created.");

/// The names of a pod template's containers.
pub(super) const CONTAINERS: Column =
    wide("Containers", "Names of each container in the template.");

/// The images of a pod template's containers.
pub(super) const IMAGES: Column = wide(
    "Images",
    "Images referenced by each container in the template.",
);

/// What selects an object's pods.
pub(super) const SELECTOR: Column = wide("Selector", "The label selector for the pods.");
