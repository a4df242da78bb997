//! The keys of a backup's objects: they begin with a common stem, which contains the node, the time and the
//! kind.

use time::OffsetDateTime;

use super::time::parse_time_ms;

/// The end of a manifest's key.
pub(super) const MANIFEST_SUFFIX: &str = ".manifest.json";

/// A new stem, such as `node/2026/11/22/2026-11-22T07:40:00.123Z-full-1f3a`. Its end is random, so that no
/// attempt overwrites the objects of another one, whatever the clock says.
pub(super) fn new_stem(node_id: &str, at_ms: u64, incremental: bool) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (moment.year(), u8::from(moment.month()), moment.day());
    let (hour, minute, second) = moment.time().as_hms();
    let millisecond = moment.millisecond();
    let kind = if incremental { "incremental" } else { "full" };
    let attempt: u16 = rand::random();
    // Fixed width, so that keys sort by time.
    format!(
        "{node_id}/{year:04}/{month:02}/{day:02}/\
         {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z-{kind}-{attempt:04x}"
    )
}

/// The stem of an object's key, and its time in milliseconds; `None` for the key of another program's
/// object.
pub(super) fn stem_of(key: &str) -> Option<(&str, u64)> {
    let name = key.rfind('/').map_or(0, |slash| slash + 1);
    let time_end = key[name..].find('Z')? + name + 1;
    let kind_end = key[time_end..].find('.')? + time_end;
    Some((&key[..kind_end], parse_time_ms(&key[name..time_end])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_backup_share_a_stem_that_has_its_time() {
        let stem = "n/2026/11/22/2026-11-22T07:40:00.123Z-full";
        let expected = Some((stem, 1_795_333_200_123));
        assert_eq!(stem_of(&format!("{stem}.00001.age")), expected);
        assert_eq!(stem_of(&format!("{stem}{MANIFEST_SUFFIX}")), expected);
        for other in ["n/README", "n/Z", "n/Z.", "", "é", "n/2026-13-45T99:99:99Z-full.1"] {
            assert_eq!(stem_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_new_stem_has_its_time_and_is_unique() {
        let stem = new_stem("n", 1_795_333_200_123, false);
        assert!(stem.starts_with("n/2026/11/22/2026-11-22T07:40:00.123Z-full-"), "{stem}");
        assert_eq!(stem_of(&format!("{stem}.00001.age")), Some((stem.as_str(), 1_795_333_200_123)));
    }
}
