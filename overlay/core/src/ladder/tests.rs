use super::*;

const ALL: [Rung; 4] = [Rung::Udp, Rung::Quic, Rung::Tls, Rung::Connect];

/// A network where some rungs answer after that many milliseconds, and what was in use when.
struct Run {
    ladder: Ladder,
    start: Instant,
    now: Instant,
    answers: Vec<(Rung, u64)>,
    due: Vec<(Instant, Rung)>,
    used: Vec<(u128, Option<Rung>)>,
    opened: usize,
    compared: Vec<Rung>,
}

impl Run {
    fn new(answers: &[(Rung, u64)]) -> Self {
        let start = Instant::now();
        let ladder = Ladder::new(start, &ALL, RETRY);
        let (due, used) = (Vec::new(), Vec::new());
        Self {
            ladder,
            start,
            now: start,
            answers: answers.to_vec(),
            due,
            used,
            opened: 0,
            compared: Vec::new(),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Open(rung) => {
                    self.opened += 1;
                    let answer = self.answers.iter().find(|(answers, _)| *answers == rung);
                    self.due.extend(
                        answer.map(|(_, ms)| (self.now + Duration::from_millis(*ms), rung)),
                    );
                }
                Effect::Close(rung) => self.due.retain(|(_, waiting)| *waiting != rung),
                Effect::Use(rung) => {
                    self.used.push(((self.now - self.start).as_millis(), Some(rung)));
                }
                Effect::Nothing => self.used.push(((self.now - self.start).as_millis(), None)),
                Effect::Compare(rung) => self.compared.push(rung),
            }
        }
    }

    fn report(&mut self, report: Report) {
        let effects = self.ladder.handle_report(self.now, report);
        self.carry_out(effects);
    }

    fn run_until(&mut self, seconds: u64) {
        let end = self.start + Duration::from_secs(seconds);
        loop {
            let answer = self.due.iter().map(|(at, _)| *at).min();
            let Some(at) = [answer, self.ladder.next_wakeup()].into_iter().flatten().min() else {
                break;
            };
            if at > end {
                break;
            }
            self.now = at;
            if let Some(index) = self.due.iter().position(|(due, _)| *due <= at) {
                let (_, rung) = self.due.remove(index);
                self.report(Report::Connected(rung));
            } else {
                let effects = self.ladder.handle_wakeup(at);
                self.carry_out(effects);
            }
            assert!(self.ladder.next_wakeup().is_none_or(|next| next > at), "progress");
        }
        self.now = end;
    }
}

#[test]
fn open_network_uses_udp_and_opens_nothing_else() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Quic, 80), (Rung::Tls, 120)]);
    run.run_until(3600);
    assert_eq!((run.used, run.opened), (vec![(40, Some(Rung::Udp))], 1));
}

#[test]
fn blackholed_udp_carries_by_tls_within_a_second() {
    let mut run = Run::new(&[(Rung::Tls, 160)]);
    run.run_until(10);
    assert_eq!(run.used, [(660, Some(Rung::Tls))]);
}

#[test]
fn only_the_proxy_is_found_within_two_seconds() {
    let mut run = Run::new(&[(Rung::Connect, 400)]);
    run.run_until(10);
    assert_eq!(run.used, [(1150, Some(Rung::Connect))]);
}

#[test]
fn better_rung_that_answers_later_takes_over() {
    let mut run = Run::new(&[(Rung::Quic, 900), (Rung::Tls, 100)]);
    run.run_until(10);
    assert_eq!(run.used, [(600, Some(Rung::Tls)), (1150, Some(Rung::Quic))]);
}

#[test]
fn better_rungs_are_tried_again_ever_more_rarely_and_at_once_after_a_change() {
    let mut run = Run::new(&[(Rung::Tls, 100)]);
    run.run_until(24 * 3600);
    assert!(run.opened <= 3 + 2 * (3 + 48), "{} attempts in a day", run.opened);
    run.answers = vec![(Rung::Udp, 40)];
    run.report(Report::NetworkChanged);
    run.run_until(24 * 3600 + 1);
    assert_eq!(run.ladder.in_use(), Some(Rung::Udp));
}

#[test]
fn rung_that_breaks_is_replaced_by_the_next_race() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    run.answers = vec![(Rung::Tls, 100)];
    run.report(Report::Failed(Rung::Udp));
    run.run_until(13);
    assert_eq!(run.used, [(40, Some(Rung::Udp)), (10_000, None), (10_600, Some(Rung::Tls))]);
}

