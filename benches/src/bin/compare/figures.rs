//! [`Figures`]: what was measured of one server.

/// Whether more of it is better, or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) better: Better,
}

/// What was measured of one server, in the order in which it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    pub(crate) fn more(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        self.add(what.into(), unit, value, Better::More);
    }

    pub(crate) fn less(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        self.add(what.into(), unit, value, Better::Less);
    }

    fn add(&mut self, what: String, unit: &'static str, value: f64, better: Better) {
        self.0.push(Figure {
            what,
            unit,
            value,
            better,
        });
    }

    /// How fast something was done, and what CPU time the server spent on each.
    pub(crate) fn rate(&mut self, what: &str, rate: Rate) {
        self.more(what, "/s", rate.per_second);
        self.less(format!("  {what}: server CPU"), "us", rate.cpu * 1e6);
    }

    pub(crate) fn of(&self, what: &str) -> Option<f64> {
        self.0.iter().find(|f| f.what == what).map(|f| f.value)
    }
}

/// How fast something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// How much a second.
    pub(crate) per_second: f64,
    /// Seconds of CPU that the servers spent on each: unlike the rate it does not depend on how busy the
    /// machine is otherwise.
    pub(crate) cpu: f64,
}
