//! [`Size`]: between what bounds the size of a value lies.

/// How large a value is: at least, and at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) min: u64,
    pub(super) max: u64,
}

pub(super) const UNKNOWN: Size = Size {
    min: 0,
    max: u64::MAX,
};

impl Size {
    pub(super) fn exactly(n: u64) -> Self {
        Size { min: n, max: n }
    }

    pub(super) fn plus(self, other: Size) -> Self {
        Size {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(super) fn times(self, other: Size) -> Self {
        Size {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub(super) fn or(self, other: Size) -> Self {
        Size {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// A number times a factor, rounded up.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream counts so; casts of floats saturate"
)]
pub(in crate::cel) fn scaled(n: u64, factor: f64) -> u64 {
    (n as f64 * factor).ceil() as u64
}

/// How large a text is after some of it was replaced.
#[expect(clippy::cast_precision_loss, reason = "upstream counts so")]
pub(super) fn replaced(size: Size, from: Size, to: Size) -> Size {
    let parts = |n: u64, of: u64| (n as f64 / of as f64).ceil() as u64;
    let (count, kept) = match from.min {
        0 => (size.max.saturating_add(1), size.max),
        least if to.max <= least => (0, size.max),
        least => (parts(size.max, least), 0),
    };
    let max = count.saturating_mul(to.max).saturating_add(kept);
    let (count, kept) = match from.max {
        0 => (size.min.saturating_add(1), size.min),
        most if most <= to.min => (0, size.min),
        most => (parts(size.min, most), 0),
    };
    let min = count.saturating_mul(to.min).saturating_add(kept);
    Size { min, max }
}
