#!/bin/sh
# run.sh IMPLEMENTATION BOARD: builds the MPI programs on the job's first node, takes them to the others with
# scp, and runs them on all. IMPLEMENTATION is openmpi or mpich, as Debian names its programs.
set -eu
nodes=$(sort -u "$OAR_NODEFILE")
for program in nqueens network; do
    "mpicc.$1" -O2 -o "$program" "$program.c"
done
for node in $nodes; do
    [ "$node" = "$(hostname)" ] || scp -q nqueens network "$node:"
done

# Debian 12's MPICH (4.0.2 with UCX 1.13.1) now and then waits for ever in MPI_Finalize: a rank that has ended its
# connections no longer answers those that are still ending theirs. The work is done by then, but mpirun does not
# return. Such a run is told, ended, and made again.
run() {
    for _ in 1 2 3 4 5 6; do
        if timeout 25 "mpirun.$implementation" "$@" > output; then
            cat output
            return
        fi
        echo "run.sh: mpirun.$implementation $* did not end well: again" >&2
        for node in $nodes; do
            ssh -n "$node" "pkill -9 -x $(basename "$1")" || true
        done
    done
    return 1
}
implementation=$1
run ./nqueens "$2"
run ./network
