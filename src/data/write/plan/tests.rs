//! What plans cost, and that every one is legal.

use proptest::prelude::*;

use super::*;

const OBJECT: SourceId = SourceId(0);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn limits(memory_bytes: u64) -> Limits {
    Limits { memory_bytes, parts: MAX_PARTS, copies: true }
}

/// The object `base` bytes long, with changes.
fn edited(base: u64, changes: &[(u64, u64, Place)]) -> Extents {
    let mut extents = Extents::of_object(OBJECT, base);
    for (at, len, place) in changes {
        extents.set(ByteRange::new(*at, at + len).unwrap(), *place);
    }
    extents
}

fn planned(extents: &Extents, base: u64) -> Plan {
    plan(extents, |_| base, limits(512 * MIB)).unwrap()
}

/// Bytes sent, bytes fetched, copied parts.
fn costs(extents: &Extents, parts: &[PlannedPart]) -> (u64, u64, usize) {
    let sent = parts.iter().filter(|part| part.how == How::Send);
    let stored = |range: ByteRange| {
        let stored = extents.within(range.start(), range.end()).filter(|extent| matches!(extent.place, Place::Stored { .. }));
        stored.map(|extent| extent.range.len()).sum::<u64>()
    };
    let fetched = sent.clone().map(|part| stored(part.range)).sum();
    let copied = parts.iter().filter(|part| part.how != How::Send).count();
    (sent.map(|part| part.range.len()).sum(), fetched, copied)
}

#[test]
fn what_an_edit_costs() {
    let append = edited(256 * MIB, &[(256 * MIB, 4096, Place::Staged)]);
    let Plan::Parts(parts) = planned(&append, 256 * MIB) else { panic!("a copied range and the new bytes") };
    assert_eq!(costs(&append, &parts), (4096, 0, 1));

    let middle = edited(GIB, &[(GIB / 2, 4096, Place::Staged)]);
    let Plan::Parts(parts) = planned(&middle, GIB) else { panic!("copied ranges and one part") };
    assert_eq!(costs(&middle, &parts), (MIN_PART_BYTES, MIN_PART_BYTES - 4096, 2));

    let header = edited(200 * MIB, &[(0, 64, Place::Staged)]);
    let Plan::Parts(parts) = planned(&header, 200 * MIB) else { panic!("the rest is copied") };
    assert_eq!(costs(&header, &parts), (MIN_PART_BYTES, MIN_PART_BYTES - 64, 1));

    let near_end = edited(20 * MIB, &[(19 * MIB, 4096, Place::Staged)]);
    let Plan::Parts(parts) = planned(&near_end, 20 * MIB) else { panic!("most is copied") };
    assert!(costs(&near_end, &parts).0 <= 6 * MIB);

    let small = edited(MIB, &[(100, 100, Place::Staged)]);
    assert_eq!(planned(&small, MIB), Plan::Put);
    let whole = edited(0, &[(0, 8 * MIB, Place::Staged)]);
    assert_eq!(planned(&whole, 0), Plan::Put);
    assert_eq!(planned(&Extents::default(), 0), Plan::Put);
    assert_eq!(planned(&Extents::of_object(OBJECT, GIB), GIB), Plan::Copy(OBJECT));
    let mut cut = Extents::of_object(OBJECT, GIB);
    cut.truncate(GIB - 1);
    let Plan::Parts(parts) = planned(&cut, GIB) else { panic!("a shorter copy") };
    assert_eq!(costs(&cut, &parts), (0, 0, 1));
}

#[test]
fn more_than_one_copy_takes_is_copied_in_parts() {
    let extents = Extents::of_object(OBJECT, 12 * GIB);
    let Plan::Parts(parts) = planned(&extents, 12 * GIB) else { panic!("too large for CopyObject") };
    assert_eq!(costs(&extents, &parts), (0, 0, 12));
}

#[test]
fn zeros_take_no_memory_and_reach_any_length() {
    let mut extents = Extents::default();
    extents.truncate(40 * TIB);
    let Plan::Parts(parts) = plan(&extents, |_| 0, limits(64 * MIB)).unwrap() else { panic!("in parts") };
    assert!(parts.len() <= usize::from(MAX_PARTS));
}

#[test]
fn a_store_that_copies_no_ranges_is_read() {
    let extents = edited(64 * MIB, &[(32 * MIB, 4096, Place::Staged)]);
    let limits = Limits { copies: false, ..limits(512 * MIB) };
    let Plan::Parts(parts) = plan(&extents, |_| 64 * MIB, limits).unwrap() else { panic!("in parts") };
    assert_eq!(costs(&extents, &parts), (64 * MIB, 64 * MIB - 4096, 0));
}

