//! The real producer, consumer and park code under the loom model checker: every
//! interleaving and every value that weak memory allows, within a bound of preemptions.
//!
//! Data words are `UnsafeCell`s of loom, so a read of the consumer that is not ordered
//! after the write it sees is reported as a race. The last tests take a fence away and
//! expect loom to find the fault: a model that cannot fail proves nothing.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};

use super::consumer::Consumer;
use super::park::{News, Parker, Waker};
use super::producer::Producer;
use super::{Buf, Lane, Own, Theirs, Way, Word, slot};

const CAPACITY: usize = 256;
/// A ring whose records may have a rest after the prefix; nothing but its slot is used.
const WIDE: usize = 4 * CAPACITY;

/// The memory of one side.
struct Memory {
    words: [AtomicU64; 8],
    slot: Vec<UnsafeCell<u64>>,
    data: Vec<UnsafeCell<u64>>,
    /// Tests of the tests leave these out.
    release: bool,
    fences: bool,
}

impl Memory {
    fn new(release: bool, fences: bool) -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            slot: (0..slot::WORDS + slot::REST / 8).map(|_| UnsafeCell::new(0)).collect(),
            data: (0..CAPACITY / 8).map(|_| UnsafeCell::new(0)).collect(),
            release,
            fences,
        }
    }
}

impl Own for Memory {
    fn store(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Relaxed);
    }
    fn publish(&self, word: Word, value: u64) {
        let order = if self.release { Ordering::Release } else { Ordering::Relaxed };
        self.words[word as usize].store(value, order);
    }
    fn write16(&self, _lane: Lane, at: usize, words: [u64; 2]) {
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: loom checks that nobody else accesses the cell now.
            self.data[at / 8 + i].with_mut(|p| unsafe { *p = word });
        }
    }
    fn write(&self, _lane: Lane, at: usize, bytes: &[u8], _large: Way) {
        for (i, word) in bytes.chunks(8).enumerate() {
            let mut full = [0; 8];
            full[..word.len()].copy_from_slice(word);
            // SAFETY: loom checks that nobody else accesses the cell now.
            self.data[at / 8 + i].with_mut(|p| unsafe { *p = u64::from_le_bytes(full) });
        }
    }
    fn write_slot(&self, index: usize, word: u64) {
        // SAFETY: loom checks that nobody else accesses the cell now.
        self.slot[index].with_mut(|p| unsafe { *p = word });
    }
    fn write_slot_rest(&self, bytes: &[u8]) {
        for (i, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            self.write_slot(slot::WORDS + i, u64::from_le_bytes(*word));
        }
    }
    fn fence(&self) {
        if self.fences {
            fence(Ordering::SeqCst);
        }
    }
}

