//! Where the API is, and the proxy on the way, as the HTTP client sees them.

/// Host and port of the API, for a connection of one's own.
pub fn api_address(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { authority.to_owned() } else { format!("{authority}:443") })
}

/// The proxy that the environment names for the API (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
pub fn proxy_of(url: &str) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let proxy =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find_map(set)?;
    let exempt = ["NO_PROXY", "no_proxy"].into_iter().find_map(set).unwrap_or_default();
    (!is_exempt(url, &exempt)).then_some(proxy)
}

fn is_exempt(url: &str, exempt: &str) -> bool {
    let address = api_address(url).unwrap_or_default();
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    exempt.split(',').map(|name| name.trim().trim_start_matches('.')).any(|name| {
        name == "*" || (!name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))))
    })
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

    #[test]
    fn hosts_and_their_domains_are_exempt() {
        let url = "https://c.lab.example:6443/oarapi";
        for exempt in ["*", "c.lab.example", "x,lab.example", ".lab.example"] {
            assert!(is_exempt(url, exempt), "{exempt}");
        }
        for needed in ["", "ab.example", "lab.example:6443", "c.lab"] {
            assert!(!is_exempt(url, needed), "{needed}");
        }
    }
}
