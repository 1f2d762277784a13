//! Points and spans of time.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{CelError, Val};

type Found<'v> = Result<Val<'v>, CelError>;

/// `timestamp(…)` and `duration(…)`.
pub(super) fn convert<'v>(name: &str, value: &Val<'v>) -> Found<'v> {
    let failed = |text: &str| CelError::Failed(format!("cannot read {text:?} as a {name}"));
    match (name, value) {
        ("timestamp", Val::Timestamp(_)) | ("duration", Val::Duration(_)) => Ok(value.clone()),
        ("timestamp", Val::String(text)) => text
            .parse::<Timestamp>()
            .map(Val::Timestamp)
            .map_err(|_| failed(text)),
        ("timestamp", Val::Int(n)) => Timestamp::from_second(*n)
            .map(Val::Timestamp)
            .map_err(|_| failed(&n.to_string())),
        ("duration", Val::String(text)) => crate::duration::parse(text)
            .map(Val::Duration)
            .ok_or_else(|| failed(text)),
        _ => Err(CelError::NoOverload),
    }
}

/// A duration in seconds, as CEL writes it.
pub(super) fn duration_text(nanos: i64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    if rest == 0 {
        return format!("{seconds}s");
    }
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// `time.getFullYear()` and so on.
pub(super) fn method<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    match args {
        [Val::Duration(nanos)] => {
            let divisor = match name {
                "getHours" => 3_600_000_000_000,
                "getMinutes" => 60_000_000_000,
                "getSeconds" => 1_000_000_000,
                "getMilliseconds" => 1_000_000,
                _ => return Err(CelError::NoOverload),
            };
            Ok(Val::Int(nanos / divisor))
        }
        [Val::Timestamp(time)] => field(name, &time.to_zoned(TimeZone::UTC)),
        [Val::Timestamp(time), Val::String(zone)] => {
            let zone = time_zone(zone)
                .ok_or_else(|| CelError::Failed(format!("unknown time zone {zone}")))?;
            field(name, &time.to_zoned(zone))
        }
        _ => Err(CelError::NoOverload),
    }
}

fn time_zone(name: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
        let minutes = if negative { -minutes } else { minutes };
        let seconds = hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?;
        let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    TimeZone::get(name).ok()
}

fn field<'v>(name: &str, time: &Zoned) -> Found<'v> {
    Ok(Val::Int(match name {
        "getFullYear" => time.year().into(),
        "getMonth" => i64::from(time.month()) - 1,
        "getDate" => time.day().into(),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => time.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getHours" => time.hour().into(),
        "getMinutes" => time.minute().into(),
        "getSeconds" => time.second().into(),
        "getMilliseconds" => time.millisecond().into(),
        _ => return Err(CelError::NoOverload),
    }))
}
