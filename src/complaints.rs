// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lines for stderr from threads that must not wait for whoever reads them: a
//! pipe that nobody empties would stop a server's queues otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Lines that wait to be printed, as many as a disk full of bad blocks makes
/// while a reader is slow; more are only counted.
const WAITING: usize = 1 << 16;
/// At the end, for the next of those that wait still.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints lines in a thread of its own, in their order.
pub struct Complaints {
    lines: Option<SyncSender<String>>,
    left_out: Arc<AtomicU64>,
    /// Something comes here when lines are printed, and its other end goes with
    /// the last one.
    printed: Mutex<Receiver<()>>,
}

impl Complaints {
    pub fn new(print: impl Fn(&str) + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let (printing, printed) = sync_channel(1);
        let left_out = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&left_out);
        thread::spawn(move || {
            for line in waiting {
                print(&line);
                // Where it is known already, once is enough.
                let _ = printing.try_send(());
                match count.swap(0, Ordering::Relaxed) {
                    0 => {}
                    more => print(&format!("{more} more lines, left out: nobody read them")),
                }
            }
        });
        Complaints {
            lines: Some(lines),
            left_out,
            printed: Mutex::new(printed),
        }
    }

    /// Never waits.
    pub fn add(&self, line: String) {
        let lines = self.lines.as_ref().expect("until it is dropped");
        if lines.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Complaints {
    /// Waits for what is not printed yet, as long as somebody reads.
    fn drop(&mut self) {
        self.lines = None;
        if let Ok(printed) = self.printed.get_mut() {
            while printed.recv_timeout(PATIENCE).is_ok() {}
        }
    }
}

/// Shows a line that is written over and over, in a thread of its own.
pub struct Latest {
    line: SyncSender<String>,
}

impl Latest {
    pub fn new(show: impl Fn(String) + Send + 'static) -> Self {
        let (line, lines) = sync_channel::<String>(1);
        thread::spawn(move || lines.into_iter().for_each(show));
        Latest { line }
    }

    /// Never waits: while two lines are not shown yet, further ones are left
    /// out.
    pub fn show(&self, line: String) {
        let _ = self.line.try_send(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn all_lines_come_in_order() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let complaints = Complaints::new(move |line| into.lock().unwrap().push(line.to_string()));
        for number in 0..WAITING {
            complaints.add(number.to_string());
        }
        drop(complaints);
        let expected: Vec<String> = (0..WAITING).map(|number| number.to_string()).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn the_end_waits_as_long_as_lines_are_printed() {
        let (into, seen) = channel();
        let complaints = Complaints::new(move |line| {
            thread::sleep(PATIENCE / 20);
            into.send(line.to_string()).unwrap();
        });
        for number in 0..30 {
            complaints.add(number.to_string());
        }
        drop(complaints);
        assert_eq!(seen.try_iter().count(), 30);
    }

    #[test]
    fn a_line_that_is_not_shown_yet_stops_nobody() {
        let (go_on, hold) = channel::<()>();
        let (into, shown) = channel();
        let latest = Latest::new(move |line| {
            let _ = hold.recv();
            into.send(line).unwrap();
        });
        (0..100).for_each(|number| latest.show(number.to_string()));
        drop((go_on, latest));
        let shown: Vec<String> = shown.iter().collect();
        assert_eq!(shown[0], "0");
        assert!(shown.len() <= 3, "{shown:?}");
    }

    #[test]
    fn a_reader_that_does_not_read_stops_nobody() {
        let (read, reader) = channel::<()>();
        let (into, seen) = channel();
        let complaints = Complaints::new(move |line| {
            // Until the test lets it go on.
            let _ = reader.recv();
            into.send(line.to_string()).unwrap();
        });
        for number in 0..WAITING * 4 {
            complaints.add(number.to_string());
        }
        drop(read);
        drop(complaints);
        let seen: Vec<String> = seen.iter().collect();
        assert!(seen.len() >= WAITING, "{}", seen.len());
        let printed = seen
            .iter()
            .filter(|line| !line.contains("left out"))
            .count();
        let left_out: usize = seen
            .iter()
            .filter(|line| line.contains("left out"))
            .map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(printed + left_out, WAITING * 4, "{seen:?}");
        assert!(left_out > 0, "{seen:?}");
    }
}
