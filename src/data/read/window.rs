//! Which bytes to ask for, from which bytes were read. Pure: no I/O, no clock.
//!
//! The kernel keeps only two 128 KiB requests in flight by itself, so the read-ahead that hides latency is ours. A handle
//! that reads on where it stopped gets a window that grows fourfold with what it has read, in segments of one GET each;
//! a jump starts anew and fetches little more than was asked for. Two FUSE threads swap neighbouring requests now and
//! then, so "where it stopped" has some slack.

use std::time::Duration;

use crate::store::ByteRange;

/// How far a read may lie from the expected place and still count as going on, in bytes.
const SLACK_BYTES: u64 = 4 << 20;
/// How much behind the furthest read is kept for neighbours that come late, in bytes.
const KEEP_BEHIND_BYTES: u64 = 2 << 20;
/// A read at a place nobody expected fetches at least this much, in bytes: one round trip costs more than 64 KiB.
const RANDOM_BYTES: u64 = 64 << 10;
/// An object of at most this size is always fetched whole, in bytes.
pub const WHOLE_BYTES: u64 = 512 << 10;
/// The smallest GET of a sequential reader, in bytes.
const SEGMENT_BYTES: u64 = 1 << 20;
/// The window is this many times what was read in a row.
const GROWTH: u64 = 4;
/// A window is cut into about this many segments, so that as many connections work at once. Of a full window they are
/// 8 MiB each, which hide 20 ms of latency well at 80 MiB/s.
const SEGMENTS: u64 = 16;
/// A store that answers a GET within this time gets all of them at once; a slower one, fewer and larger ones.
const PROMPT: Duration = Duration::from_millis(500);
/// So many are under way even if answers take very long: one arrives while the next is waited for.
const FEWEST_SEGMENTS: u64 = 2;

/// What one reading handle has done, and what follows from it.
#[derive(Debug)]
pub struct Window {
    size: u64,
    limit: u64,
    /// Where the furthest read of this run ended.
    position: u64,
    /// Bytes read in a row.
    run: u64,
    /// Up to where segments were asked for in this run.
    scheduled: u64,
    /// How long the store takes to begin its answer, smoothed.
    answer: Duration,
}

/// What to fetch and what may go.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the read itself needs and nobody has asked for yet: begin it, and wait for memory if need be.
    pub needed: Option<ByteRange>,
    /// What will be needed next, nearest first: begin it if there is memory.
    pub ahead: Vec<ByteRange>,
    /// What lies before this offset is not expected to be read again.
    pub drop_before: u64,
    /// The read is no continuation: what was fetched for the old place may go.
    pub jumped: bool,
}

impl Window {
    /// A window over an object of `size` bytes that may hold up to `limit` bytes of read-ahead.
    #[must_use]
    pub fn new(size: u64, limit: u64) -> Self {
        Self { size, limit: limit.max(SEGMENT_BYTES), position: 0, run: 0, scheduled: 0, answer: Duration::ZERO }
    }

    /// The store has taken `time` to begin its answer to one GET.
    ///
    /// A store that is slow to begin is one that works through its requests in turn, or one that has too many: sixteen
    /// at once would each wait for the others, beyond any deadline.
    pub fn note_answer(&mut self, time: Duration) {
        // Slowness is believed at once, haste by and by: what comes from a cache says nothing about the next.
        self.answer = time.max((self.answer * 3 + time) / 4);
    }

    /// Notes that `range` was begun outside (the GET that the open sends).
    pub fn note_begun(&mut self, range: ByteRange) {
        if range.start() <= self.scheduled {
            self.scheduled = self.scheduled.max(range.end());
        }
    }

    /// A read-ahead was not begun, for want of memory: it will be asked for again.
    pub fn unschedule(&mut self, range: ByteRange) {
        self.scheduled = self.scheduled.min(range.start());
    }

    /// What was asked for ahead is gone, but for what lies before `held`.
    pub fn forget_ahead(&mut self, held: u64) {
        self.scheduled = self.scheduled.min(self.position.max(held));
    }

