//! [`Link`]: the main thread's end of a worker, with a thread behind it or without.
//!
//! Lives here: hand-over of jobs and completions, start and end of threads. Not here: what the
//! workers do (`commit.rs`, `background.rs`). `journal.rs` owns two links.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fault::Fault;
use crate::options::Workers;

/// Jobs that may wait at a worker. The owner keeps count and never sends more.
pub(crate) const JOBS_MAX: usize = 64;
/// After so long without work a worker gives memory back.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// A worker's behaviour.
pub(crate) trait Work: Send + 'static {
    /// What it is asked.
    type Job: Send + 'static;
    /// What it answers.
    type Done: Send + 'static;
    /// Its name in faults and of its thread.
    const NAME: &'static str;
    /// Does a job; long ones look at the port between steps.
    fn run(&mut self, job: Self::Job, port: &mut dyn Port<Self::Job, Self::Done>);
    /// Nothing came for a while.
    fn rest(&mut self) {}
}

/// What a running job sees of the outside.
pub(crate) trait Port<Job, Done> {
    /// The next waiting job, if one is there.
    fn next(&mut self) -> Option<Job>;
    /// Hands a completion to the owner and wakes it.
    fn answer(&mut self, done: Done);
}

/// See the module's head.
pub(crate) enum Link<W: Work> {
    Thread(ThreadLink<W>),
    Inline(Box<InlineLink<W>>),
}

pub(crate) struct ThreadLink<W: Work> {
    jobs: Option<SyncSender<W::Job>>,
    done: Option<Receiver<W::Done>>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct InlineLink<W: Work> {
    worker: W,
    queue: Queue<W>,
}

struct Queue<W: Work> {
    jobs: VecDeque<W::Job>,
    done: VecDeque<W::Done>,
}

impl<W: Work> Port<W::Job, W::Done> for Queue<W> {
    fn next(&mut self) -> Option<W::Job> {
        self.jobs.pop_front()
    }

    fn answer(&mut self, done: W::Done) {
        self.done.push_back(done);
    }
}

struct ThreadPort<W: Work> {
    jobs: Receiver<W::Job>,
    done: SyncSender<W::Done>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// The owner went away; finish quickly.
    is_closed: bool,
}

impl<W: Work> Port<W::Job, W::Done> for ThreadPort<W> {
    fn next(&mut self) -> Option<W::Job> {
        self.jobs.try_recv().ok()
    }

    fn answer(&mut self, done: W::Done) {
        self.is_closed = self.done.send(done).is_err();
        (self.wake)();
    }
}

fn serve<W: Work>(worker: &mut W, port: &mut ThreadPort<W>) {
    let mut is_rested = true;
    while !port.is_closed {
        let job = if is_rested {
            port.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            port.jobs.recv_timeout(IDLE_AFTER)
        };
        match job {
            Ok(job) => {
                worker.run(job, port);
                is_rested = false;
            }
            Err(RecvTimeoutError::Timeout) => {
                worker.rest();
                is_rested = true;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl<W: Work> Link<W> {
    /// Starts the worker the way the owner wants it.
    pub(crate) fn start(mut worker: W, workers: &Workers) -> Result<Self, Fault> {
        let Workers::Threads { wake } = workers else {
            return Ok(Self::inline(worker));
        };
        let (jobs, job_end) = sync_channel(JOBS_MAX);
        let (done_end, done) = sync_channel(JOBS_MAX);
        let mut port =
            ThreadPort { jobs: job_end, done: done_end, wake: Arc::clone(wake), is_closed: false };
        let builder = std::thread::Builder::new().name(format!("journal-{}", W::NAME));
        let thread = builder.spawn(move || serve(&mut worker, &mut port));
        let thread = thread.map_err(|_| Fault::Stopped { thread: W::NAME })?;
        Ok(Self::Thread(ThreadLink { jobs: Some(jobs), done: Some(done), thread: Some(thread) }))
    }

    /// A worker that works only when told.
    pub(crate) fn inline(worker: W) -> Self {
        let queue = Queue { jobs: VecDeque::new(), done: VecDeque::new() };
        Self::Inline(Box::new(InlineLink { worker, queue }))
    }

    /// Hands a job over; never blocks.
    pub(crate) fn send(&mut self, job: W::Job) -> Result<(), Fault> {
        match self {
            Self::Thread(link) => {
                let sent = link.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
                if sent { Ok(()) } else { Err(Fault::Stopped { thread: W::NAME }) }
            }
            Self::Inline(link) => {
                link.queue.jobs.push_back(job);
                Ok(())
            }
        }
    }

    /// The next completion, if one is there.
    pub(crate) fn take(&mut self) -> Result<Option<W::Done>, Fault> {
        match self {
            Self::Thread(link) => match link.done.as_ref().map(Receiver::try_recv) {
                Some(Ok(done)) => Ok(Some(done)),
                Some(Err(TryRecvError::Empty)) => Ok(None),
                Some(Err(TryRecvError::Disconnected)) | None => {
                    Err(Fault::Stopped { thread: W::NAME })
                }
            },
            Self::Inline(link) => Ok(link.queue.done.pop_front()),
        }
    }

    /// Waits for the next completion; without a thread, does the work that leads to it.
    pub(crate) fn wait(&mut self) -> Result<W::Done, Fault> {
        let stopped = Fault::Stopped { thread: W::NAME };
        match self {
            Self::Thread(link) => {
                link.done.as_ref().and_then(|done| done.recv().ok()).ok_or(stopped)
            }
            Self::Inline(_) => {
                self.run_pending();
                self.take()?.ok_or(stopped)
            }
        }
    }

    /// Does what waits, if there is no thread to do it.
    pub(crate) fn run_pending(&mut self) {
        if let Self::Inline(link) = self {
            while let Some(job) = link.queue.jobs.pop_front() {
                link.worker.run(job, &mut link.queue);
            }
        }
    }
}

impl<W: Work> Drop for Link<W> {
    fn drop(&mut self) {
        if let Self::Thread(link) = self {
            // Both ends go first, so that the thread neither waits for us nor we for it.
            link.jobs = None;
            link.done = None;
            if let Some(thread) = link.thread.take()
                && thread.join().is_err()
            {
                tracing::error!(thread = W::NAME, "a journal thread panicked");
            }
        }
    }
}