impl Theirs for Memory {
    fn load(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }
    fn acquire(&self) {
        fence(Ordering::Acquire);
    }
    fn read_slot(&self, index: usize) -> u64 {
        // SAFETY: loom checks that nobody writes the cell now.
        self.slot[index].with(|p| unsafe { *p })
    }
    fn copy_slot_rest(&self, len: usize, into: &mut Buf) {
        for i in 0..len / 8 {
            into.extend_from_slice(&self.read_slot(slot::WORDS + i).to_le_bytes());
        }
    }
    fn head16(&self, _lane: Lane, at: usize) -> [u64; 2] {
        // SAFETY: loom checks that nobody writes the cells now.
        [0, 1].map(|i| self.data[at / 8 + i].with(|p| unsafe { *p }))
    }
    fn copy_out(&self, lane: Lane, at: usize, len: usize, into: &mut Buf) {
        for i in (0..len).step_by(16) {
            for word in self.head16(lane, at + i) {
                into.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Stands for an eventfd: a counter to wait on.
struct Event(Mutex<bool>, Condvar);

impl Event {
    fn new() -> Self {
        Self(Mutex::new(false), Condvar::new())
    }
    fn wake(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
    fn wait(&self) {
        let mut set = self.0.lock().unwrap();
        while !*set {
            set = self.1.wait(set).unwrap();
        }
        *set = false;
    }
}

fn body(n: u8) -> [u64; 2] {
    [u64::from_le_bytes([n; 8]); 2]
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// One record, if there is one, and the head told in a word of its own.
fn pop(consumer: &mut Consumer, own: &Memory, theirs: &Memory) -> Option<u8> {
    let came = consumed(consumer, theirs)?;
    consumer.release(own);
    Some(came)
}

fn consumed(consumer: &mut Consumer, theirs: &Memory) -> Option<u8> {
    let tail = consumer.look(theirs).unwrap();
    if let Some(short) = consumer.short(theirs, tail).unwrap() {
        let [a, b] = short.prefix;
        let mut rest = Buf::new();
        consumer.take(theirs, &short, &mut rest);
        let whole = a == b && a == body(a as u8)[0] && rest.iter().all(|&r| r == a as u8);
        assert!(whole, "torn message {a:x} {b:x} {:?}", &rest[..]);
        return Some(a as u8);
    }
    let record = consumer.next(theirs, tail).unwrap()?;
    let mut buf = Buf::new();
    consumer.body(theirs, &record, 0, &mut buf);
    assert_eq!(buf.len(), 16);
    assert!(buf.iter().all(|&b| b == buf[0]), "torn record {:?}", &buf[..]);
    consumer.consume(&record);
    Some(buf[0])
}

/// The producer publishes `count` records and wakes; the consumer parks between them.
fn data_flow(count: u8, release: bool, fences: bool) {
    let a = Arc::new(Memory::new(release, fences));
    let b = Arc::new(Memory::new(release, fences));
    let event = Arc::new(Event::new());
    let writer = {
        let (a, b, event) = (Arc::clone(&a), Arc::clone(&b), Arc::clone(&event));
        loom::thread::spawn(move || {
            let mut producer = Producer::new(Lane::Control, CAPACITY);
            let mut waker = Waker::default();
            for n in 1..=count {
                producer.push(&*a, &*b, 2, 0, body(n), &[]).unwrap().unwrap();
                if waker.must_wake(&*a, &*b, News::Data) {
                    event.wake();
                }
            }
        })
    };
    let mut consumer = Consumer::new(Lane::Control, CAPACITY);
    let mut parker = Parker::default();
    let mut expected = 1;
    while expected <= count {
        parker.unpark(&*b);
        if let Some(n) = pop(&mut consumer, &b, &a) {
            assert_eq!(n, expected);
            expected += 1;
            continue;
        }
        parker.park(&*b, false);
        if !consumer.stirs(&*a) {
            // Loom reports a deadlock if the wake is lost.
            event.wait();
        }
    }
    writer.join().unwrap();
}

/// Short messages there and back, each through the slot: both sides write theirs again
/// and again, with nothing but the head that comes with the other's message to say that
/// the last one has been taken. With `early` the answerer
/// tells of what it has not copied yet.
fn slot_flow(count: u8, early: bool) {
    let a = Arc::new(Memory::new(true, true));
    let b = Arc::new(Memory::new(true, true));
    let answerer = {
        let (a, b) = (Arc::clone(&a), Arc::clone(&b));
        loom::thread::spawn(move || {
            let mut producer = Producer::new(Lane::Control, WIDE);
            let mut consumer = Consumer::new(Lane::Control, WIDE);
            for n in 1..=count {
                if early {
                    while !consumer.stirs(&*a) {
                        loom::thread::yield_now();
                    }
                    // A fault: the head is told before the copy is made.
                    let tail = consumer.look(&*a).unwrap();
                    producer.has_taken(tail);
                    producer.push(&*b, &*a, 2, 0, body(n), &[n; 16]).unwrap().unwrap();
                }
                while consumed(&mut consumer, &a).map(|got| assert_eq!(got, n)).is_none() {
                    loom::thread::yield_now();
                }
                if !early {
                    producer.has_taken(consumer.head());
                    producer.push(&*b, &*a, 2, 0, body(n), &[n; 16]).unwrap().unwrap();
                }
            }
        })
    };
    let mut producer = Producer::new(Lane::Control, WIDE);
    let mut consumer = Consumer::new(Lane::Control, WIDE);
    for n in 1..=count {
        producer.has_taken(consumer.head());
        producer.push(&*a, &*b, 2, 0, body(n), &[n; 16]).unwrap().unwrap();
        // In the ring it would take 48 bytes.
        assert_eq!(producer.in_ring(), 16, "not through the slot: this would show nothing");
        while consumed(&mut consumer, &b).map(|got| assert_eq!(got, n)).is_none() {
            loom::thread::yield_now();
        }
    }
    answerer.join().unwrap();
}

/// The ring is full; the producer parks until the consumer has freed space.
fn space_flow(fences: bool) {
    let a = Arc::new(Memory::new(true, fences));
    let b = Arc::new(Memory::new(true, fences));
    let event = Arc::new(Event::new());
    let mut producer = Producer::new(Lane::Control, CAPACITY);
    let records = (CAPACITY / 32) as u8;
    for n in 0..records {
        producer.push(&*a, &*b, 2, 0, body(n), &[]).unwrap().unwrap();
    }
    let reader = {
        let (a, b, event) = (Arc::clone(&a), Arc::clone(&b), Arc::clone(&event));
        loom::thread::spawn(move || {
            let mut consumer = Consumer::new(Lane::Control, CAPACITY);
            let mut waker = Waker::default();
            for n in 0..2 {
                assert_eq!(pop(&mut consumer, &b, &a), Some(n));
                if waker.must_wake(&*b, &*a, News::Space) {
                    event.wake();
                }
            }
        })
    };
    let mut parker = Parker::default();
    loop {
        parker.unpark(&*a);
        if producer.push(&*a, &*b, 2, 0, body(99), &[]).unwrap().is_ok() {
            break;
        }
        parker.park(&*a, true);
        if producer.push(&*a, &*b, 2, 0, body(99), &[]).unwrap().is_ok() {
            break;
        }
        event.wait();
    }
    reader.join().unwrap();
}

#[test]
fn records_arrive_whole_in_order_and_no_wake_is_lost() {
    check(3, || data_flow(2, true, true));
}

/// Long enough for the rewind at a quarter of the ring, and its wrap record.
#[test]
fn a_wrap_arrives_whole() {
    check(2, || data_flow(4, true, true));
}

#[test]
fn space_in_a_full_ring_wakes_its_writer() {
    check(3, || space_flow(true));
}

#[test]
fn the_slot_is_not_written_before_it_has_been_read() {
    check(3, || slot_flow(2, false));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn told_too_early_the_model_finds_the_slot_overwritten() {
    check(3, || slot_flow(2, true));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_the_model_finds_the_race() {
    check(3, || data_flow(2, false, true));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_the_model_finds_the_lost_wake() {
    check(3, || data_flow(2, true, false));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_the_model_finds_the_lost_space() {
    check(3, || space_flow(false));
}
