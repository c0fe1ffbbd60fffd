//! Scenario files: what a run of the laboratory consists of, and what must hold in the end.
