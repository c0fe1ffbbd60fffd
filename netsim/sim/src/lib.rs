//! An in-process network with a virtual clock: links and NATs by RFC 4787 axes. No IO.
