/* What MPI makes of the network between its ranks: round trips and bandwidth from rank 0 to every other, and the
 * time of a sum over all.
 *
 *   mpicc -O2 -o network network.c
 *   mpirun ./network
 *
 * Prints lines of the form `what = number unit`. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20
#define BYTES (1 << 20)
#define LARGE_ROUNDS 4

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int count)
{
    qsort(times, count, sizeof *times, ascending);
    return times[count / 2];
}

/* The median time of one message there and one back, seconds. */
static double ping_pong(int rank, int peer, char *buffer, int bytes, int rounds)
{
    double times[ROUNDS];
    for (int round = 0; round < rounds; round++) {
        double begin = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_CHAR, peer, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == peer) {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
        times[round] = MPI_Wtime() - begin;
    }
    return median(times, rounds);
}

int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char *buffer = malloc(BYTES);
    if (!buffer)
        MPI_Abort(MPI_COMM_WORLD, 1);
    memset(buffer, 1, BYTES);

    for (int peer = 1; peer < size; peer++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double small = ping_pong(rank, peer, buffer, 8, ROUNDS);
        double large = ping_pong(rank, peer, buffer, BYTES, LARGE_ROUNDS);
        if (rank == 0) {
            printf("round trip to rank %d = %.3f ms\n", peer, small * 1e3);
            printf("bandwidth to rank %d = %.1f Mbit/s\n", peer, 2 * 8.0 * BYTES / large / 1e6);
        }
    }
    double times[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double value = rank, sum = 0;
        MPI_Barrier(MPI_COMM_WORLD);
        double begin = MPI_Wtime();
        MPI_Allreduce(&value, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        times[round] = MPI_Wtime() - begin;
        if (sum != size * (size - 1) / 2.0)
            MPI_Abort(MPI_COMM_WORLD, 1);
    }
    double middle = median(times, ROUNDS);
    if (rank == 0)
        printf("sum over %d ranks = %.3f ms\n", size, middle * 1e3);
    free(buffer);
    MPI_Finalize();
    return 0;
}
