//! The machine: which core does what, what a process has used, what else is going on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which core serves and which sends the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two that this process may use; one for both where there is one.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot ask for the processors")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores.next().context("there is no processor to run on")?;
        Ok(Self { server, load: cores.next().unwrap_or(server) })
    }

    pub(crate) fn is_one(self) -> bool {
        self.server == self.load
    }
}

/// Binds this thread, and what it starts from now on, to a core.
///
/// # Errors
/// When the system refuses.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on processor {core}"))
}

/// Processor time of a process and its children, in seconds, system calls included.
///
/// # Errors
/// When it does not run any more.
pub(crate) fn processor_seconds(pid: u32) -> Result<ProcessorTime> {
    let mut total = ProcessorTime::default();
    let mut pids = vec![pid];
    while let Some(pid) = pids.pop() {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).with_context(|| format!("process {pid} has ended"))?;
        total.by_ticks += ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not understood"))? as f64 / HERTZ;
        for task in folder.join("task").read_dir().with_context(|| format!("process {pid} has ended"))?.flatten() {
            // A thread may end meanwhile; the ticks have it still.
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total.by_threads += nanoseconds(&schedstat).unwrap_or(0) as f64 / 1e9;
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    Ok(total)
}

/// What was used up to a moment, counted in two ways.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessorTime {
    /// Exact, without the threads that have ended.
    by_threads: f64,
    /// With all threads, in hundredths of a second.
    by_ticks: f64,
}

impl ProcessorTime {
    /// Seconds from `start` to here: by threads, unless threads have ended and taken theirs along.
    pub(crate) fn since(self, start: Self) -> f64 {
        let (by_threads, by_ticks) = (self.by_threads - start.by_threads, self.by_ticks - start.by_ticks);
        if (by_threads - by_ticks).abs() <= TICKS_ARE_ROUNDED_BY { by_threads } else { by_ticks }
    }
}

/// `utime` and `stime` of `/proc/PID/stat`. The name of the program, in parentheses, can hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The first number of `/proc/PID/task/TID/schedstat`.
fn nanoseconds(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Memory of a process in MiB: resident now, and at most so far.
///
/// # Errors
/// When it does not run any more.
pub(crate) fn resident_mib(pid: u32) -> Result<(f64, f64)> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    let mib = |name| kib(&status, name).map(|kib| kib as f64 / 1024.0);
    mib("VmRSS:").zip(mib("VmHWM:")).with_context(|| format!("/proc/{pid}/status names no memory"))
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What the report says about where it was made.
pub(crate) fn description() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|it| it.1));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// How many cores others keep busy while this program waits for a moment.
///
/// # Errors
/// When the system does not say.
pub(crate) fn busy_cores() -> Result<f64> {
    let busy = || -> Result<u64> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        busy_ticks(&stat).context("/proc/stat is not understood")
    };
    let (start, moment) = (busy()?, Duration::from_millis(500));
    std::thread::sleep(moment);
    Ok((busy()? - start) as f64 / HERTZ / moment.as_secs_f64())
}

/// All of the first line of `/proc/stat` but `idle` and `iowait`.
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _iowait) = (next()?, next()?);
    Some(user + nice + system + next()? + next()?)
}

/// Ticks a second in `/proc`, the same on every Linux that we know of (`getconf CLK_TCK`).
const HERTZ: f64 = 100.0;

/// Two numbers of ticks at each end, each rounded down, for each of a few processes.
const TICKS_ARE_ROUNDED_BY: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_the_program_is_called() {
        let stat = "4711 (a (b) 1 2 3) S 1 4711 4711 0 -1 4194304 100 0 0 0 250 31 7 9 20 0 8 0 100";

        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("4711 (short) S 1 2"), None);
        assert_eq!(nanoseconds("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(nanoseconds(""), None);
    }

    #[test]
    fn threads_that_ended_are_not_forgotten() {
        let start = ProcessorTime { by_threads: 10.0, by_ticks: 10.0 };

        let exact = ProcessorTime { by_threads: 11.003, by_ticks: 11.0 };
        let with_an_ended_thread = ProcessorTime { by_threads: 10.5, by_ticks: 11.0 };

        assert!((exact.since(start) - 1.003).abs() < 1e-9);
        assert!((with_an_ended_thread.since(start) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn waiting_is_not_being_busy() {
        assert_eq!(busy_ticks("cpu  100 20 30 9000 500 4 6 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\n"), Some(160));
        assert_eq!(busy_ticks("intr 1 2 3"), None);
    }

    #[test]
    fn memory_is_read_in_mib() {
        let status = "Name:\tkeywheel\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";

        assert_eq!(kib(status, "VmRSS:"), Some(10_240));
        assert_eq!(kib(status, "VmHWM:"), Some(20_480));
        assert_eq!(kib("VmRSS: lots", "VmRSS:"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();

        let (now, most) = resident_mib(pid).expect("it runs");

        assert!(processor_seconds(pid).is_ok());
        assert!(now > 0.0 && most >= now);
    }
}
