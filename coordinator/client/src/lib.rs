//! HTTPS client with a pinned root, join tokens and login strings.