    /// A read of `range` arrived; `covered` tells whether its bytes are there or on their way.
    pub fn on_read(&mut self, range: ByteRange, covered: bool) -> Plan {
        let goes_on =
            range.start() <= self.position.max(self.scheduled) + SLACK_BYTES && range.end() + SLACK_BYTES >= self.position;
        let jumped = !goes_on;
        if jumped {
            self.run = 0;
            self.position = range.start();
            self.scheduled = range.start();
        }
        self.run += range.end().saturating_sub(self.position.max(range.start()));
        self.position = self.position.max(range.end());
        let needed = (!covered).then(|| self.demand(range)).flatten();
        if let Some(needed) = needed
            && needed.start() <= self.scheduled
        {
            self.scheduled = self.scheduled.max(needed.end());
        }
        Plan { needed, ahead: self.ahead(), drop_before: self.position.saturating_sub(KEEP_BEHIND_BYTES), jumped }
    }

    /// The range of the GET that answers a read which nobody foresaw.
    fn demand(&self, range: ByteRange) -> Option<ByteRange> {
        if self.size <= WHOLE_BYTES {
            // All of it or nothing: only a whole object can be checked against its checksum.
            return ByteRange::new(0, self.size);
        }
        let len = range.len().max(if self.run > range.len() { self.segment() } else { RANDOM_BYTES });
        ByteRange::new(range.start(), (range.start() + len).min(self.size))
    }

    fn segment(&self) -> u64 {
        (self.target() / self.parallel()).max(SEGMENT_BYTES)
    }

    /// How many GETs may be under way at once.
    fn parallel(&self) -> u64 {
        let fitting = PROMPT.as_nanos() * u128::from(SEGMENTS) / self.answer.as_nanos().max(1);
        u64::try_from(fitting).unwrap_or(SEGMENTS).clamp(FEWEST_SEGMENTS, SEGMENTS)
    }

    fn target(&self) -> u64 {
        (self.run * GROWTH).min(self.limit)
    }

    /// The segments between what was asked for and what the run has earned.
    fn ahead(&mut self) -> Vec<ByteRange> {
        // A single read says nothing yet: it may be one of many random ones.
        if self.run < 2 * RANDOM_BYTES && self.position > 2 * RANDOM_BYTES {
            return Vec::new();
        }
        let goal = (self.position + self.target()).min(self.size);
        self.scheduled = self.scheduled.max(self.position);
        let mut ranges = Vec::new();
        while self.scheduled < goal {
            let end = (self.scheduled + self.segment()).min(self.size);
            // A short segment is begun only at the end of the object: else the window moves on by whole ones.
            if end > goal && end < self.size && goal - self.scheduled < self.segment() / 2 {
                break;
            }
            ranges.extend(ByteRange::new(self.scheduled, end));
            self.scheduled = end;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, start + len).unwrap()
    }

    /// Reads the whole object in requests of `step`, as the kernel does, and checks that every byte is asked for once.
    #[test]
    fn a_sequential_reader_gets_every_byte_once_in_a_growing_window() {
        for step in [128 << 10, MIB] {
            let size = 300 * MIB + 17;
            let mut window = Window::new(size, 128 * MIB);
            let mut asked: Vec<ByteRange> = Vec::new();
            let mut widest = 0;
            let mut offset = 0;
            while offset < size {
                let read = range(offset, step.min(size - offset));
                let end = asked.last().map_or(0, |last| last.end());
                let plan = window.on_read(read, read.end() <= end);
                assert!(!plan.jumped);
                for next in plan.needed.into_iter().chain(plan.ahead) {
                    assert_eq!(next.start(), asked.last().map_or(0, |last| last.end()), "no gap and no overlap");
                    asked.push(next);
                }
                let end = asked.last().map_or(0, |last| last.end());
                assert!(end >= read.end());
                widest = widest.max(end - offset);
                offset = read.end();
            }
            assert_eq!(asked.last().unwrap().end(), size);
            assert!(widest > 96 * MIB && widest <= 140 * MIB, "window reached {widest}");
            assert!(asked.len() < 100, "{} requests", asked.len());
        }
    }

