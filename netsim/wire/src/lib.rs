//! Links and NATs in user space, for kernels without netem and NATs that nftables cannot be.