#[test]
fn throttled_udp_loses_to_tls_by_measured_goodput_only() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let measured = |rung, goodput, loss| Report::Measured { rung, goodput, loss };
    run.report(measured(Rung::Udp, 1_000_000, 300));
    run.run_until(11);
    run.report(measured(Rung::Tls, 1_100_000, 0));
    assert_eq!(run.ladder.in_use(), Some(Rung::Udp), "a little more is no reason");
    run.report(measured(Rung::Tls, 3_000_000, 0));
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
}

#[test]
fn what_lost_by_its_goodput_is_not_used_again_until_it_carries_as_much() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let measured = |rung, goodput, loss| Report::Measured { rung, goodput, loss };
    run.report(measured(Rung::Udp, 100_000, 300));
    run.run_until(11);
    run.report(measured(Rung::Tls, 1_000_000, 0));
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
    run.run_until(300);
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls), "UDP answers, and is as bad as before");
    let compared = run.compared.iter().filter(|rung| **rung == Rung::Udp).count();
    assert!(compared >= 2, "it is tried again: {compared}");

    let mut now = 300;
    while run.ladder.in_use() == Some(Rung::Tls) {
        now += 1;
        run.run_until(now);
        run.report(measured(Rung::Tls, 1_000_000, 0));
        run.report(measured(Rung::Udp, 1_200_000, 0));
        assert!(now < 2000, "UDP carries as much again");
    }
    assert_eq!(run.ladder.in_use(), Some(Rung::Udp));
}

#[test]
fn silent_udp_is_replaced_by_who_answers_first() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    run.answers = vec![(Rung::Tls, 100)];
    run.report(Report::Silent);
    run.report(Report::Silent);
    run.run_until(20);
    let tls = (10_000 + 500 + 100, Some(Rung::Tls));
    assert_eq!(run.used, [(40, Some(Rung::Udp)), tls]);
}

#[test]
fn what_was_silent_for_a_moment_stays_and_nothing_else_is_opened() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let opened = run.opened;
    run.report(Report::Silent);
    run.run_until(20);
    assert_eq!((run.used.len(), run.opened), (1, opened + 1));
    run.report(Report::Measured { rung: Rung::Udp, goodput: 0, loss: 1000 });
    run.run_until(30);
    assert_eq!((run.used.len(), run.opened), (1, opened + 2), "a lost train is silence");
}

#[test]
fn silence_everywhere_leaves_nothing_and_asks_again_ever_more_rarely() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    run.answers.clear();
    run.report(Report::Silent);
    run.run_until(60);
    assert_eq!(run.used.last(), Some(&(15_000, None)));
    let before = run.opened;
    run.run_until(3660);
    let races = run.opened - before;
    assert!((400..=4 * 125).contains(&races), "{races} attempts in an hour");
    run.answers = vec![(Rung::Tls, 100)];
    run.run_until(3660 + 31);
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
}

#[test]
fn rung_that_refuses_is_asked_again_within_the_race() {
    let mut run = Run::new(&[]);
    run.run_until(1);
    let before = run.opened;
    run.report(Report::Failed(Rung::Tls));
    run.answers = vec![(Rung::Tls, 100)];
    run.run_until(3);
    assert_eq!((run.opened - before, run.ladder.in_use()), (1, Some(Rung::Tls)));
}

#[test]
fn reports_that_nobody_asked_for_change_nothing() {
    let start = Instant::now();
    let mut ladder = Ladder::new(start, &[Rung::Udp], RETRY);
    for report in [
        Report::Connected(Rung::Tls),
        Report::Failed(Rung::Connect),
        Report::Measured { rung: Rung::Quic, goodput: u64::MAX, loss: u16::MAX },
    ] {
        let effects = ladder.handle_report(start, report);
        assert!(effects.iter().all(|effect| *effect == Effect::Open(Rung::Udp)), "{effects:?}");
    }
    assert_eq!(ladder.in_use(), None);
}

/// A line behind a rung: what it carries, bytes per second, and what a train promises of it.
#[derive(Clone, Copy)]
struct Line {
    rung: Rung,
    carries: u64,
    promises: u64,
    /// Per mille, while there is no more than it carries.
    loses: u16,
}

