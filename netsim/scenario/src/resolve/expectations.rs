//! What must hold in the end.

use super::{Clusters, known};
use crate::fault::{Fault, at};
use crate::file::{Expect, Metric, Quantity, Scenario, Subject};
use crate::resolved::{Bounds, Expectation, Holds, Job, Number, Resolved};

/// The expectations; `resolved` has everything that comes before them.
pub(super) fn resolve(scenario: &Scenario, resolved: &Resolved) -> Result<Vec<Expectation>, Fault> {
    let one = |(i, expect): (usize, &Expect)| {
        expectation(expect, resolved).map_err(|fault| fault.below(at!["expect", i]))
    };
    scenario.expect.iter().enumerate().map(one).collect()
}

fn expectation(expect: &Expect, resolved: &Resolved) -> Result<Expectation, Fault> {
    if expect.coordinator.is_some() {
        Clusters(&resolved.coordinators).named(expect.coordinator.as_ref())?;
    }
    if let Some(job) = &expect.job {
        let is_own =
            |job: &&Job| expect.coordinator.as_ref().is_none_or(|of| job.coordinator == *of);
        let groups = resolved.jobs.iter().filter(is_own).map(|job| job.group.as_str());
        known("job", job, groups).map_err(|message| Fault::new(at!["job"], message))?;
    }
    let that = match expect.that {
        Subject::JobsTerminated => number(expect, Number::JobsTerminated)?,
        Subject::JobsFailed => number(expect, Number::JobsFailed)?,
        Subject::DirectPairs => number(expect, Number::DirectPairs)?,
        Subject::RelayedPairs => number(expect, Number::RelayedPairs)?,
        Subject::CollectedFiles => number(expect, Number::CollectedFiles)?,
        Subject::RelayedAsPredicted => {
            takes(expect, &[])?;
            Holds::RelayedAsPredicted
        }
        Subject::LanPairsDirect => {
            takes(expect, &[])?;
            Holds::LanPairsDirect
        }
        Subject::Path => path(expect, resolved)?,
        Subject::TimeToMesh => metric(expect, Metric::TimeToMesh)?,
        Subject::Rtt => metric(expect, Metric::Rtt)?,
        Subject::FirstByte => metric(expect, Metric::FirstByte)?,
        Subject::QueueTime => metric(expect, Metric::QueueTime)?,
        Subject::RunTime => metric(expect, Metric::RunTime)?,
    };
    let (group, coordinator) = (expect.job.clone(), expect.coordinator.clone());
    Ok(Expectation { group, coordinator, that })
}

fn number(expect: &Expect, what: Number) -> Result<Holds, Fault> {
    takes(expect, &["at-least", "at-most", "exactly"])?;
    let bound = |key, given: Option<Quantity>| match given {
        None => Ok(None),
        Some(Quantity::Number(number)) => Ok(Some(number)),
        Some(Quantity::Time(_)) => Err(Fault::new([key], "a number is wanted here, not a time")),
    };
    let least = bound("at-least".into(), expect.at_least)?;
    let most = bound("at-most".into(), expect.at_most)?;
    let bounds = match expect.exactly {
        Some(_) if least.is_some() || most.is_some() => {
            let message = "`exactly` says it all: leave the others out";
            return Err(Fault::new(at!["exactly"], message));
        }
        Some(exactly) => Bounds { least: Some(exactly), most: Some(exactly) },
        None => Bounds { least, most },
    };
    some_bound(bounds)?;
    Ok(Holds::Number(what, bounds))
}

fn metric(expect: &Expect, metric: Metric) -> Result<Holds, Fault> {
    takes(expect, &["at-least", "at-most", "percentile"])?;
    let percentile = expect.percentile.unwrap_or(50.0);
    if !(0.0..=100.0).contains(&percentile) {
        let message = format!("a percentile is from 0 to 100, not {percentile}");
        return Err(Fault::new(at!["percentile"], message));
    }
    let bound = |key, given: Option<Quantity>| match given {
        None => Ok(None),
        Some(Quantity::Time(time)) => Ok(Some(time.0.as_secs_f64())),
        Some(Quantity::Number(_)) => {
            let message = format!("`{}` is a time: write one such as \"5s\"", metric.name());
            Err(Fault::new([key], message))
        }
    };
    let least = bound("at-least".into(), expect.at_least)?;
    let bounds = Bounds { least, most: bound("at-most".into(), expect.at_most)? };
    some_bound(bounds)?;
    Ok(Holds::Metric { metric, percentile, bounds })
}

fn path(expect: &Expect, resolved: &Resolved) -> Result<Holds, Fault> {
    takes(expect, &["between", "is"])?;
    let (Some(between), Some(is)) = (&expect.between, expect.is) else {
        let message = "which? Write between = [\"vol-1\", \"vol-2\"] and is = \"direct\"";
        return Err(Fault::new([], message));
    };
    let mut whose = Vec::new();
    for (i, name) in between.iter().enumerate() {
        let hosts = resolved.volunteers.iter().map(|volunteer| volunteer.host.as_str());
        let wrong = |message| Fault::new(at!["between", i], message);
        known("volunteer", name, hosts).map_err(wrong)?;
        let named = resolved.volunteers.iter().find(|volunteer| volunteer.host == *name);
        whose.extend(named.map(|volunteer| &volunteer.coordinator));
    }
    if let [one, other] = whose.as_slice()
        && one != other
    {
        let message = format!("one belongs to `{one}`, the other to `{other}`: they never meet");
        return Err(Fault::new(at!["between"], message));
    }
    Ok(Holds::Path { between: between.clone(), is })
}

fn some_bound<T>(bounds: Bounds<T>) -> Result<(), Fault> {
    if bounds.least.is_none() && bounds.most.is_none() {
        return Err(Fault::new([], "this always holds: say `at-least`, `at-most` or `exactly`"));
    }
    Ok(())
}

/// A key that this kind of expectation does not take would be ignored in silence.
fn takes(expect: &Expect, keys: &[&str]) -> Result<(), Fault> {
    for (key, is_given) in [
        ("percentile", expect.percentile.is_some()),
        ("at-least", expect.at_least.is_some()),
        ("at-most", expect.at_most.is_some()),
        ("exactly", expect.exactly.is_some()),
        ("between", expect.between.is_some()),
        ("is", expect.is.is_some()),
    ] {
        if is_given && !keys.contains(&key) {
            let message = format!("this kind of expectation has no `{key}`: leave it out");
            return Err(Fault::new(at![key], message));
        }
    }
    Ok(())
}
