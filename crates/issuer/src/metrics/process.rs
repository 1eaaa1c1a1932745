//! What the kernel says of this process, under the names that other programs use for it.

use std::fmt;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Read when it is asked for; nothing where `/proc` is not Linux's.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::read(Path::new("/proc")) else { return Ok(()) };
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that was mapped", usage.virtual_bytes),
            ("process_open_fds", "Open file descriptors", usage.open_files),
            ("process_threads", "Threads", usage.threads),
            ("process_start_time_seconds", "When the process started, in seconds since 1970", usage.started_s),
        ];
        for (name, help, value) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let mut cpu =
            encoder.encode_descriptor("process_cpu_seconds", "Processor time spent", None, MetricType::Counter)?;
        cpu.encode_counter::<NoLabelSet, _, u64>(&usage.cpu_s, None)
    }
}

struct Usage {
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    threads: f64,
    started_s: f64,
    cpu_s: f64,
}

impl Usage {
    /// proc(5).
    fn read(proc: &Path) -> Option<Self> {
        let stat = std::fs::read_to_string(proc.join("self/stat")).ok()?;
        // The second field is the name in parentheses, which may have anything in it; after it everything is a number.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // Numbered as in proc(5), where the state is the third field.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let system = std::fs::read_to_string(proc.join("stat")).ok()?;
        let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
            virtual_bytes: field(23)?,
            open_files: std::fs::read_dir(proc.join("self/fd")).ok()?.count() as f64,
            threads: field(20)?,
            started_s: booted + field(22)? / ticks,
            cpu_s: (field(14)? + field(15)?) / ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_started_in_the_past() {
        let usage = Usage::read(Path::new("/proc")).expect("Linux");

        assert!(usage.resident_bytes > 1e6, "{}", usage.resident_bytes);
        assert!(usage.virtual_bytes > usage.resident_bytes);
        assert!((3.0..1e4).contains(&usage.open_files), "{}", usage.open_files);
        assert!((1.0..1e4).contains(&usage.threads));
        assert!(usage.started_s > 1.7e9);
        assert!(Usage::read(Path::new("/nowhere")).is_none());
    }
}
