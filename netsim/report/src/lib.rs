//! What a run leaves behind: event log, samples, and the page that draws them.
