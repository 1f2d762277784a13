//! Borrowing: how the seats of a server are shared out anew as demands change.
//!
//! See KEP-1040, "Dispatching".

/// What one priority level asks of the sharing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// What it must get.
    pub(super) least: f64,
    /// What it may get.
    pub(super) most: f64,
    /// What its share is in proportion to.
    pub(super) target: f64,
}

const SMALLEST_TARGET: f64 = 0.001;

/// Shares `total` out: each claim gets `target` times a factor that is the same for all, within its bounds. Gives the
/// shares and the factor; `None` if the bounds leave no way.
pub(super) fn share(total: f64, claims: &[Claim]) -> Option<(Vec<f64>, f64)> {
    let of = |factor: f64| -> Vec<f64> {
        claims
            .iter()
            .map(|c| (factor * c.target.max(SMALLEST_TARGET)).clamp(c.least, c.most.max(c.least)))
            .collect()
    };
    let least: f64 = claims.iter().map(|c| c.least).sum();
    let most: f64 = claims.iter().map(|c| c.most).sum();
    if claims.is_empty() || least > total + 1e-6 || most < total - 1e-6 {
        return None;
    }
    // The sum grows with the factor, from `least` to `most`, and is linear between the bounds: the places where some
    // claim meets a bound.
    let mut bounds: Vec<f64> = claims
        .iter()
        .flat_map(|c| {
            let target = c.target.max(SMALLEST_TARGET);
            [c.least / target, c.most.max(c.least) / target]
        })
        .collect();
    bounds.sort_by(f64::total_cmp);
    let sum = |factor: f64| of(factor).iter().sum::<f64>();
    let above = bounds.partition_point(|factor| sum(*factor) < total);
    let high = *bounds.get(above).or(bounds.last())?;
    let low = if above == 0 { high } else { bounds[above - 1] };
    let (at_low, at_high) = (sum(low), sum(high));
    let factor = if at_high - at_low > f64::EPSILON {
        low + (high - low) * (total - at_low) / (at_high - at_low)
    } else {
        high
    };
    Some((of(factor), factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(least: f64, most: f64, target: f64) -> Claim {
        Claim {
            least,
            most,
            target,
        }
    }

    fn shares(total: f64, claims: &[Claim]) -> Vec<f64> {
        let (shares, _) = share(total, claims).unwrap();
        let sum: f64 = shares.iter().sum();
        assert!((sum - total).abs() < 1e-6, "{shares:?}");
        shares
    }

    #[test]
    fn shares_are_in_proportion_where_no_bound_is_met() {
        let all = [claim(0.0, 100.0, 1.0), claim(0.0, 100.0, 3.0)];
        assert_eq!(shares(40.0, &all), [10.0, 30.0]);
    }

    #[test]
    fn what_one_cannot_use_others_get() {
        let all = [
            claim(5.0, 100.0, 5.0),
            claim(10.0, 12.0, 50.0),
            claim(0.0, 100.0, 10.0),
        ];
        let got = shares(60.0, &all);
        assert_eq!(got[1], 12.0);
        assert!((got[0] - 16.0).abs() < 1e-9 && (got[2] - 32.0).abs() < 1e-9);
    }

    #[test]
    fn an_idle_level_keeps_its_least() {
        let all = [
            claim(20.0, 60.0, 20.0),
            claim(7.0, 60.0, 7.0),
            claim(0.0, 60.0, 0.0),
        ];
        let got = shares(60.0, &all);
        assert!(got[0] >= 20.0 && got[1] >= 7.0 && got[2] < 1.0, "{got:?}");
    }

    #[test]
    fn the_edges_are_met_exactly_and_nothing_beyond_them() {
        let all = [claim(10.0, 20.0, 10.0), claim(5.0, 5.0, 5.0)];
        assert_eq!(shares(15.0, &all), [10.0, 5.0]);
        assert_eq!(shares(25.0, &all), [20.0, 5.0]);
        assert!(share(14.0, &all).is_none());
        assert!(share(26.0, &all).is_none());
        assert!(share(0.0, &[]).is_none());
    }
}