/// Writing on and on, in the least memory there can be: when the parts are nearly used up the file is committed, and goes on
/// with what it has as copied parts.
#[test]
fn any_memory_reaches_the_largest_object() {
    let memory_bytes = 64 * MIB;
    let mut size = 0;
    let mut commits = 0;
    while size < 48 * TIB + 800 * GIB {
        let base = Extents::of_object(OBJECT, size);
        let copied = if size == 0 {
            Vec::new()
        } else {
            divide(&base, 0, size, Rest::Follows, Limits { memory_bytes, parts: MAX_PARTS, copies: true }).unwrap()
        };
        let before = size;
        let first = u16::try_from(copied.len()).unwrap() + 1;
        size += (first..=MAX_PARTS).map(|number| part_bytes(number, memory_bytes)).sum::<u64>();
        commits += 1;
        assert!(size > before, "stuck at {before} bytes");
    }
    assert!(commits < 20_000, "{commits} commits");
}

#[test]
fn parts_grow_so_that_ten_thousand_reach_far() {
    let total = |limit: u64| (1..=MAX_PARTS).map(|number| part_bytes(number, limit)).sum::<u64>();
    assert_eq!(part_bytes(1, 512 << 20), 8 << 20);
    assert_eq!(part_bytes(10_000, 128 << 20), 16 << 20);
    assert!(total(128 << 20) > 140 << 30);
    assert!(total(512 << 20) > 480 << 30);
    assert!((1..=MAX_PARTS).all(|n| part_bytes(n, 64 << 20) >= MIN_PART_BYTES && part_bytes(n, 1 << 40).is_multiple_of(1 << 20)));
}

fn change() -> impl Strategy<Value = (u64, u64, Place)> {
    let place = prop_oneof![
        4 => Just(Place::Staged),
        1 => Just(Place::Zero),
        1 => Just(Place::Stored { source: SourceId(1), at: 7 }),
    ];
    let len = prop_oneof![1..5000u64, MIB..40 * MIB, MIN_PART_BYTES - 2..MIN_PART_BYTES + 2];
    (0..400 * MIB, len, place)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// The parts are the file, byte by byte in order, obey S3's limits, and take no more memory than they may.
    #[test]
    fn every_plan_is_legal(
        base in prop_oneof![Just(0u64), 0..400 * MIB, 5 * GIB..30 * GIB, 40 * TIB..48 * TIB],
        changes in proptest::collection::vec(change(), 0..40),
        len in proptest::option::of(0..500 * MIB),
        memory_mib in 64..2048u64,
        copies: bool,
    ) {
        let mut extents = edited(base, &changes);
        if let Some(len) = len {
            extents.truncate(len);
        }
        let copies = copies || base > 500 * MIB;
        let limits = Limits { copies, ..limits(memory_mib * MIB) };
        let sizes = |source: SourceId| if source == OBJECT { base } else { GIB };
        match plan(&extents, sizes, limits).unwrap() {
            Plan::Put => prop_assert!(extents.len() <= MAX_PUT_BYTES),
            Plan::Copy(source) => prop_assert!(extents.len() == sizes(source) && extents.len() <= MAX_PART_BYTES),
            Plan::Parts(parts) => {
                prop_assert!(!parts.is_empty() && parts.len() <= usize::from(MAX_PARTS));
                let mut at = 0;
                for (index, part) in parts.iter().enumerate() {
                    prop_assert_eq!(part.range.start(), at);
                    at = part.range.end();
                    let last = index + 1 == parts.len();
                    prop_assert!(part.range.len() <= MAX_PART_BYTES);
                    prop_assert!(last || part.range.len() >= MIN_PART_BYTES, "part {} of {} is short", index, parts.len());
                    let within: Vec<_> = extents.within(part.range.start(), part.range.end()).collect();
                    match part.how {
                        How::Copy(source, at) => {
                            prop_assert!(copies);
                            prop_assert_eq!(within.len(), 1);
                            prop_assert_eq!(within[0].place, Place::Stored { source, at });
                        }
                        How::Send => {
                            let memory: u64 =
                                within.iter().filter(|extent| extent.place != Place::Zero).map(|extent| extent.range.len()).sum();
                            prop_assert!(memory <= largest_part(limits.memory_bytes) + MIN_PART_BYTES);
                        }
                    }
                }
                prop_assert_eq!(at, extents.len());
            }
        }
    }

    /// What leaves before the end leaves in parts none of which is short, wherever it is cut.
    #[test]
    fn what_more_follows_on_has_no_short_part(
        base in 0..100 * MIB,
        changes in proptest::collection::vec(change(), 0..10),
        from in 0..60 * MIB,
        len in MIN_PART_BYTES..60 * MIB,
    ) {
        let extents = edited(base, &changes);
        let (from, to) = (from.min(extents.len()), (from + len).min(extents.len()));
        if to - from >= MIN_PART_BYTES {
            let parts = divide(&extents, from, to, Rest::Follows, limits(64 * MIB)).unwrap();
            prop_assert!(parts.iter().all(|part| part.range.len() >= MIN_PART_BYTES), "{parts:?}");
            prop_assert_eq!(parts.iter().map(|part| part.range.len()).sum::<u64>(), to - from);
        }
    }
}
