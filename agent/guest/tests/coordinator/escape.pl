# What a job that wants out tries. Each attempt says its name, and one that succeeds says so.
# Arguments: KEY=VALUE, what the test has planted outside.
use strict;
use warnings;
use Socket;
use Fcntl;

# Some of what follows would succeed, and do harm, where nothing shuts it in.
die "only for a job's sandbox\n" unless -d '/run/clouds-at-home' && $< == 1000 && !-e '/root' && !-e '/run/user';

my %at = map { split /=/, $_, 2 } @ARGV;
$| = 1;

sub attempt {
    my ($name, $try) = @_;
    print "tried $name\n";
    my $result = eval { local $SIG{ALRM} = sub { die "slow\n" }; alarm 5; my $r = $try->(); alarm 0; $r };
    alarm 0;
    print "ESCAPED $name\n" if $result;
}

sub readable { my ($path) = @_; my $file; return open($file, '<', $path) && read($file, my $byte, 1) }
sub writable { my ($path) = @_; my $file; return open($file, '+<', $path) || open($file, '>>', $path) }
# True when the call did not fail.
sub call { my $r = syscall($_[0], @_[1 .. $#_]); return $r != -1 }

sub tcp {
    my ($host, $port) = @_;
    socket(my $s, PF_INET, SOCK_STREAM, 0) or return 0;
    return connect($s, sockaddr_in($port, inet_aton($host)));
}

sub unix {
    my ($path) = @_;
    socket(my $s, PF_UNIX, SOCK_STREAM, 0) or return 0;
    return connect($s, sockaddr_un($path));
}

# The volunteer's files, the agent's, another job's.
for my $file (qw(secret key membership other_file)) {
    attempt("file-$file", sub { readable($at{$file}) });
    attempt("file-$file-root", sub { readable("/proc/1/root$at{$file}") || readable("/proc/self/root/../../..$at{$file}") });
    attempt("file-$file-cwd", sub { grep { readable("$_$at{$file}") } glob('/proc/[0-9]*/cwd/../../../../../..') });
}
attempt('home', sub { grep { $_ !~ m{/oar$} } glob('/home/* /root/*') });
attempt('shadow', sub { readable('/etc/shadow') });
attempt('environment', sub { $ENV{PLANTED_SECRET} || `cat /proc/*/environ 2>/dev/null` =~ /PLANTED_SECRET/ });

# Other processes.
for my $process (qw(agent other)) {
    attempt("signal-$process", sub { kill 0, $at{"${process}_pid"} });
}
attempt('processes', sub { my @seen = grep { m{/\d+$} } glob('/proc/*'); @seen > 12 });
attempt('init-memory', sub { writable('/proc/1/mem') || readable('/proc/1/maps') });
attempt('init-program', sub { writable('/proc/1/exe') });
attempt('own-program', sub { writable('/proc/self/exe') || writable('/usr/local/lib/oar/agent') });
attempt('ptrace-init', sub { call(101, 16, 1, 0, 0) });
attempt('ptrace-me', sub { call(101, 0, 0, 0, 0) });
attempt('ptrace-x32', sub { call(0x40000000 | 521, 0, 0, 0, 0) });
attempt('pidfd-getfd', sub { my $fd = syscall(434, 1, 0); $fd != -1 && call(438, $fd, 0, 0) });

# The network: this machine's, its neighbours', the coordinator.
attempt('machine', sub { tcp('127.0.0.1', $at{port}) });
attempt('coordinator', sub { tcp('127.0.0.1', $at{coordinator_port}) });
attempt('lan', sub { tcp($_, 80) }) for grep { $_ } split(/,/, $at{lan} // ''), '192.168.1.1', '10.0.0.1', '192.0.2.1';
attempt('ipv6', sub { my $s; socket($s, PF_INET6, SOCK_DGRAM, 0) && connect($s, pack_sockaddr_in6(53, inet_pton(PF_INET6, '2001:db8::1'))) });
attempt('udp', sub { my $s; socket($s, PF_INET, SOCK_DGRAM, 0) && send($s, 'x', 0, sockaddr_in(53, inet_aton('192.0.2.1'))) });
attempt('raw-icmp', sub { socket(my $s, PF_INET, SOCK_RAW, 1) });
attempt('raw-ipv6', sub { socket(my $s, PF_INET6, SOCK_RAW, 58) });
attempt('packet', sub { socket(my $s, 17, SOCK_RAW, 0) });
attempt('vsock', sub { socket(my $s, 40, SOCK_STREAM, 0) });
attempt('alg', sub { socket(my $s, 38, 5, 0) });
attempt('netfilter', sub { socket(my $s, 16, SOCK_RAW, 12) });
attempt('device', sub { system('ip link add x type dummy 2>/dev/null') == 0 });

# Sockets of others.
for my $socket (qw(agent_socket shim_socket other_shim_socket)) {
    attempt("socket-$socket", sub { unix($at{$socket}) });
}
attempt('socket-bus', sub { unix('/run/dbus/system_bus_socket') || unix('/var/run/dbus/system_bus_socket') || unix("/run/user/$<\/bus") });
attempt('socket-planted', sub { unix($at{bus}) });
attempt('socket-abstract', sub { unix("\0$at{abstract}") });

# The kernel's way out.
attempt('mount', sub { call(165, my $n = 'none', my $d = '/tmp', my $t = 'tmpfs', 0, 0) });
attempt('bind', sub { call(165, my $n = '/usr', my $d = '/tmp', 0, 4096, 0) });
attempt('remount', sub { call(165, 0, my $d = '/usr', 0, 32 | 4096, 0) });
attempt('umount', sub { call(166, my $d = '/usr', 2) });
attempt('fsopen', sub { call(430, my $t = 'tmpfs', 0) });
attempt('open-tree', sub { call(428, -100, my $d = '/', 1) });
attempt('chroot', sub { call(161, my $d = '/tmp') });
attempt('pivot', sub { call(155, my $d = '/', my $e = '/') });
for my $kind (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80) {
    attempt(sprintf('unshare-%x', $kind), sub { call(272, $kind) });
}
attempt('clone-user', sub { my $pid = syscall(56, 0x10000000 | 17, 0, 0, 0, 0); exit 0 if $pid == 0; $pid > 0 });
attempt('clone3', sub { call(435, my $args = "\0" x 88, 88) });
attempt('setns', sub { my $n; open($n, '<', '/proc/1/ns/net') && call(308, fileno($n), 0) });
attempt('bpf', sub { call(321, 0, my $a = "\0" x 128, 128) });
attempt('io-uring', sub { call(425, 8, my $a = "\0" x 120) });
attempt('perf', sub { call(298, my $a = "\0" x 128, 0, -1, -1, 0) });
attempt('userfaultfd', sub { call(323, 0) });
attempt('keys', sub { call(248, my $t = 'user', my $d = 'x', my $p = 'y', 1, -3) });
attempt('module', sub { call(313, 0, my $p = '', 0) });
attempt('clock', sub { call(227, 0, my $t = pack('qq', 0, 0)) });
attempt('hostname', sub { call(170, my $n = 'x', 1) });
attempt('reboot', sub { call(169, 0xfee1dead, 672274793, 0, 0) });
attempt('handle', sub { call(304, -100, my $h = pack('LL', 8, 1) . "\0" x 8, 0) });
attempt('core-pattern', sub { writable('/proc/sys/kernel/core_pattern') });
attempt('sysrq', sub { writable('/proc/sysrq-trigger') });
attempt('kcore', sub { readable('/proc/kcore') });
attempt('sys', sub { readable('/sys/kernel/notes') || -d '/sys/fs/cgroup' });
attempt('terminal', sub { my $c = 'x'; ioctl(STDIN, 0x5412, $c) });

# Rights, devices, files of the system.
attempt('setuid-0', sub { $> = 0; $> == 0 });
attempt('setuid-file', sub { system(q{cp /bin/sh s && chmod 4755 s && ./s -p -c 'test $(id -u) = 0'; r=$?; rm -f s; exit $r}) == 0 });
attempt('setuid-su', sub { system('su -c true </dev/null >/dev/null 2>&1') == 0 });
attempt('chown', sub { open(my $f, '>', 'mine'); chown 0, 0, 'mine' });
attempt('mknod', sub { call(133, my $p = 'disk', 060660, 8 << 8) });
attempt('disks', sub { grep { !m{^/dev/(core|fd|full|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero|console)$} } glob('/dev/*') });
attempt('dev', sub { writable('/dev/new') });
attempt('usr', sub { writable('/usr/new') || writable('/etc/passwd') || writable('/new') });
attempt('node-file', sub { writable($ENV{OAR_NODEFILE}) });
attempt('hard-link', sub { link($at{key}, 'key') || link('/etc/passwd', '/home/oar/work/passwd') });

# For the stage-out.
symlink '/etc/shadow', 'link-shadow';
symlink $at{key}, 'link-key';
symlink '../../identity.key', 'link-up';
symlink '/', 'link-root';
print "done\n";