    /// Reads the whole object, every answer taking `service` for each GET that is under way, as a store does that serves
    /// one at a time; tells the longest answer and the number of GETs.
    fn read_from_a_serial_store(service: Duration, limit: u64) -> (Duration, usize) {
        let size = 3 << 30;
        let mut window = Window::new(size, limit);
        let mut under_way: Vec<ByteRange> = Vec::new();
        let (mut longest, mut gets) = (Duration::ZERO, 0);
        let mut scheduled = 0;
        let mut offset = 0;
        while offset < size {
            let read = range(offset, MIB.min(size - offset));
            let plan = window.on_read(read, read.end() <= scheduled);
            for next in plan.needed.into_iter().chain(plan.ahead) {
                under_way.push(next);
                scheduled = scheduled.max(next.end());
                gets += 1;
                let answer = service * u32::try_from(under_way.len()).unwrap();
                longest = longest.max(answer);
                window.note_answer(answer);
            }
            under_way.retain(|segment| segment.end() > read.end());
            offset = read.end();
        }
        (longest, gets)
    }

    #[test]
    fn a_store_that_serves_one_at_a_time_is_not_asked_for_sixteen() {
        let (longest, gets) = read_from_a_serial_store(Duration::from_millis(2700), 64 * MIB);
        assert!(longest < Duration::from_secs(15), "an answer took {longest:?}");
        assert!(gets < 130, "{gets} requests");
        let (_, gets) = read_from_a_serial_store(Duration::from_millis(1), 64 * MIB);
        assert!(gets > 700, "a quick store is asked in parallel: {gets} requests");
    }

    #[test]
    fn one_quick_answer_does_not_make_a_slow_store_quick() {
        let mut window = Window::new(1 << 30, 128 * MIB);
        assert_eq!(window.parallel(), SEGMENTS);
        window.note_answer(Duration::from_secs(4));
        assert_eq!(window.parallel(), FEWEST_SEGMENTS);
        window.note_answer(Duration::from_millis(1));
        assert_eq!(window.parallel(), FEWEST_SEGMENTS);
        for _ in 0..10 {
            window.note_answer(Duration::from_millis(1));
        }
        assert_eq!(window.parallel(), SEGMENTS);
    }

    #[test]
    fn a_random_reader_fetches_little() {
        let mut window = Window::new(1 << 30, 128 * MIB);
        for place in [700 * MIB, 3 * MIB + 4096, 900 * MIB, 50 * MIB] {
            let plan = window.on_read(range(place, 4096), false);
            assert_eq!(plan.needed, Some(range(place, RANDOM_BYTES)));
            assert_eq!(plan.ahead, vec![]);
        }
    }

    #[test]
    fn a_small_object_is_fetched_whole_wherever_it_is_read() {
        let mut window = Window::new(WHOLE_BYTES, 128 * MIB);
        let plan = window.on_read(range(300 << 10, 4096), false);
        assert_eq!((plan.needed, plan.ahead), (Some(range(0, WHOLE_BYTES)), vec![]));
    }

    #[test]
    fn swapped_neighbours_do_not_end_the_run() {
        let mut window = Window::new(100 * MIB, 64 * MIB);
        let _ = window.on_read(range(0, MIB), false);
        assert!(!window.on_read(range(2 * MIB, MIB), true).jumped);
        assert!(!window.on_read(range(MIB, MIB), true).jumped);
        assert!(window.on_read(range(80 * MIB, MIB), false).jumped);
    }

    #[test]
    fn a_range_that_was_not_begun_is_asked_for_again() {
        let mut window = Window::new(100 * MIB, 64 * MIB);
        let plan = window.on_read(range(0, 4 * MIB), false);
        let first = plan.ahead[0];
        window.unschedule(first);
        assert_eq!(window.on_read(range(MIB, MIB), true).ahead[0].start(), first.start());
    }
}
