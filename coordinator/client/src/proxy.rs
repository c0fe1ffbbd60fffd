//! Where the API is, and the proxy on the way, as the HTTP client sees them.

use hyper_util::client::proxy::matcher::Matcher;

/// Host and port of the API, for a connection of one's own.
pub fn api_address(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { authority.to_owned() } else { format!("{authority}:443") })
}

/// The variables that name a proxy for HTTPS, the first that is set counts.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy that the environment names for the API (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), as the HTTP
/// client reads them.
pub fn proxy_of(url: &str) -> Option<String> {
    let url = url.parse().ok()?;
    named().filter(|_| Matcher::from_env().intercept(&url).is_some())
}

/// What the environment names as a proxy although it is no proxy's address: the HTTP client goes without.
pub fn useless_proxy(url: &str) -> Option<String> {
    let url = url.parse().ok()?;
    named().filter(|proxy| Matcher::builder().all(proxy.clone()).build().intercept(&url).is_none())
}

fn named() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    VARIABLES.into_iter().find_map(set)
}

/// A proxy's URL as it may be shown.
pub fn without_password(proxy: &str) -> String {
    match (proxy.split_once("://"), proxy.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => proxy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_shown_without_their_passwords() {
        assert_eq!(without_password("http://u:p@ss@proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password("u:p@proxy:3128"), "proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
    }

    #[test]
    fn the_api_has_a_port_in_every_form_of_its_address() {
        for (url, expected) in [
            ("https://c.example/oarapi", "c.example:443"),
            ("https://c.example:6443/oarapi", "c.example:6443"),
            ("https://[2001:db8::1]/oarapi", "[2001:db8::1]:443"),
            ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443"),
        ] {
            assert_eq!(api_address(url).as_deref(), Some(expected));
        }
        assert_eq!(api_address("http://c.example"), None);
    }
}