impl Line {
    /// Two seconds of a job that has `demand` bytes per second to send, in packets of 1,000 bytes.
    fn flow(&self, demand: u64) -> Flowed {
        let given = flow::Counters::default();
        let packets = demand * 2 / 1000;
        let fits = (self.carries * 2 / 1000).min(packets);
        let after = flow::Counters {
            sent: packets,
            sent_bytes: packets * 1000,
            sent_lost: fits * u64::from(self.loses) / 1000,
            overflowed: packets - fits,
            ..given
        };
        after.since(&given, Duration::from_secs(2)).unwrap()
    }
}

impl Run {
    /// A job with that demand runs until then, on those lines; how many bytes arrived.
    fn job(&mut self, until: u64, demand: u64, lines: &[Line]) -> u64 {
        let line = |rung| lines.iter().find(move |line| line.rung == rung);
        let (mut now, mut arrived) = ((self.now - self.start).as_secs(), 0);
        while now < until {
            now += 2;
            self.run_until(now);
            for rung in std::mem::take(&mut self.compared) {
                let Some(Line { promises, loses, .. }) = line(rung) else { continue };
                self.report(Report::Measured { rung, goodput: *promises, loss: *loses });
            }
            let used = self.ladder.in_use();
            if let Some(line) = used.and_then(line) {
                let flowed = line.flow(demand);
                arrived += 2 * flowed.goodput;
                self.report(Report::Flowed(line.rung, flowed));
            }
        }
        arrived
    }
}

const THROTTLED: Line = Line { rung: Rung::Udp, carries: 100_000, promises: 200_000, loses: 0 };

#[test]
fn way_that_holds_a_job_up_is_left_for_one_by_which_more_flows_and_not_for_one_that_only_promises()
{
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Quic, 60), (Rung::Tls, 100)]);
    run.run_until(10);
    let liar = Line { rung: Rung::Quic, carries: 20_000, promises: 9_000_000, loses: 0 };
    let good = Line { rung: Rung::Tls, carries: 1_000_000, promises: 900_000, loses: 0 };
    let arrived = run.job(300, 800_000, &[THROTTLED, liar, good]);
    let used: Vec<_> = run.used.iter().filter_map(|(_, rung)| *rung).collect();
    assert_eq!(used, [Rung::Udp, Rung::Quic, Rung::Udp, Rung::Tls], "{:?}", run.used);
    assert!(arrived > 170 * 800_000, "{arrived} bytes");
    let opened = run.opened;
    run.job(600, 800_000, &[THROTTLED, liar, good]);
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
    assert!(run.opened - opened <= 12, "{} attempts", run.opened - opened);
}

#[test]
fn job_that_has_little_to_say_moves_nothing() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let good = Line { rung: Rung::Tls, carries: 9_000_000, promises: 9_000_000, loses: 0 };
    let before = run.opened;
    run.job(3600, 90_000, &[THROTTLED, good]);
    assert_eq!((run.ladder.in_use(), run.opened), (Some(Rung::Udp), before));
}

#[test]
fn way_that_loses_the_jobs_packets_is_compared_and_left() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let lossy = Line { rung: Rung::Udp, carries: 9_000_000, promises: 100_000, loses: 200 };
    let clean = Line { rung: Rung::Tls, carries: 500_000, promises: 400_000, loses: 0 };
    run.job(100, 300_000, &[lossy, clean]);
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
    // It carries what there is: the trial is over, and what was replaced is closed.
    assert!(run.ladder.trial.is_none() && run.ladder.state(Rung::Udp) != State::Open);
}

#[test]
fn job_that_falls_silent_in_a_trial_leaves_nothing_open() {
    let mut run = Run::new(&[(Rung::Udp, 40), (Rung::Tls, 100)]);
    run.run_until(10);
    let good = Line { rung: Rung::Tls, carries: 9_000_000, promises: 9_000_000, loses: 0 };
    run.job(14, 800_000, &[THROTTLED, good]);
    assert_eq!(run.ladder.in_use(), Some(Rung::Tls));
    assert!(run.ladder.trial.is_some() && run.ladder.state(Rung::Udp) == State::Open);
    run.run_until(14 + 70);
    assert!(run.ladder.trial.is_none());
    let open = run.ladder.open().collect::<Vec<_>>();
    assert_eq!(open, [Rung::Tls]);
}
