//! Points and spans of time.

use std::ops::RangeInclusive;

use jiff::{
    Timestamp, Zoned,
    tz::{Offset, TimeZone},
};

use super::{CelError, Val};
use crate::decode;

type Found<'v> = Result<Val<'v>, CelError>;

/// `timestamp(…)` and `duration(…)`.
pub(super) fn convert<'v>(name: &str, value: &Val<'v>) -> Found<'v> {
    let failed = || {
        let of = match name {
            "timestamp" => "Timestamp",
            _ => "Duration",
        };
        CelError::Failed(format!(
            "type conversion error from 'string' to 'google.protobuf.{of}'"
        ))
    };
    match (name, value) {
        ("timestamp", Val::Timestamp(..)) | ("duration", Val::Duration(_)) => Ok(value.clone()),
        ("timestamp", Val::String(text)) => {
            let read = read(text).ok_or_else(failed)?;
            match read {
                Val::Timestamp(time, _) if !RANGE.contains(&time.as_second()) => Err(overflow()),
                read => Ok(read),
            }
        }
        ("timestamp", Val::Int(n)) => match Timestamp::from_second(*n) {
            Ok(time) if RANGE.contains(n) => Ok(Val::Timestamp(time, Offset::UTC)),
            _ => Err(overflow()),
        },
        ("duration", Val::String(text)) => crate::duration::parse(text)
            .map(Val::Duration)
            .ok_or_else(failed),
        _ => Err(CelError::NoOverload),
    }
}

/// The seconds of the years 1 to 9999.
const RANGE: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

fn overflow() -> CelError {
    CelError::Failed("timestamp overflow".to_owned())
}

/// A time as RFC 3339 has it, which remembers how far from UTC it was written.
pub(super) fn read<'v>(text: &str) -> Option<Val<'v>> {
    if !decode::is_time(text) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    let offset = match text.strip_suffix('Z') {
        Some(_) => Offset::UTC,
        None => {
            let (_, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
            let seconds = hours * 3600 + minutes * 60;
            Offset::from_seconds(if zone.starts_with('-') {
                -seconds
            } else {
                seconds
            })
            .ok()?
        }
    };
    Some(Val::Timestamp(time, offset))
}

/// A time as it is written at some distance from UTC, with as much of a fraction as it has.
pub(super) fn time_text(time: Timestamp, offset: Offset) -> String {
    match offset.seconds() {
        0 => time.to_string(),
        _ => time.display_with_offset(offset).to_string(),
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
        [Val::Timestamp(time, _)] => field(name, &time.to_zoned(TimeZone::UTC)),
        [Val::Timestamp(time, _), Val::String(zone)] => {
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
        if !(0..60).contains(&minutes) {
            return None;
        }
        let minutes = if negative { -minutes } else { minutes };
        let seconds = hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?;
        let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    match name {
        "" => Some(TimeZone::UTC),
        name => TimeZone::get(name).ok(),
    }
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
